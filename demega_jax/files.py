"""Atomic writes, locks, the free space of a disk, and sizes such as 4G."""

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from demega_jax.errors import UserError, shortened, warn

MAX_BYTES = 2**50  # 1024 TiB
SEAL = "seal"  # the key of the fingerprints of all other keys
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # the errors of a file system without locks


@contextlib.contextmanager
def atomic_write(path: Path, way_out: str = "free space, or choose another folder") -> Iterator[Path]:
    """A new file beside `path` to write to. At the end it is renamed, so that nobody ever reads half of a file.

    It is private, and nobody can know its name before. A link in the place of `path` is replaced, never followed. On a
    failure the new file is removed. Folders are made as needed. UserError, with this way out: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=aside_prefix(path), suffix=".tmp", dir=path.parent)
        os.close(descriptor)
        aside = Path(name)
        try:
            yield aside
            aside.chmod(0o666 & ~_umask())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise _not_written(path, error, way_out) from error


def aside_prefix(path: Path) -> str:
    """What the name of a file or folder begins with that is written aside; short, as `path` can have a long name."""
    return f".{os.fsencode(path.name)[:50].decode(errors='ignore')}."


def _not_written(path: Path, error: OSError, way_out: str) -> UserError:
    came = f"cannot be written ({error.strerror or error})"
    return UserError(path, came, "a place that can be written to, with enough space", way_out)


@contextlib.contextmanager
def output(path: Path, way_out: str) -> Iterator[Path]:
    """`atomic_write` for a file that the user names: what it names may be a link, and then its target is written.

    A device, a FIFO and what this process has as stdout or stderr are written through, once all is ready: they are
    never replaced. UserError, with this way out: it cannot be written.
    """
    if not is_written_through(path):
        with atomic_write(Path(os.path.realpath(path)), way_out) as aside:
            yield aside
        return
    with tempfile.TemporaryDirectory(prefix="demega-jax-") as folder:
        aside = Path(folder) / "output"
        yield aside
        try:
            with _opened_through(path) as to, aside.open("rb") as ready:
                shutil.copyfileobj(ready, to)
        except BrokenPipeError:
            raise  # nobody reads any more
        except OSError as error:
            raise _not_written(path, error, way_out) from error


def is_written_through(path: Path) -> bool:
    """Whether a path names a device, a FIFO, or the file that is stdout or stderr of this process (/dev/stdout)."""
    try:
        found = path.stat()
    except OSError:
        return False  # nothing is there, or it cannot be reached, as the writer will say
    return _stream_of(found) is not None if stat.S_ISREG(found.st_mode) else not stat.S_ISDIR(found.st_mode)


def _stream_of(found: os.stat_result) -> int | None:
    """The descriptor of stdout or stderr, if it is this file."""
    for number in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            if os.path.samestat(found, os.fstat(number)):
                return number
    return None


def _opened_through(path: Path) -> BinaryIO:
    number = _stream_of(path.stat())
    if number is None:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), "wb")
    sys.stdout.flush()
    return os.fdopen(os.dup(number), "wb")


def open_part(path: Path, flags: int = 0) -> int:
    """The descriptor of a file that is written little by little under a known name; it is made as needed.

    flags: of the system's `open`, beside those to read and write.

    OSError: a link is there, also a hard link, or something else whose bytes are not this file's alone.
    """
    try:
        descriptor = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise OSError(errno.ELOOP, f"{path.name} is a link; remove it", str(path)) from None
        raise
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    what = "a hard link" if stat.S_ISREG(found.st_mode) else kind_of(found.st_mode)
    raise OSError(errno.EINVAL, f"{path.name} is {what}; remove it", str(path))


@contextlib.contextmanager
def never_left_empty(path: Path) -> Iterator[None]:
    """After this block no empty file is left at the path of a file that is written little by little.

    A signal can come between making that file and locking it, and where it is written a failure can come before its
    first byte. A file that another process has locked stays.
    """
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # nothing is there, it is no file, or another process writes it
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = os.fstat(descriptor)
                only = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and os.path.samestat(found, path.lstat())
                if only and found.st_size == 0:
                    path.unlink()
            finally:
                os.close(descriptor)


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


def kind_of(mode: int) -> str:
    """What a file of this mode is, in words."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}
    return kinds.get(stat.S_IFMT(mode), "a file" if stat.S_ISREG(mode) else "a device")


