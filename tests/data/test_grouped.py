"""Grouped files: what is read is what h5py reads, and every kind of bad file is refused by name and row."""

import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import GOLDEN

from demega_jax.data.grouped import find_levels, find_split, open_grouped
from demega_jax.data.rows import Hdf5Rows, MemoryRows, OffsetRows, disk_reader, open_rows
from demega_jax.errors import UserError, set_warning_sink
from demega_jax.phonemes import PHONEMES

ROWS, SENSORS, TIME_POINTS = 80, 3, 5


@pytest.fixture
def warnings():
    """The lines that were warned of."""
    lines: list[str] = []
    set_warning_sink(lines.append)
    yield lines
    set_warning_sink(None)


def write(path: Path, data=None, labels=None, attributes=None, **layout) -> Path:
    """A sound file with every attribute unless told otherwise; each class of the 39 has rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = np.random.default_rng(0).standard_normal((ROWS, SENSORS, TIME_POINTS)).astype(np.float32)
    if labels is None:
        labels = np.sort(np.arange(len(data)) % 39)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, **layout)
        file["labels"] = labels
        file["group_indices"] = np.arange(len(data))
        if data.ndim == 3:
            sound = dict(zip(("n_groups", "n_channels", "n_timepoints"), data.shape, strict=True))
            file.attrs.update(sound | {"grouped_samples": 5} | (attributes or {}))
    return path


@pytest.fixture
def path(tmp_path):
    """Where a sound file of level 5 goes."""
    return tmp_path / "grouped_5" / "train_grouped.h5"


def refused(path: Path, *words: str, read: bool = False, **arguments) -> UserError:
    """The file is refused with its own name and these words, when opened or (read) when its rows are."""
    with pytest.raises(UserError) as caught:
        split = open_grouped(path, **arguments)
        if read:
            open_rows(split, 0).read(np.arange(split.rows))
    assert caught.value.where == str(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    return caught.value


# Where files are


def test_levels_are_found_in_either_layout_and_in_the_folder_itself(tmp_path):
    for folder in ("hub/data/grouped_5", "hub/data/grouped_10", "flat/grouped_100", "flat/grouped_x", "flat/other"):
        (tmp_path / folder).mkdir(parents=True)
    assert find_levels(tmp_path / "hub") == {5: tmp_path / "hub/data/grouped_5", 10: tmp_path / "hub/data/grouped_10"}
    assert find_levels(tmp_path / "flat") == {100: tmp_path / "flat/grouped_100"}
    assert find_levels(tmp_path / "flat/grouped_100") == {100: tmp_path / "flat/grouped_100"}


def test_levels_are_known_by_the_names_of_links(tmp_path, monkeypatch, warnings):
    write(tmp_path / "blobs" / "0a1b")
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
    write(tmp_path / "d" / "grouped_5" / "train_grouped.h5")
    assert find_split(tmp_path / "d", None, "train") == tmp_path / "d" / "grouped_5" / "train_grouped.h5"
    (tmp_path / "d" / "grouped_10").mkdir()
    (tmp_path / "empty" / "notes").mkdir(parents=True)
    cases = [
        ("nowhere", 5, "train", "nowhere: no such folder"),
        ("d/grouped_5/train_grouped.h5", 5, "train", "a file"),
        ("empty", 5, "train", "it holds notes"),
        ("d", None, "train", "levels 5, 10"),
        ("d", 7, "train", "no level 7; wanted a level that is there: 5, 10"),
        ("d", 5, "test", "the folder has train_grouped.h5"),
        ("d", 10, "test", "the folder has no .h5 file"),
    ]
    for folder, level, split, words in cases:
        with pytest.raises(UserError, match=re.escape(words)):
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
    assert len(warnings) == 1 and "no row of" in warnings[0]  # six short recordings lack phonemes; nothing else


LAYOUTS = {
    "hub": {"chunks": (32, SENSORS, TIME_POINTS)},
    "contiguous": {},
    "one row a chunk": {"chunks": (1, SENSORS, TIME_POINTS)},
    "gzip": {"chunks": (32, SENSORS, TIME_POINTS), "compression": "gzip"},
    "checksum": {"chunks": (32, SENSORS, TIME_POINTS), "fletcher32": True},
    "odd chunks": {"chunks": (7, 2, TIME_POINTS)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", ">f4"])
def test_readers_give_the_bytes_that_h5py_gives(path, layout, dtype, warnings):
    data = np.random.default_rng(1).standard_normal((ROWS, SENSORS, TIME_POINTS)).astype(dtype)
    split = open_grouped(write(path, data, **LAYOUTS[layout]))
    with h5py.File(path) as file:
        expected = file["data"][:].astype(np.float32)
    rows = np.array([79, 0, 1, 2, 3, 40, 31, 32, 33, 79, 5, 4])  # runs, over a chunk's end, backwards, repeated
    by_offset = layout in ("hub", "contiguous", "one row a chunk")
    reader, slow = disk_reader(split)
    assert isinstance(reader, OffsetRows if by_offset else Hdf5Rows) and bool(slow) != by_offset
    for each in (reader, MemoryRows.load(split, reader)):
        for wanted in (rows, np.arange(ROWS), rows[:0]):
            assert each.read(wanted).tobytes() == expected[wanted].tobytes()
            out = np.full((len(wanted), SENSORS, TIME_POINTS), 7, np.float32)
            assert each.read(wanted, out) is out and out.tobytes() == expected[wanted].tobytes()
    assert warnings == []


def test_chunks_may_lie_in_any_order(path):
    data = np.random.default_rng(2).standard_normal((ROWS, SENSORS, TIME_POINTS)).astype(np.float32)
    write(path, data)
    with h5py.File(path, "a") as file:
        del file["data"]
        dataset = file.create_dataset("data", data.shape, np.float32, chunks=LAYOUTS["hub"]["chunks"])
        for first in (64, 0, 32):
            dataset[first : first + 32] = data[first : first + 32]
    reader, slow = disk_reader(open_grouped(path))
    assert not slow and reader.read(np.arange(ROWS)).tobytes() == data.tobytes()


def test_a_user_block_is_read_through_hdf5(path):
    write(path)
    with h5py.File(path) as file:
        data = file["data"][:]
    with h5py.File(path, "w", userblock_size=1024) as file:
        file.create_dataset("data", data=data, chunks=LAYOUTS["hub"]["chunks"])
        file["labels"] = np.arange(ROWS) % 39
    np.testing.assert_array_equal(open_rows(open_grouped(path), 0).read(np.array([50, 3])), data[[50, 3]])


def test_the_budget_chooses_the_reader_and_a_slow_one_is_warned_of(path, warnings):
    split = open_grouped(write(path, **LAYOUTS["gzip"]))
    size = ROWS * SENSORS * TIME_POINTS * 4
    assert isinstance(open_rows(split, size), MemoryRows) and warnings == []
    assert isinstance(open_rows(split, size - 1), Hdf5Rows)
    assert len(warnings) == 1 and "gzip" in warnings[0] and "slow" in warnings[0]
    split = open_grouped(write(path, **LAYOUTS["hub"]))
    assert isinstance(open_rows(split, size - 1), OffsetRows) and len(warnings) == 1


def test_a_reader_serves_threads_and_pickles_without_its_descriptor(path):
    split = open_grouped(write(path, **LAYOUTS["hub"]))
    reader, _ = disk_reader(split)
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
    split = open_grouped(write(path, data, labels, {"classes": ["x", "y", "z"], "reference_macro_f1": 0.5}))
    assert split.classes == ("x", "y", "z") and split.labels.tolist() == [0, 2, 1, 2]
    assert split.reference_macro_f1 == 0.5
    split = open_grouped(path, classes=["z", "x", "y"])
    assert split.classes == ("z", "x", "y") and split.labels.tolist() == [1, 0, 2, 0]
    assert split.class_counts().tolist() == [2, 1, 1]
    assert warnings == []
    refused(path, "class y", classes=["z", "x"])
    write(path, data, labels)
    assert open_grouped(path, classes=["a", "b", "c"]).labels.tolist() == [0, 2, 1, 2]
    assert len(warnings) == 1 and "positions in a b c" in warnings[0]


@pytest.mark.parametrize("names", [["x", "x", "z"], [1.0, 2.0, 3.0]])
def test_names_that_are_no_names_are_refused(path, names):
    data, labels = np.zeros((3, 1, 2), np.float32), np.arange(3)
    refused(write(path, data, labels, {"classes": names}), "`classes`")


# What goes on with a warning


def test_a_split_that_lacks_classes_is_one_line(path, warnings):
    open_grouped(write(path, labels=np.arange(ROWS) % 37))
    assert len(warnings) == 1 and "no row of 2 of 39 classes (z zh)" in warnings[0]


def test_absent_and_contradicting_attributes_are_one_line_and_shapes_win(path, warnings):
    write(path, attributes={"n_channels": 99, "n_groups": "many", "grouped_samples": 7})
    with h5py.File(path, "a") as file:
        del file.attrs["n_timepoints"], file["group_indices"]
    split = open_grouped(path)
    assert (split.rows, split.sensors, split.time_points) == (ROWS, SENSORS, TIME_POINTS)
    assert len(warnings) == 1
    for words in ("n_timepoints", "group_indices", "n_channels=99", "says 3", "n_groups=many", "grouped_samples=7"):
        assert words in warnings[0]
    assert split.level == 7


def test_a_file_without_any_attribute_takes_its_level_from_the_folder(path, warnings):
    write(path)
    with h5py.File(path, "a") as file:
        for name in list(file.attrs):
            del file.attrs[name]
    assert open_grouped(path).level == 5 and len(warnings) == 1
    shutil.copy(path, path.parents[1] / "train_grouped.h5")
    assert open_grouped(path.parents[1] / "train_grouped.h5").level is None


# What stops


def test_what_is_no_hdf5_file_is_refused(path, tmp_path):
    path.parent.mkdir()
    refused(path, "No such file")
    path.write_bytes(b"")
    refused(path, "not a readable HDF5 file")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 50)
    refused(path, "not a readable HDF5 file")
    refused(tmp_path, "directory")


def test_a_file_cut_anywhere_is_refused(path, tmp_path):
    whole = write(path, **LAYOUTS["hub"]).read_bytes()
    cut = tmp_path / "grouped_5" / "cut.h5"
    for size in [*range(1, 4000, 131), *range(4000, len(whole), 977), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        refused(cut, "whole")


@pytest.mark.parametrize("layout", ["hub", "contiguous", "gzip"])
def test_a_cut_file_that_still_opens_is_refused(path, layout):
    """Its superblock (version 0: end of file at byte 40) is made to agree with the size, as a salvaged file's may."""
    write(path, **LAYOUTS[layout])
    with h5py.File(path) as file:  # `data` last in the file, so that everything else survives the cut
        data, labels = file["data"][:], file["labels"][:]
    with h5py.File(path, "w") as file:
        file["labels"], file["group_indices"] = labels, np.arange(ROWS)
        file.create_dataset("data", data=data, **LAYOUTS[layout])
        if layout == "contiguous":
            size = file["data"].id.get_offset() + data.nbytes - 1
        else:
            size = max(c.byte_offset + c.size - 1 for c in (file["data"].id.get_chunk_info(i) for i in range(3)))
    content = bytearray(path.read_bytes()[:size])
    content[40:48] = size.to_bytes(8, "little")
    path.write_bytes(content)
    with h5py.File(path) as file:  # opens; newer HDF5 then finds a contiguous dataset too long by itself
        assert file["labels"].shape == (ROWS,)
    refused(path, "truncated")


