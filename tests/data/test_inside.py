"""Files from outside that name other files: those of the data folder are read, all others are refused, at once."""

import os

import h5py
import numpy as np
import pytest
from helpers.data import grouped_path, open_grouped, write_grouped
from helpers.errors import fails_with, refused
from helpers.runs import inspect

from demega_jax.data.inside import MOST_NAMES, MOST_STEPS, data_root

SHAPE = (6, 3, 5)
CLASSES = {"classes": ["a", "b", "c"]}
X = np.arange(90, dtype=np.float32).reshape(SHAPE)


@pytest.fixture
def path(tmp_path):
    """A sound file in a data folder of its own."""
    return write_grouped(grouped_path(tmp_path / "D"), X, np.arange(6) % 3, attributes=CLASSES)


def drop(path):
    file = h5py.File(path, "a")
    del file["data"]
    return file


def external_storage(path, other):
    with drop(path) as file:
        file.create_dataset("data", SHAPE, "f4", external=[(str(other), 0, X.nbytes)])


def virtual(path, other):
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[...] = h5py.VirtualSource(str(other), "data", SHAPE)
    with drop(path) as file:
        file.create_virtual_dataset("data", layout)


def external_link(path, other):
    with drop(path) as file:
        file["data"] = h5py.ExternalLink(str(other), "data")


def link_through_a_group(path, other):
    with drop(path) as file:
        file["group"] = h5py.ExternalLink(str(other), "/")
        file["data"] = h5py.SoftLink("group/data")


def link_of_a_link(path, other):
    """By way of a file that lies in the data folder."""
    with h5py.File(path.parent / "between.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(other), "data")
    external_link(path, path.parent / "between.h5")


def labels(path, other):
    with h5py.File(path, "a") as file:
        del file["labels"]
        file["labels"] = h5py.ExternalLink(str(other), "labels")


WAYS = [external_storage, virtual, external_link, link_through_a_group, link_of_a_link, labels]


@pytest.mark.parametrize("way", WAYS)
def test_what_lies_outside_is_refused(path, tmp_path, way, capsys):
    secret = write_grouped(tmp_path / "outside" / "secret.h5", X, np.arange(6) % 3)
    way(path, secret)
    with refused(str(path.parent) if way is link_of_a_link else str(path), "outside its data folder", "secret.h5"):
        open_grouped(path)
    fails_with(capsys, ["shard", tmp_path / "D", tmp_path / "out"], "outside its data folder")
    assert not (tmp_path / "out").exists()
    assert inspect(capsys, path)[0] == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["pipe", "device"])
def test_a_fifo_is_not_waited_for_and_a_device_not_read(path, way, what):
    place = path.parent / "other.h5"
    if what == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    way(path, place)
    with refused("FIFO" if what == "pipe" else "outside"):
        open_grouped(path)


@pytest.mark.parametrize("way", WAYS)
def test_what_lies_in_the_data_folder_is_read(path, tmp_path, way):
    other = write_grouped(tmp_path / "D" / "parts" / "other.h5", X + 1000, np.arange(6) % 3)
    if way is external_storage:
        other.write_bytes((X + 1000).tobytes())
    way(path, other)
    rows = open_grouped(path).reader().read(np.arange(6)) if way in (virtual, external_storage) else None
    with h5py.File(path) as file:
        expected = file["data"][:]
    assert expected[0, 0, 0] == (0 if way is labels else 1000)
    if rows is not None:
        np.testing.assert_array_equal(rows, X + 1000)
    assert open_grouped(path).labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_circles_end(path):
    with drop(path) as file:
        file["data"] = h5py.SoftLink("/again")
        file["again"] = h5py.SoftLink("/data")
    with refused("links"):
        open_grouped(path)
    with h5py.File(path, "a") as file:
        for number in range(MOST_NAMES):
            file[f"x{number}"] = 0
    with refused(f"at most {MOST_NAMES}"):
        open_grouped(path)


def test_a_chain_within_the_file_is_read(path):
    with h5py.File(path, "a") as file:
        file.move("data", "step0")
        for number in range(MOST_STEPS - 2):
            file[f"step{number + 1}"] = h5py.SoftLink(f"step{number}")
        file["data"] = h5py.SoftLink(f"/step{MOST_STEPS - 2}")
    assert open_grouped(path).rows == 6


def test_the_data_folder(tmp_path):
    for file, root in (
        ("D/grouped_5/train_grouped.h5", "D"),
        ("D/data/grouped_5/train_grouped.h5", "D"),
        ("D/x.h5", "D"),
        ("D/grouped_5/train/shard-00000.h5", "D"),
        ("D/Sherlock1/derivatives/serialised/a_meg.h5", "D"),
        ("D/derivatives/x.h5", "D/derivatives"),
        ("D/a/b/c/x.h5", "D/a/b/c"),
    ):
        assert data_root(tmp_path / file) == tmp_path / root
