"""Shards are opened, verified and read; damage is named."""

import os
import shutil

import h5py
import numpy as np
import pytest
from helpers.data import MemoryRows, OffsetRows, open_grouped, open_rows, open_shards, verify
from helpers.errors import refused
from helpers.runs import flip_bit
from helpers.shards import SENSORS, TIME_POINTS, read_all


def test_what_is_opened(source, shards):
    split = open_shards(shards, "train", classes=["c", "b", "a", "d"], expect_shape=(SENSORS, None))
    original = open_grouped(source / "grouped_5" / "train_grouped.h5")
    assert (split.path, split.name, split.level, split.rows) == (shards / "train", "train", 5, 203)
    assert (split.sensors, split.time_points, split.reference_macro_f1) == (
        SENSORS,
        TIME_POINTS,
        original.reference_macro_f1,
    )
    assert (split.dtype, split.normalization, split.has_statistics) == (np.float16, "median_iqr", False)
    assert split.classes == ("c", "b", "a", "d") and split.nbytes == 203 * SENSORS * TIME_POINTS * 2
    assert [(shard.first, shard.rows) for shard in split.shards] == [(0, 64), (64, 64), (128, 64), (192, 11)]
    np.testing.assert_array_equal(split.labels, 2 - original.labels[read_all(shards)["rows"]])
    with refused("c", "2 classes"):
        open_shards(shards, "train", classes=["a", "b"])
    with refused(f"{SENSORS} sensors", f"{TIME_POINTS} time points", f"306 x {TIME_POINTS}"):
        open_shards(shards, "train", expect_shape=(306, None))
    assert verify(split) == 4 and verify(shards) == 6


def test_damage_is_named(shards, tmp_path):
    folder = tmp_path / "grouped_5"
    shutil.copytree(shards, folder)
    shard = folder / "train" / "shard-00002.h5"
    flip_bit(shard, -700)
    with refused("altered", where=shard):
        open_shards(folder, "train")
    with refused("altered", where=shard):
        verify(folder)
    split = open_shards(folder, "train", verify=False)
    assert verify(open_shards(folder, "test")) == 1
    size = shard.stat().st_size
    os.truncate(shard, size - 1)
    with refused(f"{size - 1} bytes", f"{size} bytes", where=shard):
        open_shards(folder, "train", verify=False)
    os.truncate(shard, 100)
    with refused("truncated", "row 3", where=shard):
        split.reader().read(np.array([131]))
    shard.unlink()
    with refused("missing", where=shard):
        open_shards(folder, "train", verify=False)
    with refused("No such file", where=shard):
        split.reader().read(np.array([131]))


@pytest.mark.parametrize("out_dtype", [None, np.float16, np.float32])
def test_readers_give_the_rows_of_the_shards(shards, raw, out_dtype):
    for folder in (shards, raw):
        split, stored = open_shards(folder, "train"), read_all(folder)["data"]
        assert isinstance(open_rows(split, split.nbytes - 1), OffsetRows)
        assert isinstance(open_rows(split, split.nbytes), MemoryRows)
        orders = [np.random.default_rng(seed).integers(0, 203, 300) for seed in range(3)] + [np.arange(203)]
        for memory in (0, 2**30):
            reader = open_rows(split, memory)
            for rows in orders:
                out = None if out_dtype is None else np.empty((len(rows), SENSORS, TIME_POINTS), out_dtype)
                x = reader.read(rows, out)
                assert x.dtype == (out_dtype or split.dtype) and (out is None or x is out)
                np.testing.assert_array_equal(x, stored[rows].astype(x.dtype))


def test_a_value_that_is_not_finite_names_the_shard_and_its_row(shards, tmp_path):
    folder = tmp_path / "grouped_5"
    shutil.copytree(shards, folder)
    split = open_shards(folder, "train")
    for value, word in [(np.inf, "inf"), (np.nan, "nan")]:
        with h5py.File(folder / "train" / "shard-00001.h5", "r+") as file:
            file["data"][5, 2, 7] = value
        with refused("row 5", word, "sensor 2", "time point 7", where=folder / "train" / "shard-00001.h5"):
            split.reader().read(np.arange(203))
