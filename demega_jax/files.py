"""Files that are whole or not there, locks, the room on a disk, and sizes as people write and read them."""

import contextlib
import errno
import fcntl
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from demega_jax.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what a file system without locks answers


@contextlib.contextmanager
def atomic_write(path: Path, way_out: str = "free space, or choose another folder") -> Iterator[Path]:
    """A new, private file beside `path` to write into; at the end it takes that name, so a reader never sees half.

    On any failure it is removed. Folders are made as needed. UserError, with this way out: it cannot be written, as on
    a full disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(descriptor)
        aside = Path(name)
        try:
            aside.chmod(0o666 & ~_umask())
            yield aside
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        came = f"cannot be written ({error.strerror or error})"
        raise UserError(path, came, "a place that can be written to, with room for it", way_out) from error


def _umask() -> int:
    """The process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str, way_out: str = "free space, or choose another folder") -> None:
    """Write a small file atomically. UserError, with this way out: it cannot be written."""
    with atomic_write(path, way_out) as aside:
        aside.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def locked(path: Path, file: io.FileIO) -> Iterator[None]:
    """The lock of an open file that is to be renamed once it is whole. The lock ends with the process.

    UserError: another process holds it, or finished and renamed the file in the meantime.
    """
    other = UserError(path, "another process is writing it", "one writer", "wait until that is done, or choose another")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise other from None
        if error.errno not in NO_LOCKS:
            raise
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
        raise other
    yield


def free_space(path: Path) -> int:
    """Bytes free where a file or folder of this name would be, which need not exist."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free


def parse_bytes(text: str) -> int:
    """Bytes from `4G`, `512M`, `1.5GiB` or a plain number (binary units)."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no size; 4G, 512M or 1.5G fit")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def format_bytes(count: float) -> str:
    """`1.50 GiB`, `12.0 MiB`, `306.0 KiB` or `12 B`: a size in the binary units that `parse_bytes` reads."""
    for unit, power, digits in (("TiB", 40, 2), ("GiB", 30, 2), ("MiB", 20, 1), ("KiB", 10, 1)):
        if count >= 2**power:
            return f"{count / 2**power:.{digits}f} {unit}"
    return f"{count:.0f} B"


def cache_folder(name: str) -> Path:
    """Where something is remembered that can be made again: $XDG_CACHE_HOME/demega-jax/name, or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "demega-jax" / name
