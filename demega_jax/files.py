"""Atomic writes, locks, the free space of a disk, and sizes such as 4G."""

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from demega_jax.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # the errors of a file system without locks


@contextlib.contextmanager
def atomic_write(path: Path, way_out: str = "free space, or choose another folder") -> Iterator[Path]:
    """A new file beside `path` to write to. At the end it is renamed, so that nobody ever reads half of a file.

    On a failure it is removed. Folders are made as needed. UserError, with this way out: it cannot be written.
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
        raise UserError(path, came, "a place that can be written to, with enough space", way_out) from error


def _umask() -> int:
    """The permission mask of the process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def visible(folder: Path, pattern: str | None = None) -> Iterator[Path]:
    """The files and folders in a folder, or those below it that match a pattern, without all hidden ones.

    A name that begins with a dot is hidden: operating systems leave such files (`.DS_Store`, `._train_grouped.h5`).
    """
    for path in folder.iterdir() if pattern is None else folder.glob(pattern):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def check_new_folder(path: Path, way_out: str) -> None:
    """UserError, with this way out: something is there already, other than a folder without visible files."""
    if path.exists() and not (path.is_dir() and not any(visible(path))):
        came = "the folder exists and is not empty" if path.is_dir() else "it is a file"
        raise UserError(path, came, "a new folder", way_out)


def write_text(path: Path, text: str, way_out: str = "free space, or choose another folder") -> None:
    """Write a text file by an atomic write. UserError, with this way out: it cannot be written."""
    with atomic_write(path, way_out) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write the results of a command as JSON by an atomic write. UserError: they cannot be written."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n", "choose another --json")


@contextlib.contextmanager
def locked(path: Path, file: io.FileIO) -> Iterator[None]:
    """Lock an open file that is renamed when it is complete. The lock ends with the process.

    UserError: another process holds the lock, or has completed and renamed the file in the meantime.
    """
    way_out = "wait until that process has ended, or choose another folder"
    other = UserError(path, "another process is writing it", "only one process that writes it", way_out)
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
    """Free bytes on the disk of a file or folder, which need not exist yet."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free


def parse_bytes(text: str) -> int:
    """Bytes from `4G`, `512M`, `1.5GiB` or a plain number, in binary units. ValueError: it is not a size."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is not a size such as 4G, 512M or 1.5G")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def format_bytes(count: float) -> str:
    """A size in binary units, such as `1.50 GiB`, `12.0 MiB`, `306.0 KiB` or `12 B`."""
    for unit, power, digits in (("TiB", 40, 2), ("GiB", 30, 2), ("MiB", 20, 1), ("KiB", 10, 1)):
        if count >= 2**power:
            return f"{count / 2**power:.{digits}f} {unit}"
    return f"{count:.0f} B"


def cache_folder(name: str) -> Path:
    """The folder of a cache: $XDG_CACHE_HOME/demega-jax/name, or ~/.cache/demega-jax/name."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "demega-jax" / name
