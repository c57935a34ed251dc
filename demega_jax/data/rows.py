"""Readers of rows: from memory, by offset from disk, or through HDF5 where a file is compressed."""

import os
import threading
from typing import Protocol

import h5py
import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.grouped import GroupedSplit, open_file, stored_chunks
from demega_jax.errors import UserError, warn

LOAD_ROWS = 256
RUN_ROWS = 8  # rows of one read, at most: about the processor's cache, at 153 kB a row


class RowReader(Protocol):
    """Reads rows of a split in any order; safe to use from several threads."""

    def read(
        self, rows: Int[np.ndarray, " n"], out: Float[np.ndarray, "n C T"] | None = None
    ) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked, as float32, in `out` if given. `UserError` for a row that is not finite."""
        ...


def open_rows(split: GroupedSplit, memory: int) -> RowReader:
    """A reader: from memory if the split fits `memory` bytes in float32, else from disk."""
    reader, slow = disk_reader(split)
    if split.nbytes <= memory:
        return MemoryRows(split, reader)
    if slow:
        warn(f"{split.path}: {slow}, so rows are read through HDF5, which is slow; data.memory above {split.nbytes} "
             "bytes would hold the split")  # fmt: skip
    return reader


def disk_reader(split: GroupedSplit) -> "tuple[OffsetRows | Hdf5Rows, str]":
    """The fastest reader from disk, and why single rows of it are slow ("" if they are not)."""
    with open_file(split.path) as file:
        data = file["data"]
        slow = _why_slow(file, data)
        if slow:
            return Hdf5Rows(split), slow
        return OffsetRows(split, _offsets(data), data.dtype), ""


def _why_slow(file: h5py.File, data: h5py.Dataset) -> str:
    """Why a row is not one run of bytes at a known place; "" if it is."""
    if data.id.get_create_plist().get_nfilters():
        return f"compressed or filtered ({data.compression or 'no compression'})"
    if data.chunks is not None and data.chunks[1:] != data.shape[1:]:
        return f"a row is scattered over chunks of {data.chunks}"
    if data.chunks is None and data.id.get_offset() is None:
        return "stored in other files or in the header"
    # Older versions of HDF5 count a chunk's offset from the end of the user block.
    return "the file has a user block" if file.userblock_size else ""


def _offsets(data: h5py.Dataset) -> Int[np.ndarray, " N"]:
    """Where each row begins in the file."""
    row_bytes = int(np.prod(data.shape[1:])) * data.dtype.itemsize
    rows = np.arange(len(data))
    if data.chunks is None:
        return data.id.get_offset() + rows * row_bytes
    size = data.chunks[0]
    first, offset, _ = stored_chunks(data).T
    starts = np.zeros(-(-len(data) // size), np.int64)
    starts[first // size] = offset
    return starts[rows // size] + rows % size * row_bytes


def check_finite(split: GroupedSplit, rows: Int[np.ndarray, " n"], x: Float[np.ndarray, "n C T"]) -> None:
    """Raise `UserError` naming the first row with a value that is not finite."""
    finite = np.isfinite(x)
    if finite.all():
        return
    row, sensor, time_point = np.argwhere(~finite)[0].tolist()
    raise UserError(
        split.path, f"row {rows[row]} has {x[row, sensor, time_point]} at sensor {sensor}, time point {time_point}",
        "finite numbers in the range of float32", "leave the row out, or make the file again",
    )  # fmt: skip


def _output(
    split: GroupedSplit, rows: Int[np.ndarray, " n"], out: Float[np.ndarray, "n C T"] | None
) -> Float[np.ndarray, "n C T"]:
    return np.empty((len(rows), split.sensors, split.time_points), np.float32) if out is None else out


class OffsetRows:
    """Rows read by their offset in the file, past HDF5 and its chunk cache: runs of rows in one read."""

    def __init__(self, split: GroupedSplit, offsets: Int[np.ndarray, " N"], dtype: np.dtype):
        self.split, self.offsets, self.dtype = split, offsets, dtype
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def _file(self) -> int:
        with self._lock:
            if self._descriptor is None:
                try:
                    self._descriptor = os.open(self.split.path, os.O_RDONLY)
                except OSError as error:
                    raise UserError(self.split.path, str(error.strerror), "the file that was there before",
                                    "copy or download it again") from None  # fmt: skip
            return self._descriptor

    def read(
        self, rows: Int[np.ndarray, " n"], out: Float[np.ndarray, "n C T"] | None = None
    ) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked, as float32."""
        out = _output(self.split, rows, out)
        direct = self.dtype == np.float32  # by value: not for another byte order
        descriptor, row_bytes = self._file(), out[:1].size * self.dtype.itemsize
        at = self.offsets[rows]
        runs = np.flatnonzero(np.diff(at, prepend=-2 * row_bytes) != row_bytes).tolist()
        for start, stop in zip(runs, [*runs[1:], len(rows)], strict=False):
            for first in range(start, stop, RUN_ROWS):
                some = slice(first, min(first + RUN_ROWS, stop))
                stored = out[some] if direct else np.empty(out[some].shape, self.dtype)
                self._fill(descriptor, stored, int(at[first]), int(rows[first]))
                if not direct:
                    with np.errstate(over="ignore"):  # becomes an infinity, which the check finds
                        out[some] = stored
                check_finite(self.split, rows[some], out[some])  # here, while the rows are in the processor's cache
        return out

    def _fill(self, descriptor: int, out: np.ndarray, offset: int, row: int) -> None:
        view = memoryview(out.data).cast("B")
        while len(view):
            try:
                count = os.preadv(descriptor, [view], offset)
            except OSError as error:
                raise UserError(self.split.path, f"row {row} cannot be read ({error.strerror})", "a whole file",
                                "check the disk, or copy the file again") from None  # fmt: skip
            if count == 0:
                raise UserError(self.split.path, f"truncated: the file ends before the end of row {row}",
                                "a whole file", "copy or download it again")  # fmt: skip
            view, offset = view[count:], offset + count

    _close = staticmethod(os.close)  # kept: when the interpreter ends, `os` can be gone before the last reader

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor is not None:
                self._close(self._descriptor)
                self._descriptor = None

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_descriptor", "_lock")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _descriptor=None, _lock=threading.Lock())