@pytest.mark.parametrize("name", ["data", "labels"])
def test_what_was_never_written_is_refused(path, name):
    for chunks in (True, None):
        write(path)
        with h5py.File(path, "a") as file:
            shape, dtype = file[name].shape, file[name].dtype
            del file[name]
            file.create_dataset(name, shape, dtype, chunks=chunks)
        refused(path, f"`{name}`", "never written")
    with h5py.File(path, "a") as file:
        del file[name]
        half = file.create_dataset(name, shape, dtype, chunks=(32, *shape[1:]))
        half[:32], half[64:] = 1, 1
    refused(path, f"`{name}` from row 32 was never written (1 of 3 chunks")


def test_a_file_that_shrinks_while_it_is_read_is_refused(path):
    split = open_grouped(write(path, **LAYOUTS["contiguous"]))
    reader, _ = disk_reader(split)
    with open(path, "r+b") as file:
        file.truncate(int(reader.offsets[20]) + 1)
    np.testing.assert_array_equal(reader.read(np.arange(20)).shape, (20, SENSORS, TIME_POINTS))
    with pytest.raises(UserError, match="truncated.*row 20"):
        reader.read(np.array([3, 20]))
    path.unlink()
    with pytest.raises(UserError, match="No such file"):
        disk_reader(split)
    with pytest.raises(UserError, match="No such file"):
        OffsetRows(split, reader.offsets, reader.dtype).read(np.arange(2))


