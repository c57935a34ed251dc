"""Whole files that cannot be read: each is told as what it is, and nobody is sent to download it again."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.data import grouped_path, write_grouped
from helpers.errors import fails_with, has_fact, refused

from demega_jax.data.arrays import open_array
from demega_jax.data.grouped import open_grouped
from demega_jax.data.hdf5 import open_file
from demega_jax.data.unreadable import why_unreadable

UNKNOWN_FILTER = 32_009


@pytest.fixture
def path(tmp_path) -> Path:
    x = np.random.default_rng(1).normal(size=(40, 3, 5)).astype(np.float32)
    return write_grouped(grouped_path(tmp_path, 5), x, np.arange(40) % 4, level=5, compression="gzip", chunks=(8, 3, 5))


def refuses(path: Path, *facts: object) -> None:
    with refused(*facts, where=path) as caught:
        open_grouped(path)
    assert not has_fact(str(caught.value), "download") and not has_fact(str(caught.value), "copy")


OPEN_TO_WRITE = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+", libver="latest")
print("open", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_writes(path, capsys):
    """The mark is in files of the newer formats alone; the lock is on all."""
    writer = subprocess.Popen(
        [sys.executable, "-c", OPEN_TO_WRITE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"open\n"
        refuses(path, "another process", "lock", "wait")
        fails_with(capsys, ["inspect", path], "another process")
    finally:
        writer.communicate(b"")
    assert open_grouped(path).rows == 40


LEFT_OPEN = """
import os, sys, h5py
file = h5py.File(sys.argv[1], "w", libver="latest")
file["data"] = range(5)
if sys.argv[2] == "swmr":
    file.swmr_mode = True
file.flush()
os._exit(0)
"""


@pytest.mark.parametrize("how", ["write", "swmr"])
def test_a_mark_that_a_killed_writer_left(tmp_path, how):
    subprocess.run([sys.executable, "-c", LEFT_OPEN, tmp_path / "x.h5", how], check=True)
    refuses(tmp_path / "x.h5", "marked as open for writing", "h5clear --status", "wait")


def test_a_filter_that_is_not_here(path):
    """Its number is put in place of that of gzip; the file is whole otherwise."""
    content = path.read_bytes()
    place = content.index(b"deflate") - 8
    assert content[place : place + 2] == (1).to_bytes(2, "little")
    path.write_bytes(content[:place] + UNKNOWN_FILTER.to_bytes(2, "little") + content[place + 2 :])
    refuses(path, UNKNOWN_FILTER, "data", "not installed", "hdf5plugin", "HDF5_PLUGIN_PATH", "h5repack")
    with refused("filter", "not installed", where=path), open_file(path) as file:
        file["data"][:]  # where nobody has looked before


@pytest.mark.parametrize("name", ["x.h5", "x.npy", "x.npz", "x.pt"])
def test_no_permission(tmp_path, monkeypatch, name):
    if name == "x.pt":
        pytest.importorskip("torch")
    path = tmp_path / name
    path.write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)  # the administrator may read everything
    with refused("no permission", "owner", where=path):
        open_grouped(path) if name == "x.h5" else open_array(path, ("a",), (3, 5))


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (OSError(errno.EIO, "Input/output error"), ("disk", "Input/output error")),
        (OSError(errno.ESTALE, "Stale file handle"), ("network drive", "Stale file handle")),
        (OSError(errno.EMFILE, "Too many open files"), ("too many files", "ulimit -n")),
        (OSError(errno.ENOLCK, "unable to lock file, errno = 37"), ("no locks", "HDF5_USE_FILE_LOCKING=FALSE")),
        (OSError("file signature not found"), None),
        (OSError("Can't read data (inflate() failed)"), None),
    ],
)
def test_what_the_system_says(error, facts):
    found = why_unreadable(Path("x"), error)
    assert (found is None) == (facts is None)
    assert found is None or all(has_fact(str(found), fact) for fact in facts)


def test_what_is_damaged_is_still_told_so(path, tmp_path):
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        at = file["data"].id.get_chunk_info(0).byte_offset
    content[at : at + 20] = bytes(20)
    path.write_bytes(content)
    with refused("again", where=path), open_file(path) as file:
        file["data"][:]
    with refused("no such file", "correct the path", where=tmp_path / "none"), open_file(tmp_path / "none"):
        pass
