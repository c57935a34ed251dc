"""What splits and plans answer before anything is read, and what they read once."""

import dataclasses

import numpy as np
import pytest
from helpers.data import ShardSettings, open_split, simulate_grouped, write_shards
from helpers.feeds import regroup_plan, resident_feed, stream_feed, take
from helpers.recordings import CLASSES, recorded, write_marked
from helpers.training import placement_of

from demega_jax.config import Config
from demega_jax.data.combined import ArraySplit
from demega_jax.data.open import plan_rows
from demega_jax.data.shards.reader import ShardedSplit

ROWS, SENSORS, TIME_POINTS = 93, 5, 9


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder / "files", levels=[5, 10], groups=ROWS, sensors=SENSORS, time_points=TIME_POINTS, seed=1)
    write_shards(folder / "files", folder / "raw", settings=ShardSettings(norm="raw"))
    return folder


def test_row_statistics_are_read_once(data, monkeypatch):
    reads = []
    read = ShardedSplit.read_row_arrays
    monkeypatch.setattr(ShardedSplit, "read_row_arrays", lambda self: reads.append(self.name) or read(self))
    split = open_split(data / "raw", 5)
    plan = plan_rows(Config.model_validate({"train": {"batch_size": 16}}), split)
    assert set(plan.batch) == {"x", "label", "valid", "median", "iqr"} and plan.steps_per_epoch == 6
    assert reads == []  # a plan reads nothing
    feed = plan.open(placement_of("jit", 1, 16))
    take(feed, 3)
    feed.close()
    resident_feed(split).close()
    assert reads == ["train"]


def test_statistics_of_levels_together_are_those_of_each(data):
    both = open_split(data / "raw", (5, 10)).row_arrays
    parts = [open_split(data / "raw", level).row_arrays for level in (5, 10)]
    for name in ("median", "iqr"):
        np.testing.assert_array_equal(both[name], np.concatenate([part[name] for part in parts]))


@pytest.mark.parametrize("where", ["files", "raw"])
@pytest.mark.parametrize("feed", ["stream", "resident"])
def test_a_plan_tells_the_batches_that_come(data, where, feed):
    split = open_split(data / where, 5)
    config = Config.model_validate({"data": {"feed": feed}, "train": {"batch_size": 16}})
    plan, placement = plan_rows(config, split), placement_of("jit", 2, 16)
    opened = plan.open(placement)
    batches = take(opened, plan.steps_per_epoch)
    opened.close()
    for name, (shape, dtype) in plan.batch.items():
        assert batches[0][name].shape == (16, *shape) and batches[0][name].dtype == dtype
    assert sum(int(batch["valid"].sum()) for batch in batches) == ROWS == plan.rows.rows
    each = ROWS // 16 + 1
    # The resident feed uses statistics once, when it fills the devices.
    statistics = 2 * SENSORS * 4 if where == "raw" and feed == "stream" else 0
    held = 4 * 12 * (SENSORS * TIME_POINTS * 4 + statistics)  # 93 rows in 8 shares of 12, 4 of them on a device
    assert (plan.steps_per_epoch, plan.device_bytes(2)) == (each, held if feed == "resident" else 0)
    stored = 2 if where == "raw" and feed == "stream" else 4
    assert plan.input_bytes == 16 * (SENSORS * TIME_POINTS * stored + 4 + 1 + statistics)


def test_recordings_for_regrouping_have_labels_and_no_rows_to_read(tmp_path):
    plan = regroup_plan(recorded(write_marked(tmp_path), 5), CLASSES)
    counts = [14, 5, 5, 1]  # 70, 23, 24 and 3 windows in groups of 5
    assert plan.rows.class_counts().tolist() == counts and not hasattr(plan.rows, "reader")
    assert set(plan.batch) == {"x", "label", "valid"} and plan.batch["x"].dtype == np.float32


def test_a_sample_is_from_all_over_a_split():
    x = np.arange(100, dtype=np.float16)[:, None, None] * np.ones((1, 2, 3), np.float16)
    split = ArraySplit(
        path="memory",
        name="train",
        level=None,
        sensors=2,
        time_points=3,
        classes=("a", "b"),
        labels=np.zeros(100, np.int32),
        x=x,
    )
    sample = split.sample(5)
    assert sample.dtype == np.float32 and sample[:, 0, 0].tolist() == [0, 25, 50, 74, 99]
    assert split.sample(1000).shape == (100, 2, 3)
    assert dataclasses.replace(split, x=x[:1], labels=split.labels[:1]).sample(5).shape == (1, 2, 3)


def test_a_split_in_memory_feeds_as_one_from_disk(data):
    split = open_split(data / "files", 5)
    rows = np.arange(ROWS)
    held = ArraySplit(
        path=split.path,
        name=split.name,
        level=split.level,
        sensors=SENSORS,
        time_points=TIME_POINTS,
        classes=split.classes,
        labels=split.labels,
        x=split.reader().read(rows),
    )
    for ours, theirs in zip(take(stream_feed(held), 3), take(stream_feed(split), 3), strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])