def test_wrong_ranks_types_shapes_and_lengths_are_refused(path):
    good, labels = np.zeros((ROWS, SENSORS, TIME_POINTS), np.float32), np.arange(ROWS) % 39
    refused(write(path, good[0], labels[:SENSORS]), "rank 2")
    refused(write(path, good.astype(np.int16), labels), "int16")
    refused(write(path, good.astype(np.complex64), labels), "complex64")
    refused(write(path, good, labels.astype(np.float32)), "`labels`", "float32")
    refused(write(path, good, labels[:, None]), "`labels`", "rank 2")
    refused(write(path, good, labels[:-3]), "80 rows of data and 77 labels")
    refused(write(path, good[:0], labels[:0], chunks=(1, SENSORS, TIME_POINTS), maxshape=(None, 3, 5)), "empty")
    refused(write(path, good, labels), "3 sensors x 5 time points", "4 x 5", expect_shape=(4, 5))
    refused(path, "3 sensors x 5 time points", "3 x 6", expect_shape=(3, 6))
    assert open_grouped(path, expect_shape=(3, 5)).rows == open_grouped(path, expect_shape=(3, None)).rows == ROWS
    for name in ("data", "labels"):
        write(path, good, labels)
        with h5py.File(path, "a") as file:
            del file[name]
        refused(path, f"no dataset `{name}`")
        with h5py.File(path, "a") as file:
            file.create_group(name)
        refused(path, f"no dataset `{name}`")