class Hdf5Rows:
    """Rows of a compressed or oddly chunked file, each chunk read once a call."""

    def __init__(self, split: GroupedSplit):
        self.split = split

    def read(
        self, rows: Int[np.ndarray, " n"], out: Float[np.ndarray, "n C T"] | None = None
    ) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked, as float32."""
        out = _output(self.split, rows, out)
        with open_file(self.split.path) as file:
            data = file["data"]
            size = min(data.chunks[0], LOAD_ROWS) if data.chunks else LOAD_ROWS  # bounds the memory of a long chunk
            for block in np.unique(rows // size):
                inside = np.flatnonzero(rows // size == block)
                first, last = int(rows[inside].min()), int(rows[inside].max())
                with np.errstate(over="ignore"):  # becomes an infinity, which the check finds
                    out[inside] = data[first : last + 1][rows[inside] - first]
        check_finite(self.split, rows, out)
        return out


class MemoryRows:
    """A split held in memory as float32, loaded and checked once."""

    def __init__(self, split: GroupedSplit, reader: "OffsetRows | Hdf5Rows"):
        self.split = split
        self.x = np.empty((split.rows, split.sensors, split.time_points), np.float32)
        for first in range(0, split.rows, LOAD_ROWS):
            rows = np.arange(first, min(first + LOAD_ROWS, split.rows))
            reader.read(rows, self.x[first : first + LOAD_ROWS])

    def read(
        self, rows: Int[np.ndarray, " n"], out: Float[np.ndarray, "n C T"] | None = None
    ) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked."""
        # The mode only avoids a second copy: numbers are in range.
        return np.take(self.x, rows, axis=0, out=_output(self.split, rows, out), mode="clip")
