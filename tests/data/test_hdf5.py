"""Files written aside: a second writer is refused and harms nothing; what a killed one left is written over."""

import errno
import fcntl

import h5py
import numpy as np
import pytest
from helpers.data import open_grouped
from helpers.errors import refused

from demega_jax.data import hdf5
from demega_jax.data.hdf5 import atomic_h5, write_names
from demega_jax.data.hub import transfer
from demega_jax.data.hub.client import HubFile
from demega_jax.data.hub.transfer import fetch
from demega_jax.files import never_left_empty, open_part


def write(path, value):
    with atomic_h5(path) as (file, _):
        file["x"] = value


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "folder" / "data.h5"
    with atomic_h5(path) as (file, _):
        file["x"] = 1
        with refused("another process", where=f"{path}.partial"):
            write(path, 2)
        file["y"] = 3
    with h5py.File(path) as file:
        assert {name: file[name][()] for name in file} == {"x": 1, "y": 3}
    write(path, 4)
    with h5py.File(path) as file:
        assert list(file) == ["x"] and file["x"][()] == 4


def test_what_was_left_is_written_over(tmp_path):
    (tmp_path / "data.h5.partial").write_bytes(b"x" * 100_000)
    write(tmp_path / "data.h5", 5)
    with h5py.File(tmp_path / "data.h5") as file:
        assert file["x"][()] == 5
    assert (tmp_path / "data.h5").stat().st_size < 100_000 and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("module", [hdf5, transfer])
def test_a_signal_before_the_lock_leaves_no_empty_file(module, tmp_path, monkeypatch):
    """It comes as soon as the file is made: what a process then raises must not leave it behind."""

    def made_and_interrupted(path, *flags):
        open_part(path, *flags)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "open_part", made_and_interrupted)
    with pytest.raises(KeyboardInterrupt):
        if module is hdf5:
            write(tmp_path / "data.h5", 1)
        else:
            fetch(HubFile("a/b", "c", "x.h5", 3, None, "0" * 40), tmp_path / "x.h5", lambda _: None)
    assert not list(tmp_path.iterdir())


def test_an_empty_file_that_is_locked_or_linked_stays(tmp_path):
    locked, linked, full = (tmp_path / name for name in ("locked", "linked", "full"))
    locked.touch()
    linked.touch()
    (tmp_path / "other").hardlink_to(linked)
    full.write_bytes(b"x")
    with locked.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for path in (locked, linked, full, tmp_path / "none", tmp_path):
            with never_left_empty(path):
                pass
        assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "linked", "locked", "other"]
    with never_left_empty(locked):
        pass
    assert not locked.exists()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write(tmp_path / "data.h5", 6)
    with h5py.File(tmp_path / "data.h5") as file:
        assert file["x"][()] == 6


@pytest.mark.parametrize(
    "names", [("aa", "zh"), ("é", "左"), ("x",), tuple(f"class {i:04}" + "y" * 30 for i in range(2000))]
)
def test_names_come_back_as_they_are(tmp_path, names):
    path = tmp_path / "names.h5"
    with atomic_h5(path) as (file, _):
        write_names(file, "classes", names)
        file["data"] = np.zeros((1, 1, 1), np.float32)
        file["labels"] = np.zeros(1, np.int64)
    with h5py.File(path) as file:
        stored = file.attrs.get_id("classes").dtype
        read = [name if isinstance(name, str) else name.decode() for name in file.attrs["classes"]]
    assert read == list(names)
    assert (stored.kind == "S") == (len(names) < 2000)  # text of any length lies in a heap
    assert open_grouped(path).classes == names
