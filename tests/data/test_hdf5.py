"""Files written aside: a second writer is refused and harms nothing; what a killed one left is written over."""

import errno
import fcntl

import h5py
from helpers.errors import refused

from demega_jax.data.hdf5 import atomic_h5


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


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write(tmp_path / "data.h5", 6)
    with h5py.File(tmp_path / "data.h5") as file:
        assert file["x"][()] == 6
