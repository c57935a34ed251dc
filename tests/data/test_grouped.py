"""Grouped files: what is read is what h5py reads, and every kind of bad file is refused by name and row."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import GOLDEN
from helpers.data import (
    ROWS,
    SENSORS,
    TIME_POINTS,
    Hdf5Rows,
    MemoryRows,
    OffsetRows,
    open_grouped,
    open_rows,
    write_sound,
)
from helpers.errors import refused, the_warning

from demega_jax.data.folder import find_levels, find_split
from demega_jax.phonemes import PHONEMES

LAYOUTS = {
    "hub": {"chunks": (32, SENSORS, TIME_POINTS)},
    "contiguous": {},
    "one row a chunk": {"chunks": (1, SENSORS, TIME_POINTS)},
    "gzip": {"chunks": (32, SENSORS, TIME_POINTS), "compression": "gzip"},
    "checksum": {"chunks": (32, SENSORS, TIME_POINTS), "fletcher32": True},
    "odd chunks": {"chunks": (7, 2, TIME_POINTS)},
}


# Where files are


def test_levels_are_found_in_either_layout_and_in_the_folder_itself(tmp_path):
    for folder in ("hub/data/grouped_5", "hub/data/grouped_10", "flat/grouped_100", "flat/grouped_x", "flat/other"):
        (tmp_path / folder).mkdir(parents=True)
    assert find_levels(tmp_path / "hub") == {5: tmp_path / "hub/data/grouped_5", 10: tmp_path / "hub/data/grouped_10"}
    assert find_levels(tmp_path / "flat") == {100: tmp_path / "flat/grouped_100"}
    assert find_levels(tmp_path / "flat/grouped_100") == {100: tmp_path / "flat/grouped_100"}


def test_levels_are_known_by_the_names_of_links(tmp_path, monkeypatch, warnings):
    write_sound(tmp_path / "blobs" / "0a1b")
    folder = tmp_path / "grouped_5"
    folder.symlink_to(tmp_path / "blobs")
    (tmp_path / "blobs" / "train_grouped.h5").symlink_to("0a1b")
    split = open_grouped(find_split(tmp_path, None, "train"))
    assert (split.path, split.level, split.name) == (folder / "train_grouped.h5", 5, "train")
    assert warnings == []
    (tmp_path / "other" / "grouped_10").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other" / "grouped_10")
    assert find_levels(Path(".")) == {10: Path(".")}


def test_a_missing_folder_level_or_split_names_what_is_there(tmp_path):
    write_sound(tmp_path / "d" / "grouped_5" / "train_grouped.h5")
    assert find_split(tmp_path / "d", None, "train") == tmp_path / "d" / "grouped_5" / "train_grouped.h5"
    (tmp_path / "d" / "grouped_10").mkdir()
    (tmp_path / "empty" / "notes").mkdir(parents=True)
    cases = [
        ("nowhere", 5, "train", ["nowhere", "no such folder"]),
        ("d/grouped_5/train_grouped.h5", 5, "train", ["d/grouped_5/train_grouped.h5", "file"]),
        ("empty", 5, "train", ["empty", "notes"]),
        ("d", None, "train", ["5, 10"]),
        ("d", 7, "train", ["level 7", "5, 10"]),
        ("d", 5, "test", ["train_grouped.h5"]),
        ("d", 10, "test", ["no .h5 file"]),
    ]
    for folder, level, split, facts in cases:
        with refused(*facts):
            find_split(tmp_path / folder, level, split)


# What is in them


@pytest.mark.parametrize("level", [1, 5, 10])
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_golden_files_of_the_original(level, name, warnings):
    split = open_grouped(find_split(GOLDEN, level, name))
    with h5py.File(split.path) as file:
        data, labels = file["data"][:], file["labels"][:]
    assert (split.name, split.level, split.classes) == (name, level, PHONEMES)
    assert (split.rows, split.sensors, split.time_points) == data.shape
    np.testing.assert_array_equal(split.labels, labels)
    assert split.labels.dtype == np.int32 and split.reference_macro_f1 is None
    np.testing.assert_array_equal(split.class_counts(), [(labels == c).sum() for c in range(39)])
    rows = np.random.default_rng(level).permutation(split.rows)
    np.testing.assert_array_equal(open_rows(split, 0).read(rows), data[rows])
    the_warning(warnings, split.path, "no row of")  # six short recordings lack phonemes; nothing else


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", ">f4"])
def test_readers_give_the_bytes_that_h5py_gives(path, layout, dtype, warnings):
    data = np.random.default_rng(1).standard_normal((ROWS, SENSORS, TIME_POINTS)).astype(dtype)
    split = open_grouped(write_sound(path, data, **LAYOUTS[layout]))
    with h5py.File(path) as file:
        expected = file["data"][:].astype(np.float32)
    rows = np.array([79, 0, 1, 2, 3, 40, 31, 32, 33, 79, 5, 4])  # runs, over a chunk's end, backwards, repeated
    by_offset = layout in ("hub", "contiguous", "one row a chunk")
    reader, slow = split.reader(), split.slow_reason
    assert isinstance(reader, OffsetRows if by_offset else Hdf5Rows) and bool(slow) != by_offset
    for each in (reader, MemoryRows.load(split, reader)):
        for wanted in (rows, np.arange(ROWS), rows[:0]):
            assert each.read(wanted).tobytes() == expected[wanted].tobytes()
            out = np.full((len(wanted), SENSORS, TIME_POINTS), 7, np.float32)
            assert each.read(wanted, out) is out and out.tobytes() == expected[wanted].tobytes()
    assert warnings == []


def test_chunks_may_lie_in_any_order(path):
    data = np.random.default_rng(2).standard_normal((ROWS, SENSORS, TIME_POINTS)).astype(np.float32)
    write_sound(path, data)
    with h5py.File(path, "a") as file:
        del file["data"]
        dataset = file.create_dataset("data", data.shape, np.float32, chunks=LAYOUTS["hub"]["chunks"])
        for first in (64, 0, 32):
            dataset[first : first + 32] = data[first : first + 32]
    split = open_grouped(path)
    reader, slow = split.reader(), split.slow_reason
    assert not slow and reader.read(np.arange(ROWS)).tobytes() == data.tobytes()


def test_a_user_block_is_read_through_hdf5(path):
    write_sound(path)
    with h5py.File(path) as file:
        data = file["data"][:]
    with h5py.File(path, "w", userblock_size=1024) as file:
        file.create_dataset("data", data=data, chunks=LAYOUTS["hub"]["chunks"])
        file["labels"] = np.arange(ROWS) % 39
    np.testing.assert_array_equal(open_rows(open_grouped(path), 0).read(np.array([50, 3])), data[[50, 3]])


def test_the_budget_chooses_the_reader_and_a_slow_one_is_warned_of(path, warnings):
    split = open_grouped(write_sound(path, **LAYOUTS["gzip"]))
    size = ROWS * SENSORS * TIME_POINTS * 4
    assert isinstance(open_rows(split, size), MemoryRows) and warnings == []
    assert isinstance(open_rows(split, size - 1), Hdf5Rows)
    the_warning(warnings, "gzip", "slow")
    split = open_grouped(write_sound(path, **LAYOUTS["hub"]))
    assert isinstance(open_rows(split, size - 1), OffsetRows) and len(warnings) == 1


def test_a_reader_serves_threads_and_pickles_without_its_descriptor(path):
    split = open_grouped(write_sound(path, **LAYOUTS["hub"]))
    reader = split.reader()
    expected = reader.read(np.arange(ROWS))
    orders = [np.random.default_rng(i).permutation(ROWS) for i in range(40)]
    with ThreadPoolExecutor(4) as threads:
        for order, x in zip(orders, threads.map(reader.read, orders), strict=True):
            np.testing.assert_array_equal(x, expected[order])
    again = pickle.loads(pickle.dumps(reader))
    reader.close()
    np.testing.assert_array_equal(again.read(orders[0]), expected[orders[0]])
    np.testing.assert_array_equal(reader.read(orders[0]), expected[orders[0]])  # opens it anew


# Classes


def test_names_come_from_the_argument_the_file_or_the_inventory(path, warnings):
    data, labels = np.zeros((4, 1, 2), np.float32), np.array([0, 2, 1, 2], np.uint8)
    split = open_grouped(write_sound(path, data, labels, {"classes": ["x", "y", "z"], "reference_macro_f1": 0.5}))
    assert split.classes == ("x", "y", "z") and split.labels.tolist() == [0, 2, 1, 2]
    assert split.reference_macro_f1 == 0.5
    split = open_grouped(path, classes=["z", "x", "y"])
    assert split.classes == ("z", "x", "y") and split.labels.tolist() == [1, 0, 2, 0]
    assert split.class_counts().tolist() == [2, 1, 1]
    assert warnings == []
    with refused("y", where=path):
        open_grouped(path, classes=["z", "x"])
    write_sound(path, data, labels)
    assert open_grouped(path, classes=["a", "b", "c"]).labels.tolist() == [0, 2, 1, 2]
    the_warning(warnings, "a, b, c")


@pytest.mark.parametrize("names", [["x", "x", "z"], [1.0, 2.0, 3.0]])
def test_names_that_are_no_names_are_refused(path, names):
    data, labels = np.zeros((3, 1, 2), np.float32), np.arange(3)
    with refused("`classes`", where=write_sound(path, data, labels, {"classes": names})):
        open_grouped(path)


# What goes on with a warning


def test_a_split_that_lacks_classes_is_one_line(path, warnings):
    open_grouped(write_sound(path, labels=np.arange(ROWS) % 37))
    the_warning(warnings, path, "2 of 39 classes", "z zh")


def test_absent_and_contradicting_attributes_are_one_line_and_shapes_win(path, warnings):
    write_sound(path, attributes={"n_channels": 99, "n_groups": "many", "grouped_samples": 7})
    with h5py.File(path, "a") as file:
        del file.attrs["n_timepoints"], file["group_indices"]
    split = open_grouped(path)
    assert (split.rows, split.sensors, split.time_points) == (ROWS, SENSORS, TIME_POINTS)
    facts = ("n_timepoints", "group_indices", "n_channels=99", "3", "n_groups=many", "grouped_samples=7")
    the_warning(warnings, path, *facts)
    assert split.level == 7


def test_a_file_without_any_attribute_takes_its_level_from_the_folder(path, warnings):
    write_sound(path)
    with h5py.File(path, "a") as file:
        for name in list(file.attrs):
            del file.attrs[name]
    assert open_grouped(path).level == 5 and len(warnings) == 1
    shutil.copy(path, path.parents[1] / "train_grouped.h5")
    assert open_grouped(path.parents[1] / "train_grouped.h5").level is None