@pytest.mark.parametrize("label", [39, -1, 2**40])
def test_a_label_outside_the_classes_is_named_with_its_row(path, label):
    labels = np.arange(ROWS) % 39
    labels[[17, 30]] = label
    refused(write(path, labels=labels), f"label {label} in row 17", "39 classes")


@pytest.mark.parametrize("layout", ["hub", "contiguous", "gzip"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(path, layout, value):
    data = np.ones((ROWS, SENSORS, TIME_POINTS), np.float32)
    data[41, 2, 3] = value
    split = open_grouped(write(path, data, **LAYOUTS[layout]))
    refused(path, f"row 41 has {value} at sensor 2, time point 3", read=True)
    with pytest.raises(UserError, match="row 41 has"):
        open_rows(split, 2**30)
    with pytest.raises(UserError, match="row 41 has"):
        open_rows(split, 0).read(np.array([3, 41, 7]))
    np.testing.assert_array_equal(open_rows(split, 0).read(np.array([3, 40, 42])), 1)


def test_huge_numbers_are_finite_until_float32_cannot_hold_them(path):
    huge = np.full((ROWS, SENSORS, TIME_POINTS), 3e38, np.float64)
    np.testing.assert_array_equal(open_rows(open_grouped(write(path, huge)), 0).read(np.arange(3)), np.float32(3e38))
    huge[9, 0, 4] = 1e39
    for layout in ("hub", "gzip"):
        refused(write(path, huge, **LAYOUTS[layout]), "row 9 has inf", "float32", read=True)
