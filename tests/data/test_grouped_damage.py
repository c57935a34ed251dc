"""Grouped files that are not sound: each is refused with its name, and the row where there is one."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.data import ROWS, SENSORS, TIME_POINTS, OffsetRows, open_grouped, open_rows, write_sound
from helpers.errors import refused

CHUNKS = {"chunks": (32, SENSORS, TIME_POINTS)}
LAYOUTS = {"hub": CHUNKS, "contiguous": {}, "gzip": CHUNKS | {"compression": "gzip"}}


def refuses(path: Path, *facts: object, read: bool = False, **arguments) -> None:
    """The file is refused with its own name and these facts, when it is opened or (read) when its rows are."""
    with refused(*facts, where=path):
        split = open_grouped(path, **arguments)
        if read:
            open_rows(split, 0).read(np.arange(split.rows))


def test_what_is_no_hdf5_file_is_refused(path, tmp_path):
    path.parent.mkdir()
    refuses(path, "No such file")
    path.write_bytes(b"")
    refuses(path, "not a readable HDF5 file")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 50)
    refuses(path, "not a readable HDF5 file")
    refuses(tmp_path, "directory")


def test_a_file_cut_anywhere_is_refused(path, tmp_path):
    whole = write_sound(path, **LAYOUTS["hub"]).read_bytes()
    cut = tmp_path / "grouped_5" / "cut.h5"
    for size in [*range(1, 4000, 131), *range(4000, len(whole), 977), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        refuses(cut, "whole")


@pytest.mark.parametrize("layout", ["hub", "contiguous", "gzip"])
def test_a_cut_file_that_still_opens_is_refused(path, layout):
    """Its superblock (version 0: end of file at byte 40) is made to agree with the size, as a salvaged file's may."""
    write_sound(path, **LAYOUTS[layout])
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
    refuses(path, "truncated")


@pytest.mark.parametrize("name", ["data", "labels"])
def test_what_was_never_written_is_refused(path, name):
    for chunks in (True, None):
        write_sound(path)
        with h5py.File(path, "a") as file:
            shape, dtype = file[name].shape, file[name].dtype
            del file[name]
            file.create_dataset(name, shape, dtype, chunks=chunks)
        refuses(path, f"`{name}`", "never written")
    with h5py.File(path, "a") as file:
        del file[name]
        half = file.create_dataset(name, shape, dtype, chunks=(32, *shape[1:]))
        half[:32], half[64:] = 1, 1
    refuses(path, f"`{name}`", "row 32", "never written", "1 of 3 chunks")


def test_a_file_that_shrinks_while_it_is_read_is_refused(path):
    split = open_grouped(write_sound(path, **LAYOUTS["contiguous"]))
    reader = split.reader()
    with open(path, "r+b") as file:
        file.truncate(int(reader.offsets[20]) + 1)
    np.testing.assert_array_equal(reader.read(np.arange(20)).shape, (20, SENSORS, TIME_POINTS))
    with refused("truncated", "row 20", where=path):
        reader.read(np.array([3, 20]))
    path.unlink()
    with refused("No such file", where=path):
        split.reader()
    with refused("No such file", where=path):
        OffsetRows(split, reader.offsets, reader.dtype, reader.files).read(np.arange(2))


def test_wrong_ranks_types_shapes_and_lengths_are_refused(path):
    good, labels = np.zeros((ROWS, SENSORS, TIME_POINTS), np.float32), np.arange(ROWS) % 39
    refuses(write_sound(path, good[0], labels[:SENSORS]), "rank 2")
    refuses(write_sound(path, good.astype(np.int16), labels), "int16")
    refuses(write_sound(path, good.astype(np.complex64), labels), "complex64")
    refuses(write_sound(path, good, labels.astype(np.float32)), "`labels`", "float32")
    refuses(write_sound(path, good, labels[:, None]), "`labels`", "rank 2")
    refuses(write_sound(path, good, labels[:-3]), "80 rows", "77 labels")
    refuses(write_sound(path, good[:0], labels[:0], chunks=(1, SENSORS, TIME_POINTS), maxshape=(None, 3, 5)), "empty")
    refuses(write_sound(path, good, labels), "3 sensors", "5 time points", "4 x 5", expect_shape=(4, 5))
    refuses(path, "3 sensors", "5 time points", "3 x 6", expect_shape=(3, 6))
    assert open_grouped(path, expect_shape=(3, 5)).rows == open_grouped(path, expect_shape=(3, None)).rows == ROWS
    for name in ("data", "labels"):
        write_sound(path, good, labels)
        with h5py.File(path, "a") as file:
            del file[name]
        refuses(path, "no dataset", f"`{name}`")
        with h5py.File(path, "a") as file:
            file.create_group(name)
        refuses(path, "no dataset", f"`{name}`")


@pytest.mark.parametrize("label", [39, -1, 2**40])
def test_a_label_outside_the_classes_is_named_with_its_row(path, label):
    labels = np.arange(ROWS) % 39
    labels[[17, 30]] = label
    refuses(write_sound(path, labels=labels), f"label {label}", "row 17", "39 classes")


@pytest.mark.parametrize("layout", ["hub", "contiguous", "gzip"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(path, layout, value):
    data = np.ones((ROWS, SENSORS, TIME_POINTS), np.float32)
    data[41, 2, 3] = value
    split = open_grouped(write_sound(path, data, **LAYOUTS[layout]))
    refuses(path, "row 41", value, "sensor 2", "time point 3", read=True)
    with refused("row 41", where=path):
        open_rows(split, 2**30)
    with refused("row 41", where=path):
        open_rows(split, 0).read(np.array([3, 41, 7]))
    np.testing.assert_array_equal(open_rows(split, 0).read(np.array([3, 40, 42])), 1)


def test_huge_numbers_are_finite_until_float32_cannot_hold_them(path):
    huge = np.full((ROWS, SENSORS, TIME_POINTS), 3e38, np.float64)
    np.testing.assert_array_equal(
        open_rows(open_grouped(write_sound(path, huge)), 0).read(np.arange(3)), np.float32(3e38)
    )
    huge[9, 0, 4] = 1e39
    for layout in ("hub", "gzip"):
        refuses(write_sound(path, huge, **LAYOUTS[layout]), "row 9", "inf", "float32", read=True)
