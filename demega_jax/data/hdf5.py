"""HDF5 files: opening them, finding their bytes, and atomic writes on disks that can be full."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int

from demega_jax.data.elsewhere import check_elsewhere
from demega_jax.data.inside import check_inside
from demega_jax.data.unreadable import check_filters, why_unreadable
from demega_jax.errors import UserError
from demega_jax.files import locked, never_left_empty, open_part
from demega_jax.reading import open_plain

MOST_ATTRIBUTE_BYTES = 60_000  # HDF5 can hold 64 KiB, its own description included


def damaged(path: Path, came: str) -> UserError:
    """The error for a file that is not whole."""
    return UserError(path, came, "a whole file", "copy, download or make the file again")


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading. UserError: it is no HDF5 file, is truncated, is found damaged while it is read, or has
    data from outside its data folder."""
    try:
        # For a missing or forbidden file, the system's error is clearer than that of HDF5. It would wait for a FIFO.
        open_plain(path).close()
        with h5py.File(path, "r") as file:
            check_inside(path, file)
            yield file
    except (OSError, RuntimeError) as error:
        if "truncated" in str(error):
            raise damaged(path, "the file is truncated") from None
        if isinstance(error, FileNotFoundError):
            raise UserError(path, "no such file", "an HDF5 file", "correct the path") from None
        if why := why_unreadable(path, error):
            raise why from None
        reason = getattr(error, "strerror", None) or error
        raise damaged(path, f"not a readable HDF5 file ({reason})") from None


def find_dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset | None:
    """A dataset of a file; None: there is none of this name. UserError: its header is damaged."""
    try:
        found = file[name] if name in file else None
        if not isinstance(found, h5py.Dataset):
            return None
        _ = found.dtype  # which cannot be read where the type is damaged
        check_filters(path, found)
        return found
    except (KeyError, ValueError, TypeError) as error:  # h5py raises these for a header that cannot be read
        raise damaged(path, f"truncated or damaged: {error.args[0]}") from None


def flag(attributes: Mapping[str, object], name: str) -> bool:
    """Whether an attribute, or an array of an .npz file, says yes. Where it is absent, or no number, it does not."""
    value = np.asarray(attributes.get(name, False))
    return value.size == 1 and value.dtype.kind in "biuf" and bool(value.item())


def stored_chunks(data: h5py.Dataset) -> Int[np.ndarray, "n 3"]:
    """(first row, offset in the file, size in bytes) of each chunk that was written."""
    found: list[tuple[int, int, int]] = []
    # This walks over the index once; `get_chunk_info` does so for every chunk: 7 s for the 9,000 chunks of level 5.
    data.id.chunk_iter(lambda chunk: found.append((chunk.chunk_offset[0], chunk.byte_offset, chunk.size)))
    # In a damaged index they can be any 64 bits, also those that are no int64.
    return np.minimum(np.array(found, np.uint64).reshape(-1, 3), np.uint64(2**62)).astype(np.int64)


def check_storage(path: Path, data: h5py.Dataset) -> None:
    """UserError: a part of a dataset was never written, or lies beyond the end of the file.

    HDF5 reads zeros where nothing was written, and can sometimes open a file that was cut at its end. A dataset that is
    a link is checked in the file that it is part of.
    """
    path = Path(data.file.filename)
    size = path.stat().st_size
    name = (data.name or "").lstrip("/")
    if data.is_virtual or data.external:
        check_elsewhere(path, data, check_storage)
        return
    if data.chunks is None:
        offset = data.id.get_offset()  # None: nothing was written, or (compact) it is part of the header
        end = offset + data.size * data.dtype.itemsize if offset is not None else size
        if end > size:
            raise damaged(path, f"truncated, as the file ends within `{name}`")
        if data.id.get_storage_size() == 0:
            raise damaged(path, f"`{name}` was never written")
        return
    expected = int(np.prod([-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True)]))
    first, offset, length = stored_chunks(data).T
    if ((first % data.chunks[0] != 0) | (first >= len(data))).any():
        raise damaged(path, f"the index of the chunks of `{name}` is damaged")
    cut = first[offset + length > size]
    if len(cut):
        raise damaged(path, f"truncated, as the file ends before `{name}` from row {cut.min()} on")
    if len(first) < expected:
        blocks = -(-len(data) // data.chunks[0])
        written = np.bincount(first // data.chunks[0], minlength=blocks)
        row = int(np.argmax(written < expected // blocks)) * data.chunks[0]
        absent = f"{expected - len(first)} of {expected} chunks are missing"
        raise damaged(path, f"`{name}` from row {row} on was never written ({absent})")


def write_names(file: h5py.File, attribute: str, names: Sequence[str]) -> None:
    """Write names as an attribute of text of a fixed length.

    HDF5 keeps text of any length in a heap, and can search there for ever after one bit of the file has turned over. It
    is used only where the names are too long for an attribute.
    """
    encoded = [name.encode() for name in names]
    length = max([1, *map(len, encoded)])
    if length * len(encoded) > MOST_ATTRIBUTE_BYTES or any(name.endswith(b"\0") for name in encoded):
        file.attrs.create(attribute, list(names), dtype=h5py.string_dtype())
        return
    file.attrs.create(attribute, np.array(encoded, f"S{length}"), dtype=h5py.string_dtype("utf-8", length))


class Disk(io.FileIO):
    """A file for the HDF5 library to write to, which keeps the first error of the disk for later.

    HDF5 cannot close a file that it cannot write to, and prints tracebacks when it tries. So bytes that a full disk
    refuses are dropped, HDF5 closes the file without an error, and `check` raises the error of the disk.
    """

    error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Write all bytes, as HDF5 would not notice that fewer were written."""
        rest = memoryview(data).cast("B")
        try:
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file, unless the disk has refused something before."""
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return self.tell() if size is None else size

    def check(self) -> None:
        """OSError: the disk has refused something. Call it regularly while you write large files."""
        if self.error is not None:
            raise self.error


@contextmanager
def atomic_h5(path: Path) -> Iterator[tuple[h5py.File, Disk]]:
    """A new HDF5 file and the `Disk` below it. At the end it is renamed to `path`; after any failure it is removed.

    Folders are made as needed. UserError: the file cannot be written, as on a full disk, or another process writes it.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with never_left_empty(partial), Disk(open_part(partial), "r+") as disk, locked(partial, disk):
            try:
                disk.truncate(0)  # removes what a killed process has left
                with h5py.File(disk, "w") as file:
                    yield file, disk
                disk.check()
                partial.replace(path)
            except (OSError, RuntimeError):
                disk.check()  # HDF5 fails because of dropped bytes: the error of the disk is the cause
                raise
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        came, wanted = f"cannot be written ({error.strerror or error})", "a writable folder with enough space"
        raise UserError(path, came, wanted, "free some space, or choose another folder") from error
