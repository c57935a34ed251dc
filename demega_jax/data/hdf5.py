"""HDF5 files: opening, where their bytes lie, and atomic writes on disks that may be full."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int

from demega_jax.errors import UserError
from demega_jax.files import locked


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; `UserError` for what is none, is cut, or turns out to be damaged while it is read."""
    try:
        # What the system says of a missing or forbidden file is plainer than what HDF5 makes of it.
        with path.open("rb"):
            pass
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        cut = "truncated" in str(error)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        came = "the file is truncated" if cut else f"not a readable HDF5 file ({reason})"
        raise UserError(path, came, "a whole HDF5 file", "copy or download it again") from None


def stored_chunks(data: h5py.Dataset) -> Int[np.ndarray, "n 3"]:
    """(first row, offset in the file, size in bytes) of each chunk that was written."""
    found: list[tuple[int, int, int]] = []
    # One pass over the index. `get_chunk_info` begins anew for every chunk: 7 s for the 9,000 chunks of level 5.
    data.id.chunk_iter(lambda chunk: found.append((chunk.chunk_offset[0], chunk.byte_offset, chunk.size)))
    return np.array(found, np.int64).reshape(-1, 3)


def check_storage(path: Path, data: h5py.Dataset) -> None:
    """UserError unless all of a dataset was written and ends within the file.

    HDF5 reads zeros where nothing was written, and a file cut at its end can sometimes still be opened."""
    size = path.stat().st_size
    name = (data.name or "").lstrip("/")
    if data.is_virtual or data.external:
        return  # stored in other files; HDF5 finds out when they are read
    if data.chunks is None:
        offset = data.id.get_offset()  # None: nothing was written, or (compact) it is part of the header
        end = offset + data.size * data.dtype.itemsize if offset is not None else size
        if data.id.get_storage_size() == 0 or end > size:
            came = f"`{name}` was never written" if end <= size else f"truncated: the file ends within `{name}`"
            raise UserError(path, came, "a whole file", "copy or download it again")
        return
    expected = int(np.prod([-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True)]))
    first, offset, length = stored_chunks(data).T
    cut = first[offset + length > size]
    if len(cut):
        came = f"truncated: the file ends before `{name}` from row {cut.min()}"
        raise UserError(path, came, "a whole file", "copy or download it again")
    if len(first) < expected:
        per_row_block = expected // -(-len(data) // data.chunks[0])
        blocks = np.bincount(first // data.chunks[0], minlength=-(-len(data) // data.chunks[0]))
        row = int(np.argmax(blocks < per_row_block)) * data.chunks[0]
        came = f"`{name}` from row {row} was never written ({expected - len(first)} of {expected} chunks are missing)"
        raise UserError(path, came, "a whole file", "copy or download it again, or make it again")


class Disk(io.FileIO):
    """A file for the HDF5 library to write to, which holds back the first error of the disk.

    HDF5 cannot close a file it cannot write to, and prints tracebacks trying. So what a full disk refuses is dropped,
    HDF5 closes in peace, and `check` raises the error.
    """

    error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Write all of it: HDF5 would not notice that less was written."""
        rest = memoryview(data).cast("B")
        try:
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Set the length, unless the disk refused something before."""
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return self.tell() if size is None else size

    def check(self) -> None:
        """OSError if the disk refused anything up to now. To be called now and then by whoever writes much."""
        if self.error is not None:
            raise self.error


@contextmanager
def atomic_h5(path: Path) -> Iterator[tuple[h5py.File, Disk]]:
    """An empty HDF5 file and the `Disk` below it; at the end it is renamed to `path`, on any failure it is removed.

    Folders are made as needed. UserError: the file cannot be made or written, as on a full disk,
    or another process is writing it.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with Disk(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+") as disk, locked(partial, disk):
            disk.truncate(0)  # what a killed process left
            try:
                with h5py.File(disk, "w") as file:
                    yield file, disk
                disk.check()
                partial.replace(path)
            except (OSError, RuntimeError):
                disk.check()  # HDF5 stumbles over data that were dropped: the first error is the cause
                raise
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            path,
            f"cannot be written ({error.strerror or error})",
            "a folder that can be written to, with room for the file",
            "free space, ask for less, or choose another folder",
        ) from error
