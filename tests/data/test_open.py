"""Training data of one level or several, from grouped files or shards: the same rows, once an epoch."""

import json

import jax
import numpy as np
import pytest
from helpers import TINY_MODEL

from demega_jax.cli import main
from demega_jax.config import Config
from demega_jax.data.feeds.stream import StreamFeed, split_batches
from demega_jax.data.levels import open_levels
from demega_jax.data.shards.plan import ShardSettings
from demega_jax.data.shards.writer import write_shards
from demega_jax.data.simulate.grouped import simulate_grouped
from demega_jax.errors import UserError
from demega_jax.signal.normalize import normalize
from demega_jax.training.setup import normalised_already
from demega_jax.training.step import inputs

SMALL = [
    *TINY_MODEL, "train.batch_size=16", "train.epochs=null", "train.steps=4", "train.eval_every=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    simulate_grouped(folder / "files", levels=[5, 10], groups=90, sensors=5, time_points=9, seed=1)
    for how in ("median_iqr", "raw"):
        write_shards(
            folder / "files", folder / how, levels=[5, 10], splits=("train", "validation", "test"),
            settings=ShardSettings(norm=how, dtype="float32"),
        )  # fmt: skip
    return folder


def rows_of(folder, level) -> np.ndarray:
    """Rows of a split in file order, normalised as the step does it."""
    split = open_levels(folder, level, "train")
    how = normalised_already(Config(), split)
    batches = list(split_batches(split, batch_size=32))
    x = np.concatenate([np.asarray(inputs(b, "median_iqr", how))[b["valid"]] for b in batches])
    return x


@pytest.mark.parametrize("how", ["median_iqr", "raw"])
def test_the_step_sees_the_same_windows_from_shards(data, how):
    from_files = rows_of(data / "files", 10)
    from_shards = rows_of(data / how, 10)
    # Shards are permuted: rows are matched by their first values.
    order, other = (np.lexsort(x.reshape(len(x), -1)[:, :3].T.round(4)) for x in (from_files, from_shards))
    np.testing.assert_allclose(from_shards[other], from_files[order], rtol=1e-4, atol=1e-5)
    raw = open_levels(data / "files", 10, "train")
    batch = next(iter(split_batches(raw, batch_size=90)))
    np.testing.assert_allclose(from_files, np.asarray(normalize(batch["x"], "median_iqr")), rtol=1e-6)


def test_several_levels_are_one_split(data):
    both = open_levels(data / "files", (5, 10), "train")
    one, other = (open_levels(data / "files", level, "train") for level in (5, 10))
    assert both.rows == one.rows + other.rows == 180
    np.testing.assert_array_equal(both.class_counts(), one.class_counts() + other.class_counts())
    wanted = np.concatenate([b["x"][b["valid"]] for s in (one, other) for b in split_batches(s, batch_size=50)])
    got = np.concatenate([b["x"][b["valid"]] for b in split_batches(both, batch_size=50)])
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("source", ["files", "median_iqr", "raw"])
@pytest.mark.parametrize("memory", [0, 10**9])
def test_several_levels_give_each_row_once_an_epoch(data, source, memory):
    both = open_levels(data / source, (5, 10), "train")
    every = np.concatenate([b["x"] for b in split_batches(both, batch_size=180)])
    feed = StreamFeed(both, batch_size=32, seed=3, memory=memory)
    try:
        batches = [{k: np.array(v) for k, v in next(feed).items()} for _ in range(feed.steps_per_epoch)]
    finally:
        feed.close()
    x = np.concatenate([b["x"][b["valid"]] for b in batches])
    assert x.shape == every.shape
    first = [np.lexsort(a.reshape(len(a), -1)[:, :3].T) for a in (x, every)]
    np.testing.assert_array_equal(x[first[0]], every[first[1]])


@pytest.mark.parametrize("source", ["files", "median_iqr", "raw"])
def test_train_and_evaluate_from_the_command_line(data, source, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["train", "configs/tiny.yaml", "--data", data / source, "--level", "5,10", "--run", run, "--devices", 1]
    assert main([str(a) for a in [*arguments, *SMALL]]) == 0
    for level, rows in (("5", 11), ("10", 11), ("5,10", 22)):
        out = tmp_path / f"{level}.json"
        assert main(["evaluate", str(run), "--level", level, "--json", str(out)]) == 0
        assert sum(map(sum, json.loads(out.read_text())["confusion"])) == rows
    capsys.readouterr()


def test_shards_and_files_train_alike(data, tmp_path, capsys):
    """From shards that are not permuted the run is that of the files, but for rounding."""
    losses = []
    for source in ("files", "raw"):
        run = tmp_path / source
        arguments = ["train", "configs/tiny.yaml", "--data", data / source, "--level", 10, "--run", run, "--devices", 1]
        more = ["train.batch_size=96", "model.dropout=0.0", "train.log_every=1"]  # all rows: their order is no matter
        assert main([str(a) for a in [*arguments, *SMALL, *more]]) == 0
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["split"] == "train"])
    assert len(losses[0]) == 4
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-4)
    capsys.readouterr()


def test_other_normalisation_is_refused(data):
    split = open_levels(data / "median_iqr", 5, "train")
    with pytest.raises(UserError, match=r"normalised by median_iqr; wanted by instance"):
        normalised_already(Config(model={"input_norm": "instance"}), split)
    assert normalised_already(Config(), split)
    assert not normalised_already(Config(), open_levels(data / "raw", 5, "train"))


def test_raw_shards_need_no_sort_in_the_step(data):
    """Median and IQR travel with the rows."""
    batch = next(iter(split_batches(open_levels(data / "raw", 10, "train"), batch_size=32)))
    text = jax.jit(lambda b: inputs(b, "median_iqr", False)).lower(batch).as_text()
    assert set(batch) == {"x", "label", "valid", "median", "iqr"} and "sort" not in text and "minimum" not in text
