"""Readers of rows: from memory, by offset from disk, or through HDF5 where a file is compressed."""

import os
import threading
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.grouped import GroupedSplit, open_file
from demega_jax.errors import UserError, warn

LOAD_ROWS = 256


class RowReader(Protocol):
    """Reads rows of a split in any order; safe to use from several threads."""

    def read(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked, as float32. Raises `UserError` for a row that is not finite."""
        ...


def open_rows(split: GroupedSplit, memory: int) -> RowReader:
    """A reader: from memory if the split fits `memory` bytes in float32, else from disk."""
    reader = _disk_reader(split)
    return MemoryRows(split, reader) if split.nbytes <= memory else reader


def _disk_reader(split: GroupedSplit) -> "OffsetRows | Hdf5Rows":
    with open_file(split.path) as file:
        data = file["data"]
        plain = data.id.get_create_plist().get_nfilters() == 0
        offsets = _offsets(data) if plain else None
        dtype = data.dtype
    if offsets is not None:
        return OffsetRows(split, offsets, dtype)
    warn(f"{split.path}: compressed or oddly chunked, so rows are read through HDF5, which is slow")
    return Hdf5Rows(split)


def _offsets(data: h5py.Dataset) -> Int[np.ndarray, " N"] | None:
    """Where each row begins in the file; None where a row is not one run of bytes."""
    row_bytes = int(np.prod(data.shape[1:])) * data.dtype.itemsize
    rows = np.arange(len(data))
    if data.chunks is None:
        start = data.id.get_offset()
        return None if start is None else start + rows * row_bytes
    if data.chunks[1:] != data.shape[1:]:
        return None
    size = data.chunks[0]
    starts = np.zeros(-(-len(data) // size), np.int64)
    for i in range(data.id.get_num_chunks()):
        chunk = data.id.get_chunk_info(i)
        starts[chunk.chunk_offset[0] // size] = chunk.byte_offset
    return starts[rows // size] + rows % size * row_bytes


def check_finite(split: GroupedSplit, rows: Int[np.ndarray, " n"], x: Float[np.ndarray, "n C T"]) -> None:
    """Raise `UserError` naming the first row with a value that is not finite."""
    flat = x.reshape(len(x), -1)
    # The sum of a row that has a NaN or an infinity is not finite; one that overflows without is looked at exactly.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = np.flatnonzero(~np.isfinite(flat.sum(axis=1)))
    for i in suspicious:
        bad = np.flatnonzero(~np.isfinite(flat[i]))
        if len(bad):
            sensor, time_point = divmod(int(bad[0]), x.shape[2])
            raise UserError(
                split.path, f"row {rows[i]} has {flat[i, bad[0]]} at sensor {sensor}, time point {time_point}",
                "finite numbers", "leave the row out, or make the file again",
            )  # fmt: skip


class OffsetRows:
    """Rows read by their offset in the file, past HDF5 and its chunk cache: runs of rows in one read."""

    def __init__(self, split: GroupedSplit, offsets: Int[np.ndarray, " N"], dtype: np.dtype):
        self.split, self.offsets, self.dtype = split, offsets, dtype
        self.row_shape = (split.sensors, split.time_points)
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def _file(self) -> int:
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.open(self.split.path, os.O_RDONLY)
            return self._descriptor

    def read(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked, as float32."""
        stored = np.empty((len(rows), *self.row_shape), self.dtype)
        if len(rows):
            at = self.offsets[rows]
            row_bytes = stored[0].nbytes
            starts = np.flatnonzero(np.diff(at, prepend=at[0] - 2 * row_bytes) != row_bytes)
            descriptor = self._file()
            for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
                self._fill(descriptor, stored[start:end], int(at[start]), int(rows[start]))
        x = stored if stored.dtype == np.float32 else stored.astype(np.float32)
        check_finite(self.split, rows, x)
        return x

    def _fill(self, descriptor: int, out: np.ndarray, offset: int, row: int) -> None:
        view = memoryview(out).cast("B")
        while len(view):
            count = os.preadv(descriptor, [view], offset)
            if count == 0:
                raise UserError(self.split.path, f"the file ends before row {row}", "a whole file", "copy it again")
            view, offset = view[count:], offset + count

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_descriptor", "_lock")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _descriptor=None, _lock=threading.Lock())


class Hdf5Rows:
    """Rows of a compressed or oddly chunked file, a chunk at a time, each chunk once a call."""

    def __init__(self, split: GroupedSplit):
        self.split = split

    def read(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked, as float32."""
        out = np.empty((len(rows), self.split.sensors, self.split.time_points), np.float32)
        with open_file(self.split.path) as file:
            data = file["data"]
            size = data.chunks[0] if data.chunks else LOAD_ROWS
            for chunk in np.unique(rows // size):
                inside = np.flatnonzero(rows // size == chunk)
                first, last = rows[inside].min(), rows[inside].max()
                out[inside] = _read_slice(self.split.path, data, int(first), int(last) + 1)[rows[inside] - first]
        check_finite(self.split, rows, out)
        return out


def _read_slice(path: Path, data: h5py.Dataset, first: int, end: int) -> np.ndarray:
    try:
        return data[first:end]
    except OSError as error:
        raise UserError(path, f"row {first} cannot be read ({error})", "a whole file", "download it again") from None


class MemoryRows:
    """A split held in memory as float32, loaded and checked once."""

    def __init__(self, split: GroupedSplit, reader: "OffsetRows | Hdf5Rows"):
        self.x = np.empty((split.rows, split.sensors, split.time_points), np.float32)
        for first in range(0, split.rows, LOAD_ROWS):
            rows = np.arange(first, min(first + LOAD_ROWS, split.rows))
            self.x[rows[0] : rows[-1] + 1] = reader.read(rows)

    def read(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked."""
        return np.take(self.x, rows, axis=0)
