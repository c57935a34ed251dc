"""New HDF5 files that bear their name only once they are whole, on disks that may be full."""

import errno
import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from demega_jax.errors import UserError


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


def _claimed(partial: Path) -> Disk:
    """An empty file, the writer's own until it is closed. UserError: another process writes it."""
    disk = Disk(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    try:
        try:
            fcntl.flock(disk, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
                raise
        if not partial.exists() or partial.stat().st_ino != os.fstat(disk.fileno()).st_ino:
            raise BlockingIOError  # whole by now, and renamed
    except BlockingIOError:
        disk.close()
        raise UserError(
            partial, "another process is writing it", "one writer", "wait until that is done, or choose another folder"
        ) from None
    disk.truncate(0)  # what a killed process left
    return disk


@contextmanager
def h5_written_aside(path: Path) -> Iterator[tuple[h5py.File, Disk]]:
    """An empty HDF5 file and the `Disk` below it; at the end it is renamed to `path`, on any failure it is removed.

    Folders are made as needed. UserError: the file cannot be made or written, as on a full disk,
    or another process is writing it.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(partial) as disk:
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
