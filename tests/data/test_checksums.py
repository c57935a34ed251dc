"""Checksums of grouped files: whatever is flipped in a file is found before it gives another number."""

import pickle
import shutil
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.data import (
    Hdf5Rows,
    MemoryRows,
    OffsetRows,
    grouped_path,
    open_grouped,
    simulate_grouped,
    write_shards,
)
from helpers.errors import refused
from helpers.recordings import GOLDEN_TREE, group, write_session
from helpers.runs import inspect

from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.simulate.recordings import simulate_recordings

ROWS, SENSORS, TIME_POINTS = 80, 3, 5


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A simulated file of 80 rows."""
    folder = tmp_path_factory.mktemp("checksums")
    simulate_grouped(folder, levels=[2], groups=ROWS, sensors=SENSORS, time_points=TIME_POINTS)
    return grouped_path(folder, 2)


@pytest.fixture
def path(made, tmp_path) -> Path:
    """A copy of it that can be changed."""
    target = grouped_path(tmp_path, 2)
    target.parent.mkdir()
    return Path(shutil.copy(made, target))


def grouped_recordings(folder: Path, *more: object) -> Path:
    assert group(GOLDEN_TREE, folder, "--level", 5, *more) == 0
    return folder / "grouped_5" / "train_grouped.h5"


def alter(path: Path, row: int) -> None:
    """Make the last value of a row another one, which is finite too."""
    with h5py.File(path, "a") as file:
        file["data"][row, -1, -1] += 1


def rows_by_zlib(path: Path) -> list[int]:
    with h5py.File(path) as file:
        return [zlib.crc32(file["data"][row].tobytes()) for row in range(len(file["data"]))]


def test_simulated_and_grouped_files_hold_the_crc_of_each_row(made, tmp_path):
    in_passes = grouped_recordings(tmp_path / "passes", "--memory", "300K")  # more than one pass over the recordings
    denoised = grouped_recordings(tmp_path / "denoised", "--denoise")
    for path in (made, grouped_recordings(tmp_path / "whole"), in_passes, denoised):
        with h5py.File(path) as file:
            assert file["row_crc32"][:].tolist() == rows_by_zlib(path)
            assert file["row_crc32"].attrs["labels"] == zlib.crc32(file["labels"][:].astype("<i8").tobytes())
            sizes = np.array([len(windows) for windows in file["group_indices"]], "<i8").tobytes()
            windows = np.concatenate(file["group_indices"][:]).astype("<i8").tobytes()
            assert file["row_crc32"].attrs["group_indices"] == zlib.crc32(sizes + windows)
        split = open_grouped(path)
        split.reader().read(np.arange(split.rows))


@pytest.mark.parametrize("layout", ["offsets", "gzip"])
def test_every_reader_names_an_altered_row_and_no_other(path, layout):
    if layout == "gzip":
        with h5py.File(path, "a") as file:
            data = file["data"][:]
            del file["data"]
            file.create_dataset("data", data=data, chunks=(32, SENSORS, TIME_POINTS), compression="gzip")
    alter(path, 41)
    split = open_grouped(path)
    others = np.delete(np.arange(ROWS), 41)
    disk = split.reader()
    assert isinstance(disk, OffsetRows if layout == "offsets" else Hdf5Rows)
    for reader in (disk, pickle.loads(pickle.dumps(disk)), Hdf5Rows(split, split.checks)):
        reader.read(np.random.default_rng(0).permutation(others))
        for asked in ([41], [3, 41, 2], range(40, 43)):
            with refused("row 41", "CRC-32", "row_crc32", where=path):
                reader.read(np.array(asked))
    with refused("row 41", where=path):
        MemoryRows.load(split, disk)
    with refused("row 41", where=path):
        split.sample(ROWS)
    with refused("row 41", where=path):
        write_shards(path.parents[1], path.parents[1] / "out", levels=[2], splits=["train"])


def test_a_row_is_compared_when_it_is_first_read(path):
    """What is read again later is not compared again, by no reader of the split."""
    split = open_grouped(path)
    for _ in range(3):
        split.reader().read(np.array([5, 6, 5]))
    alter(path, 5)
    alter(path, 7)
    split.reader().read(np.array([5, 6]))
    with refused("row 7", where=path):
        split.reader().read(np.array([5, 7]))
    with refused("row 5", where=path):
        open_grouped(path).reader().read(np.array([5]))


def test_labels_and_facts_that_were_altered_are_refused(path):
    whole = path.read_bytes()
    for name, change, fact in (
        ("labels", lambda file: file["labels"].write_direct(np.roll(file["labels"][:], 1)), "`labels`"),
        ("classes", lambda file: file.attrs.modify("classes", list(file.attrs["classes"])[::-1]), "classes"),
        ("level", lambda file: file.attrs.modify("grouped_samples", 3), "grouped_samples"),
        ("reference", lambda file: file.attrs.modify("reference_macro_f1", 0.99), "reference_macro_f1"),
    ):
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            change(file)
        with refused(fact, "CRC-32", where=path):
            open_grouped(path)
            pytest.fail(name)


def test_a_file_without_checksums_is_read_as_it_is(path):
    """So are files from elsewhere, and those that were changed on purpose."""
    alter(path, 41)
    with h5py.File(path, "a") as file:
        del file["row_crc32"]
        data = file["data"][:]
    split = open_grouped(path)
    assert split.checks is None
    np.testing.assert_array_equal(split.reader().read(np.arange(ROWS)), data)


@pytest.mark.parametrize("wrong", [np.zeros(ROWS - 1, np.uint32), np.zeros(ROWS, np.int64), np.zeros((ROWS, 1), "u4")])
def test_checksums_of_another_shape_are_refused(path, wrong):
    with h5py.File(path, "a") as file:
        del file["row_crc32"]
        file["row_crc32"] = wrong
    with refused("row_crc32", f"uint32 [{ROWS}]", where=path):
        open_grouped(path).reader()


def test_inspect_compares_every_row(path, capsys):
    status, out, _ = inspect(capsys, path)
    assert status == 0 and "verified" in out
    alter(path, 79)
    status, out, err = inspect(capsys, path)
    assert status == 2 and "row 79" in err and "verified" not in out
    with h5py.File(path, "a") as file:
        del file["row_crc32"]
    status, out, _ = inspect(capsys, path)
    assert status == 0 and "checksums" in out and "none" in out


def test_no_flipped_bit_gives_another_number_in_silence(path):
    """A bit of the rows, of the labels, of their checksums: each is found."""
    whole = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        data, labels, sums = file["data"], file["labels"], file["row_crc32"]
        size = SENSORS * TIME_POINTS * 4
        chunks = [data.id.get_chunk_info(number) for number in range(3)]
        rows = [chunks[row // 32].byte_offset + row % 32 * size for row in range(ROWS)]
        of_rows = [first + row * 7 % size for row, first in enumerate(rows)]
        of_labels = labels.id.get_chunk_info(0).byte_offset + np.arange(0, 8 * ROWS, 27)
        of_sums = sums.id.get_offset() + np.arange(0, 4 * ROWS, 17)
    for place in [*of_rows, *of_labels.tolist(), *of_sums.tolist()]:
        whole[place] ^= 1 << place % 8
        path.write_bytes(whole)
        whole[place] ^= 1 << place % 8
        with refused(where=path):
            open_grouped(path).reader().read(np.arange(ROWS))
            pytest.fail(f"byte {place}")


def test_a_damaged_index_of_chunks_is_refused(path):
    """It may name rows that do not exist, as 64 bits of any kind."""
    whole = path.read_bytes()
    with h5py.File(path) as file:
        offset = file["data"].id.get_chunk_info(1).byte_offset
    entry = whole.index(offset.to_bytes(8, "little")) - 32  # before it: the first row, sensor, time point and byte
    for row in (32 + 1, 2**20, 2**63):
        path.write_bytes(whole[:entry] + row.to_bytes(8, "little") + whole[entry + 8 :])
        with refused(where=path):
            open_grouped(path).reader().read(np.arange(ROWS))


def test_a_simulated_recording_that_was_altered_is_named_when_it_is_read(tmp_path, capsys):
    simulate_recordings(tmp_path, minutes=1, sensors=6)
    meg = sorted(tmp_path.rglob("*_meg.h5"))[0]
    with h5py.File(meg, "a") as file:
        assert file["sensor_crc32"][:].tolist() == [zlib.crc32(row.tobytes()) for row in file["data"][:]]
        x = file["data"][:]
        file["data"][4, 17] *= 2
    recording = next(found for found in find_recordings(tmp_path) if found.meg == meg)
    np.testing.assert_array_equal(recording.read(slice(1, 4)), x[1:4])
    for sensors in (slice(4, 5), slice(3, 6), slice(None)):
        with refused("sensor 4", "CRC-32", where=meg):
            recording.read(sensors)
    status, _, err = inspect(capsys, tmp_path)
    assert status == 2 and "sensor 4" in err
    with h5py.File(meg, "a") as file:
        del file["sensor_crc32"]
    assert inspect(capsys, tmp_path)[0] == 0


@pytest.mark.parametrize("kind", ["grouped", "recording"])
def test_a_damaged_type_is_refused(path, tmp_path, kind):
    """A float of 32 bits whose sign is at bit 31 .. and whose exponent takes 0 bits, which no numpy type can hold."""
    if kind == "recording":
        write_session(tmp_path / "tree", 1, np.ones((2, 500), np.float32), [(0.1, "aa")])
        path = next(tmp_path.rglob("*_meg.h5"))
    whole = path.read_bytes()
    head = whole.index(bytes([0x11, 0x20, 0x1F, 0, 4, 0, 0, 0, 0, 0, 0x20, 0]))  # version, class and bits of float32
    place = whole.index(bytes([23, 8, 0, 23]), head)  # where the exponent is, its size; where the mantissa is, its size
    path.write_bytes(whole[:place] + bytes([31, 23, 8, 0]) + whole[place + 4 :])
    with refused("damaged", where=path):
        open_grouped(path) if kind == "grouped" else find_recordings(tmp_path / "tree")