def write_text(path: Path, text: str, way_out: str = "free space, or choose another folder") -> None:
    """Write a text file by an atomic write. UserError, with this way out: it cannot be written."""
    with atomic_write(path, way_out) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")  # a path may hold what is no text


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a file of ours as JSON by an atomic write. UserError: it cannot be written."""
    write_text(path, json_text(content))


def write_results(path: Path, content: Mapping[str, object]) -> None:
    """Write the results of a command to the file of --json, as `output` does. UserError: they cannot be written."""
    with output(path, "choose another --json") as aside:
        aside.write_text(json_text(content), encoding="utf-8")


def json_text(content: Mapping[str, object]) -> str:
    """A mapping as JSON on several lines. ValueError: a number is not finite, which JSON does not have."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def fingerprint(value: object) -> str:
    """CRC-32 of a value that JSON can hold, however its keys are ordered and its text is laid out."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def sealed(content: Mapping[str, object]) -> dict[str, object]:
    """What JSON can hold, as it is read back, with a fingerprint of each of its keys."""
    plain = json.loads(json.dumps(content))
    return plain | {SEAL: {key: fingerprint(value) for key, value in plain.items()}}


def check_sealed(content: object) -> None:
    """ValueError: no mapping, or a key is missing or not what was sealed.

    What has no seal is of an earlier version, and passes.
    """
    if not isinstance(content, Mapping):
        raise ValueError("it is no mapping")
    if SEAL not in content:
        return
    seal = content[SEAL]
    if not isinstance(seal, dict):
        raise ValueError(f"{SEAL} is no mapping")
    found = {key: fingerprint(value) for key, value in content.items() if key != SEAL}
    for key in sorted(seal.keys() | found.keys()):
        if key not in found:
            raise ValueError(f"there is no {key}")
        if found[key] != seal.get(key):
            raise ValueError(f"{key} is not what was written")


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


@contextlib.contextmanager
def held(path: Path, other: UserError) -> Iterator[bool]:
    """Hold the lock of an empty file, which is made as needed and stays. The lock ends with the process.

    Gives whether it is held: a file system without locks is named in a warning. UserError: `other`, where another
    process holds it; and where the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        came = f"cannot be written ({error.strerror})"
        raise UserError(other.where, came, "a folder that can be written", "choose another folder") from None
    with file:
        yield _hold(path, file.fileno(), other)


def _hold(path: Path, descriptor: int, other: UserError) -> bool:
    for _ in range(10):  # `is_held` holds it too, for an instant
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in NO_LOCKS:
                warn(f"{path.parent} is on a file system without locks: see to it that no second process writes there")
                return False
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        time.sleep(0.05)
    raise other


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file. False also where there is no such file, or a system without locks."""
    try:
        file = path.open("rb")
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    return False


def free_space(path: Path) -> int:
    """Free bytes on the disk of a file or folder, which need not exist yet."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free


def parse_bytes(text: str) -> int:
    """Bytes from `4G`, `512M`, `1.5GiB` or a plain number, in binary units. ValueError: not a size, or too large."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{shortened(repr(text))} is not a size such as 4G, 512M or 1.5G")
    count = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")
    if count > MAX_BYTES:
        raise ValueError(f"{shortened(text)} is more than {format_bytes(MAX_BYTES)}")
    return int(count)


def format_bytes(count: float) -> str:
    """A size in binary units, such as `1.50 GiB`, `12.0 MiB`, `306.0 KiB` or `12 B`."""
    for unit, power, digits in (("TiB", 40, 2), ("GiB", 30, 2), ("MiB", 20, 1), ("KiB", 10, 1)):
        if count >= 2**power:
            return f"{count / 2**power:.{digits}f} {unit}"
    return f"{count:.0f} B"


def expanded(path: str) -> str:
    """A path with the home folder of `~/x` or `~anna/x` in its place; as it is where the system knows no such home."""
    found = os.path.expanduser(path)
    return found if os.path.isabs(found) else path


def cache_folder(name: str) -> Path | None:
    """The folder of a cache: $XDG_CACHE_HOME/demega-jax/name, or ~/.cache/demega-jax/name.

    None: there is no home, as in a container without HOME. A path that is not absolute counts as none, so that a cache
    never comes to lie in the working folder.
    """
    for base in (expanded(os.environ.get("XDG_CACHE_HOME", "")), expanded(os.path.join("~", ".cache"))):
        if os.path.isabs(base):
            return Path(base) / "demega-jax" / name
    return None
