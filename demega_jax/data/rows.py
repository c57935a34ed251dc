"""Readers of rows: from memory, by offset from files, or through HDF5 if a file is compressed."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.checksums import Checks
from demega_jax.data.elsewhere import is_elsewhere, is_linked
from demega_jax.data.hdf5 import damaged, open_file, stored_chunks
from demega_jax.data.split import RowNumbers, RowReader, Rows, Split
from demega_jax.data.unreadable import why_unreadable
from demega_jax.errors import UserError, warn

LOAD_ROWS = 256
READ_BYTES = 5 * 2**18  # of one read, at most: 8 rows of 153 kB, which fit into the processor's cache
Files = Sequence[tuple[Path, int]]  # (path, its first row in the split)
HALF_EXPONENT = 0x7C00  # the bits of a float16 that are all set if it is not finite


def open_rows(split: Split, memory: int) -> RowReader:
    """A reader of a split. If the split fits into `memory` bytes, it is loaded and read from memory."""
    reader = split.reader()
    if split.nbytes <= memory and not split.in_memory:
        return MemoryRows.load(split, reader)
    if split.slow_reason:
        way_out = f"set data.memory above {split.nbytes} bytes to load the split into memory"
        warn(f"{split.path}: {split.slow_reason}, so rows are read through HDF5, which is slow; {way_out}")
    return reader


def why_slow(file: h5py.File, data: h5py.Dataset) -> str:
    """Why a row is not at a known place of the file in one piece; empty if it is.

    file: in which `data` was found by its name.
    """
    if is_linked(file, data):
        return f"a link into {data.file.filename}"
    if is_elsewhere(file, data):
        return "stored in other files"
    if data.id.get_type() != h5py.h5t.py_create(data.dtype):
        return "of a type that numpy lacks"  # so that HDF5 converts it, as from bfloat16
    if data.id.get_create_plist().get_nfilters():
        return f"compressed or filtered ({data.compression or 'no compression'})"
    if data.chunks is not None and data.chunks[1:] != data.shape[1:]:
        return f"a row is scattered over chunks of {data.chunks}"
    if data.chunks is None and data.id.get_offset() is None:
        return "stored in the header"
    # Older versions of HDF5 count a chunk's offset from the end of the user block.
    return "the file has a user block" if file.userblock_size else ""


def row_offsets(data: h5py.Dataset) -> Int[np.ndarray, " N"]:
    """The byte of the file at which each row begins."""
    row_bytes = int(np.prod(data.shape[1:])) * data.dtype.itemsize
    rows = np.arange(len(data))
    if data.chunks is None:
        return data.id.get_offset() + rows * row_bytes
    size = data.chunks[0]
    first, offset, _ = stored_chunks(data).T
    starts = np.zeros(-(-len(data) // size), np.int64)
    starts[first // size] = offset
    return starts[rows // size] + rows % size * row_bytes


def check_finite(path: Path, rows: RowNumbers, x: Rows) -> None:
    """UserError: a value is not finite; the error names the first row that has one."""
    if x.dtype == np.float16:  # numpy is slow with float16, and fast with integers
        sound = not x.size or (x.view(np.uint16) & HALF_EXPONENT).max() < HALF_EXPONENT
    else:
        sound = np.isfinite(x).all()
    if sound:
        return
    row, sensor, time_point = np.argwhere(~np.isfinite(x))[0].tolist()
    came = f"row {rows[row]} has {x[row, sensor, time_point]} at sensor {sensor}, time point {time_point}"
    way_out = "remove the row from the file, or make the file again"
    raise UserError(path, came, "finite numbers in the range of float32", way_out)


def _output(split: Split, rows: RowNumbers, out: Rows | None) -> Rows:
    return np.empty((len(rows), split.sensors, split.time_points), split.dtype) if out is None else out


class OffsetRows:
    """Rows read by their offset in the file, without HDF5. Rows that follow each other are read together."""

    def __init__(
        self,
        split: Split,
        offsets: Int[np.ndarray, " N"],
        dtype: np.dtype,
        files: Files,
        checks: Checks | None = None,
    ):
        """offsets: of each row in its file.  dtype: of the rows in the files.  files: (path, first row), ascending.

        checks: the checksums of the rows, of a split in one file; None: it has none, or they were compared before.
        """
        self.split, self.offsets, self.dtype, self.files, self.checks = split, offsets, dtype, files, checks
        self._firsts = np.array([first for _, first in files])
        self._descriptors: dict[int, int] = {}
        self._lock = threading.Lock()

    def _file(self, number: int) -> int:
        with self._lock:
            if number not in self._descriptors:
                path, _ = self.files[number]
                try:
                    self._descriptors[number] = os.open(path, os.O_RDONLY)
                except OSError as error:
                    why = why_unreadable(path, error)
                    raise why or damaged(path, f"it cannot be opened ({error.strerror})") from None
            return self._descriptors[number]

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for, in the type of `out`."""
        out = _output(self.split, rows, out)
        direct = self.dtype == out.dtype  # not equal if the byte order differs
        row_bytes = self.split.sensors * self.split.time_points * self.dtype.itemsize
        most = max(1, READ_BYTES // row_bytes)
        at, number = self.offsets[rows], np.searchsorted(self._firsts, rows, side="right") - 1
        apart = np.diff(at, prepend=-2 * row_bytes) != row_bytes
        runs = np.flatnonzero(apart | (np.diff(number, prepend=-1) != 0)).tolist()
        for start, stop in zip(runs, [*runs[1:], len(rows)], strict=False):
            path, before = self.files[number[start]]
            for first in range(start, stop, most):
                some = slice(first, min(first + most, stop))
                stored = out[some] if direct else np.empty(out[some].shape, self.dtype)
                self._fill(int(number[start]), stored, int(at[first]), int(rows[first]))
                if not direct:
                    with np.errstate(over="ignore"):  # gives an infinity, which the check finds
                        out[some] = stored
                check_finite(path, rows[some] - before, out[some])  # while they are in the processor's cache
                if self.checks is not None:
                    self.checks.compare(rows[some], stored)
        return out

    def _fill(self, number: int, out: np.ndarray, offset: int, row: int) -> None:
        descriptor, (path, before) = self._file(number), self.files[number]
        view = memoryview(out.data).cast("B")
        while len(view):
            try:
                count = os.preadv(descriptor, [view], offset)
            except OSError as error:
                came = f"row {row - before} cannot be read ({error.strerror})"
                raise UserError(path, came, "a whole file", "check the disk, or copy the file again") from None
            if count == 0:
                raise damaged(path, f"truncated, as the file ends before the end of row {row - before}")
            view, offset = view[count:], offset + count

    _close = staticmethod(os.close)  # kept here, as `os` can be gone when the interpreter ends

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            while self._descriptors:
                self._close(self._descriptors.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return OffsetRows, (
            self.split,
            self.offsets,
            self.dtype,
            self.files,
            self.checks,
        )  # a copy opens the files itself


class Hdf5Rows:
    """Rows of a file that is compressed or whose chunks divide rows. A call reads each chunk once."""

    def __init__(self, split: Split, checks: Checks | None = None):
        """checks: the checksums of the rows; None: there are none."""
        self.split, self.checks = split, checks

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for, in the type of `out`."""
        out = _output(self.split, rows, out)
        with open_file(self.split.path) as file:
            data = file["data"]
            size = min(data.chunks[0], LOAD_ROWS) if data.chunks else LOAD_ROWS  # limits the memory of long chunks
            for block in np.unique(rows // size):
                inside = np.flatnonzero(rows // size == block)
                first, last = int(rows[inside].min()), int(rows[inside].max())
                with np.errstate(over="ignore"):  # becomes an infinity, which the check finds
                    out[inside] = stored = data[first : last + 1][rows[inside] - first]
                if self.checks is not None:
                    self.checks.compare(rows[inside], stored)
        check_finite(self.split.path, rows, out)
        return out


class CombinedRows:
    """Rows of several splits with one numbering."""

    def __init__(self, split: Split, parts: Sequence[Split]):
        self.split = split
        self.readers = [part.reader() for part in parts]
        self.ends = np.cumsum([part.rows for part in parts])
        self.starts = self.ends - [part.rows for part in parts]

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for."""
        out = _output(self.split, rows, out)
        of = np.searchsorted(self.ends, rows, side="right")
        for part in np.unique(of):
            inside = np.flatnonzero(of == part)
            out[inside] = self.readers[part].read(rows[inside] - self.starts[part])
        return out


class MemoryRows:
    """A split held in memory."""

    def __init__(self, split: Split, x: Float[np.ndarray, "N C T"]):
        self.split, self.x = split, x

    @classmethod
    def load(cls, split: Split, reader: RowReader) -> "MemoryRows":
        """All rows of a split from another reader, checked once."""
        x = np.empty((split.rows, split.sensors, split.time_points), split.dtype)
        for first in range(0, split.rows, LOAD_ROWS):
            rows = np.arange(first, min(first + LOAD_ROWS, split.rows))
            reader.read(rows, x[first : first + LOAD_ROWS])
        return cls(split, x)

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for."""
        out = _output(self.split, rows, out)
        if out.dtype != self.x.dtype:
            out[:] = self.x[rows]
            return out
        # All numbers are in range; this mode avoids a second copy.
        return np.take(self.x, rows, axis=0, out=out, mode="clip")
