"""The stream feed over shards: blocks in a new order, each row once an epoch, with its statistics."""

import numpy as np
import pytest
from helpers.arrays import assert_same_arrays
from helpers.data import batches_of, open_shards
from helpers.feeds import PADDING, BlockOrder, RowOrder, order_of, stream_feed
from helpers.shards import SENSORS, read_all


def test_only_permuted_rows_are_read_in_blocks(shards):
    train, validation = open_shards(shards, "train"), open_shards(shards, "validation")
    assert isinstance(order_of(train, 8, 0), BlockOrder)
    assert isinstance(order_of(train, 8, 0, "balanced"), RowOrder)
    assert isinstance(order_of(validation, 8, 0), RowOrder)  # in the source's order: sorted by label, for all we know


@pytest.fixture
def feed_of():
    """A stream feed, closed when the test ends."""
    feeds = []

    def make(split, **arguments):
        feeds.append(stream_feed(split, batch_size=32, **arguments))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.close()


@pytest.mark.parametrize("memory", [0, 2**30])
def test_the_feed_gives_each_row_once_an_epoch_as_it_is_stored(shards, feed_of, memory):
    split, stored = open_shards(shards, "train"), read_all(shards)["data"]
    feed, order = feed_of(split, memory=memory), BlockOrder([64, 64, 64, 11], 16, 32, 3)
    assert feed.order.steps_per_epoch == 7
    for epoch in range(2):
        seen = []
        for place in range(7):
            batch, rows = next(feed), order.row_numbers(epoch * 7 + place)
            assert [batch[k].dtype for k in ("x", "label", "valid")] == [np.float16, np.int32, bool]
            assert set(batch) == {"x", "label", "valid"}
            valid = rows != PADDING
            np.testing.assert_array_equal(batch["valid"], valid)
            np.testing.assert_array_equal(batch["x"][valid], stored[rows[valid]])
            np.testing.assert_array_equal(batch["label"][valid], split.labels[rows[valid]])
            assert not batch["x"][~valid].any() and not batch["label"][~valid].any()
            seen += rows[valid].tolist()
        assert sorted(seen) == list(range(203))


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
@pytest.mark.parametrize("stop", [0, 3, 7, 12])
def test_a_restored_feed_goes_on_in_the_middle_of_an_epoch(raw, feed_of, sampling, stop):
    split = open_shards(raw, "train")
    first = feed_of(split, sampling=sampling)
    for _ in range(stop):
        next(first)
    state = first.state()
    rest = [next(first) for _ in range(8)]
    second = feed_of(split, sampling=sampling, memory=2**30)
    second.restore(state)
    for batch in rest:
        assert_same_arrays(next(second), batch)


def test_hosts_share_batches_without_overlap(raw, feed_of):
    split = open_shards(raw, "train")
    whole = feed_of(split)
    hosts = [feed_of(split, process_index=i, process_count=4) for i in range(4)]
    for _ in range(8):
        expected, parts = next(whole), [next(host) for host in hosts]
        assert_same_arrays({k: np.concatenate([part[k] for part in parts]) for k in expected}, expected)


def test_statistics_come_along(raw, feed_of):
    split, stored = open_shards(raw, "train"), read_all(raw)
    feed = feed_of(split)
    order = order_of(split, 32, 3)
    for step in range(7):
        batch, rows = next(feed), order.row_numbers(step)
        valid = rows != PADDING
        assert batch["x"].dtype == batch["median"].dtype == batch["iqr"].dtype == np.float32
        for name, padding in [("median", 0), ("iqr", 1)]:
            np.testing.assert_array_equal(batch[name][valid], stored[name][rows[valid]])
            assert batch[name].shape == (32, SENSORS) and (batch[name][~valid] == padding).all()
    assert not valid.all()


@pytest.mark.parametrize("split_name", ["train", "validation"])
def test_one_pass_in_order(shards, raw, split_name):
    for folder in (shards, raw):
        split, stored = open_shards(folder, split_name), read_all(folder, split_name)
        batches = batches_of(split, 32)
        whole = {k: np.concatenate([batch[k][batch["valid"]] for batch in batches]) for k in batches[0]}
        np.testing.assert_array_equal(whole["x"], stored["data"])
        np.testing.assert_array_equal(whole["label"], stored["labels"])
        assert whole["x"].dtype == split.dtype and ("median" in whole) == split.has_statistics
        if split.has_statistics:
            np.testing.assert_array_equal(whole["iqr"], stored["iqr"])
