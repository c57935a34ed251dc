"""Training data of one level or several, from grouped files or shards: the same rows, once an epoch."""

import jax
import numpy as np
import pytest
from helpers import ONE_SCHEDULE, TINY_MODEL
from helpers.data import ShardSettings, all_rows, batches_of, open_split, simulate_grouped, write_shards
from helpers.errors import refused
from helpers.feeds import stream_feed, take
from helpers.runs import evaluate, losses, train

from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.data.open import open_training
from demega_jax.signal.normalize import normalize
from demega_jax.training.setup import is_normalized
from demega_jax.training.step import inputs

SMALL = [
    *TINY_MODEL,
    ONE_SCHEDULE,
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps=4",
    "train.eval_every=4",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    simulate_grouped(folder / "files", levels=[5, 10], groups=90, sensors=5, time_points=9, seed=1)
    for how in ("median_iqr", "raw"):
        write_shards(
            folder / "files",
            folder / how,
            levels=[5, 10],
            splits=("train", "validation", "test"),
            settings=ShardSettings(norm=how, dtype="float32"),
        )
    return folder


def rows_of(folder, level) -> np.ndarray:
    """Rows of a split in file order, normalised as the step does it."""
    split = open_split(folder, level)
    how = is_normalized(Config(), split)
    return np.concatenate([np.asarray(inputs(b, "median_iqr", how))[b["valid"]] for b in batches_of(split, 32)])


@pytest.mark.parametrize("how", ["median_iqr", "raw"])
@pytest.mark.slow
def test_the_step_sees_the_same_windows_from_shards(data, how):
    from_files = rows_of(data / "files", 10)
    from_shards = rows_of(data / how, 10)
    # Shards are permuted: rows are matched by their first values.
    order, other = (np.lexsort(x.reshape(len(x), -1)[:, :3].T.round(4)) for x in (from_files, from_shards))
    np.testing.assert_allclose(from_shards[other], from_files[order], rtol=1e-4, atol=1e-5)
    batch = batches_of(open_split(data / "files", 10), 90)[0]
    np.testing.assert_allclose(from_files, np.asarray(normalize(batch["x"], "median_iqr")), rtol=1e-6)


def test_several_levels_are_one_split(data):
    both = open_split(data / "files", (5, 10))
    one, other = (open_split(data / "files", level) for level in (5, 10))
    assert both.rows == one.rows + other.rows == 180
    np.testing.assert_array_equal(both.class_counts(), one.class_counts() + other.class_counts())
    np.testing.assert_array_equal(all_rows(both), np.concatenate([all_rows(one), all_rows(other)]))


@pytest.mark.parametrize("source", ["files", "median_iqr", "raw"])
@pytest.mark.parametrize("memory", [0, 10**9])
def test_several_levels_give_each_row_once_an_epoch(data, source, memory):
    both = open_split(data / source, (5, 10))
    every = all_rows(both)
    feed = stream_feed(both, batch_size=32, memory=memory)
    try:
        batches = take(feed, feed.order.steps_per_epoch)
    finally:
        feed.close()
    x = np.concatenate([b["x"][b["valid"]] for b in batches])
    assert x.shape == every.shape
    first = [np.lexsort(a.reshape(len(a), -1)[:, :3].T) for a in (x, every)]
    np.testing.assert_array_equal(x[first[0]], every[first[1]])


@pytest.mark.parametrize("source", ["files", "median_iqr", pytest.param("raw", marks=pytest.mark.long)])
@pytest.mark.slow
def test_train_and_evaluate_from_the_command_line(data, source, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(data / source, run, "--level", "5,10", *SMALL) == 0
    each = (("5", 11), ("10", 11)) if source == "files" else ()
    for level, rows in (*each, ("5,10", 22)):
        assert sum(map(sum, evaluate(run, tmp_path / "scores.json", "--level", level)["confusion"])) == rows
    capsys.readouterr()


@pytest.mark.long
def test_shards_and_files_train_alike(data, tmp_path, capsys):
    """From shards that are not permuted the run is that of the files, but for rounding."""
    more = ["train.batch_size=96", "model.dropout=0.0", "train.log_every=1"]  # all rows: their order is no matter
    for source in ("files", "raw"):
        assert train(data / source, tmp_path / source, "--level", 10, *SMALL, *more) == 0
    files, shards = losses(tmp_path / "files"), losses(tmp_path / "raw")
    assert len(files) == 4
    np.testing.assert_allclose(shards, files, rtol=2e-4)
    capsys.readouterr()


def test_other_normalisation_is_refused(data):
    split = open_split(data / "median_iqr", 5)
    with refused("median_iqr", "instance", "model.input_norm"):
        is_normalized(Config(model={"input_norm": "instance"}), split)
    assert is_normalized(Config(), split)
    assert not is_normalized(Config(), open_split(data / "raw", 5))


def test_raw_shards_need_no_sort_in_the_step(data):
    """Median and IQR travel with the rows."""
    batch = batches_of(open_split(data / "raw", 10), 32)[0]
    text = jax.jit(lambda b: inputs(b, "median_iqr", False)).lower(batch).as_text()
    assert set(batch) == {"x", "label", "valid", "median", "iqr"} and "sort" not in text and "minimum" not in text


def test_keys_of_regroup_with_another_feed_are_refused(tmp_path):
    """They would be read by nothing."""
    for key, value in (("splits", "splits.json"), ("tmax", 0.4), ("drop_remaining", True)):
        config = override(Config(), {"data.path": str(tmp_path), f"data.regroup.{key}": value}, "test")
        with refused(value, "stream", "data.feed=regroup", where=f"data.regroup.{key}"):
            open_training(config)
