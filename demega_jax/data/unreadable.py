"""Why a file that is whole cannot be read: no permission, a lock, a writer's mark, a missing filter, a failing disk.

To copy or download such a file again would not help, so each has an error of its own.
"""

import errno
from pathlib import Path

import h5py

from demega_jax.errors import UserError

# What the HDF5 library says, where the system has no number for it.
LOCKED, MARKED = "unable to lock file", "already open for"
FILTERED = ("required filter", "is not registered", "can't open directory")
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def why_unreadable(path: Path, error: Exception) -> UserError | None:
    """The error for a file that something else than its bytes makes unreadable; None: its bytes may be at fault."""
    text, number = str(error), getattr(error, "errno", None)
    if LOCKED in text:
        return _locked(path, number)
    if MARKED in text:
        came = "it is marked as open for writing: a program still writes it, or was ended before it closed the file"
        way_out = "wait until that program has ended; if none is left, remove the mark with `h5clear --status FILE`"
        return UserError(path, came, "a file that was closed", f"{way_out}, then run `demega-jax inspect` on it")
    if any(word in text for word in FILTERED):
        return _no_filter(path, "a filter of HDF5 that is not installed here")
    if number in (errno.EACCES, errno.EPERM):
        way_out = "ask its owner for that, or change its permissions (`chmod`)"
        return UserError(path, "no permission to read it", "a file that this account may read", way_out)
    if number in (errno.EMFILE, errno.ENFILE):
        return UserError(path, "too many files are open", "room for one more", "raise the limit with `ulimit -n 4096`")
    if number in (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO):
        came, wanted = f"the disk or network drive fails ({error})", "a disk that gives its bytes"
        return UserError(path, came, wanted, "check that disk or drive, then run the same command again")
    return None


def _locked(path: Path, number: int | None) -> UserError:
    if number in NO_LOCKS:
        came, wanted = "its file system has no locks", "locks, or HDF5 without them"
        return UserError(path, came, wanted, "set the environment variable HDF5_USE_FILE_LOCKING=FALSE")
    came = "another process has it open for writing, and holds its lock"
    return UserError(path, came, "a file that nobody writes", "wait until that process has ended, or end it")


def _no_filter(path: Path, came: str) -> UserError:
    way_out = (
        "install it, as by `pip install hdf5plugin`, and set HDF5_PLUGIN_PATH to its folder of plugins; or rewrite the "
        "file where it can be read, with `h5repack -f GZIP=1`"
    )
    return UserError(path, came, "data that are stored with filters that are here", way_out)


def check_filters(path: Path, data: h5py.Dataset) -> None:
    """UserError: a dataset is stored with a filter, such as a compression, that is not installed here."""
    stored = data.id.get_create_plist()
    for place in range(stored.get_nfilters()):
        number, _, _, name = stored.get_filter(place)
        if not h5py.h5z.filter_avail(number):
            called = name.decode(errors="replace") or "without a name"
            which = f"`{(data.name or '').lstrip('/')}` is stored with the HDF5 filter {number} ({called})"
            raise _no_filter(path, f"{which}, which is not installed here")
