"""What is written: every row once, normalised in float, the same bytes from the same seed."""

import json

import numpy as np
import pytest
from helpers.data import ShardSettings, open_shards, write_shards
from helpers.errors import the_warning
from helpers.runs import files_in
from helpers.shards import NORMS, ROWS, SENSORS, SMALL, TIME_POINTS, normalised, read_all, source_rows, write_source


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("how", NORMS)
def test_each_row_comes_once_normalised_in_float(source, tmp_path, how, dtype):
    made = ShardSettings(norm=how, dtype=dtype, shard_bytes=5000, memory=1)
    folder = write_shards(source, tmp_path, settings=made)[0].parent
    rounding = 2.0**-11 if dtype == "float16" else 2e-5
    for split, rows in ROWS.items():
        found = read_all(folder, split)
        assert found["data"].dtype == dtype and found["labels"].dtype == found["rows"].dtype == np.int64
        np.testing.assert_array_equal(np.sort(found["rows"]), np.arange(rows))
        assert (found["rows"] == np.arange(rows)).all() == (split != "train")
        expected = normalised(source_rows(source, split), how)[found["rows"]]
        np.testing.assert_allclose(found["data"], expected, rtol=rounding * 1.1, atol=rounding / 10 + 2e-5)
        np.testing.assert_array_equal(found["labels"], np.sort(np.arange(rows) % 3)[found["rows"]])
        assert set(found) == {"data", "labels", "rows"}


def test_raw_shards_hold_the_rows_and_their_statistics(source, raw):
    found, x = read_all(raw), source_rows(source)
    np.testing.assert_array_equal(found["data"], x[found["rows"]].astype(np.float32))
    low, high = np.quantile(x, [0.25, 0.75], axis=-1)
    np.testing.assert_allclose(found["iqr"], (high - low)[found["rows"]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        found["median"], np.quantile(x, 0.5, axis=-1, method="lower")[found["rows"]].astype(np.float32)
    )
    split = open_shards(raw, "train")
    assert split.has_statistics and split.normalization is None
    median, iqr = (split.row_arrays[name] for name in ("median", "iqr"))
    assert median.dtype == iqr.dtype == np.float32
    np.testing.assert_array_equal(median, found["median"])
    np.testing.assert_array_equal(iqr, found["iqr"])


def test_the_mix_of_classes_no_longer_depends_on_the_place(shards):
    labels = read_all(shards)["labels"]
    counts = np.stack([np.bincount(labels[first : first + 64], minlength=3) for first in (0, 64, 128)])
    assert counts.min() > 8  # of 21 expected; sorted, most would be 0


def test_the_same_seed_gives_the_same_bytes_whatever_the_memory_and_another_seed_another_order(
    source, shards, tmp_path
):
    again = ShardSettings(shard_bytes=SMALL.shard_bytes, memory=2**28)
    assert files_in(write_shards(source, tmp_path / "same", settings=again)[0].parent) == files_in(shards)
    other = ShardSettings(shard_bytes=SMALL.shard_bytes, seed=778)
    folder = write_shards(source, tmp_path / "other", settings=other)[0].parent
    assert (read_all(folder)["rows"] != read_all(shards)["rows"]).mean() > 0.9


def test_values_beyond_half_precision_are_cut_and_counted(tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((ROWS["train"], SENSORS, TIME_POINTS)).astype(np.float32)
    x[7, 1] = 0  # its interquartile range is 0, so whatever is not 0 is divided by 1e-6
    x[7, 1, :2] = [0.07, -0.07]
    x[100, 2] = 0
    x[100, 2, 5] = 1.0
    x[101, 2] = 0
    x[101, 2, 5] = 0.05  # 50,000: fits
    source = write_source(tmp_path, data={"train": x})
    folder = write_shards(source, tmp_path / "out", settings=SMALL)[0].parent
    found = read_all(folder)
    place = {row: i for i, row in enumerate(found["rows"].tolist())}
    limit = np.float32(np.float16(6e4))
    assert found["data"][place[7], 1, :3].tolist() == [limit, -limit, 0]
    assert found["data"][place[100], 2, 5] == limit
    assert 49_900 < found["data"][place[101], 2, 5] < 50_100
    train = json.loads((folder / "manifest.json").read_text())["splits"]["train"]
    assert train["saturated"] == 3 == sum(shard["saturated"] for shard in train["shards"])
    the_warning(capsys.readouterr().err.splitlines(), "3", f"{203 * SENSORS * TIME_POINTS} values")
    full = ShardSettings(dtype="float32")
    wide = read_all(write_shards(source, tmp_path / "full", settings=full)[0].parent)
    assert wide["data"].max() > 9e5


def test_compressed_sources_give_the_same_rows(source, shards, tmp_path):
    packed = write_source(tmp_path / "packed", compression="gzip")
    found = read_all(write_shards(packed, tmp_path / "out", settings=SMALL)[0].parent)
    for name, values in read_all(shards).items():
        np.testing.assert_array_equal(found[name], values)
