"""The stream feed: a pure function of (seed, step), with the class mix of the split whatever the file's order."""

import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats
from helpers.arrays import assert_same_arrays
from helpers.data import batches_of, grouped_path, open_grouped, write_grouped
from helpers.errors import refused
from helpers.feeds import RowOrder, by_row, stream_feed

COUNTS = np.array([300, 160, 90, 40, 10])  # rows of each class; 600 in all
NAMES = ["a", "b", "c", "d", "e"]


def write(folder: Path, counts: np.ndarray = COUNTS, bad_row: int | None = None):
    """The split of a file sorted by label, chunks of 32 rows; every number of row r is r."""
    n = int(counts.sum())
    data = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None], (n, 2, 3)).copy()
    if bad_row is not None:
        data[bad_row, 1, 2] = np.nan
    labels = np.repeat(np.arange(len(counts)), counts)
    return open_grouped(
        write_grouped(grouped_path(folder), data, labels, attributes={"classes": NAMES}, chunks=(min(32, n), 2, 3))
    )


@pytest.fixture
def split(tmp_path):
    """600 rows of 5 classes, sorted."""
    return write(tmp_path)


@pytest.fixture
def feed_of():
    """A stream feed, closed when the test ends."""
    feeds = []

    def make(split, **arguments):
        feeds.append(stream_feed(split, **arguments))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.close()


def rows_of(batch) -> np.ndarray:
    """Which rows a batch holds, by what is in them."""
    x, valid = batch["x"], batch["valid"]
    assert (x == x[:, :1, :1]).all()
    return x[valid, 0, 0].astype(int)


PINNED_UNIFORM = [[3, 0, 6, 7], [5, 8, 4, 9], [1, 2, -1, -1], [4, 3, 8, 0]]
PINNED_BALANCED = [[4, 9, 9, 0], [8, 4, 9, 8], [8, 9, -1, -1], [9, 1, 7, 9]]


def test_the_order_is_pinned():
    """A run can be repeated with another version of this package: these rows may never change."""
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
    uniform = RowOrder(labels, 4, 777)
    balanced = RowOrder(labels, 4, 777, "balanced")
    assert [uniform.row_numbers(step).tolist() for step in range(4)] == PINNED_UNIFORM
    assert [balanced.row_numbers(step).tolist() for step in range(4)] == PINNED_BALANCED
    assert uniform.row_numbers(3).tolist() == PINNED_UNIFORM[3]  # asked in any order
    assert uniform.row_numbers(0).tolist() == PINNED_UNIFORM[0]


@pytest.mark.parametrize("memory", [0, 2**30])
def test_each_row_comes_once_an_epoch_and_the_short_last_batch_is_padded(split, feed_of, memory):
    feed = feed_of(split, memory=memory)
    assert feed.order.steps_per_epoch == 10  # 9 x 64 + 24
    epochs = []
    for _ in range(3):
        batches = [next(feed) for _ in range(10)]
        for batch in batches:
            assert batch["x"].shape == (64, 2, 3) and batch["label"].shape == batch["valid"].shape == (64,)
            assert [batch[k].dtype for k in ("x", "label", "valid")] == [np.float32, np.int32, bool]
            np.testing.assert_array_equal(batch["label"][batch["valid"]], split.labels[rows_of(batch)])
        assert [int(batch["valid"].sum()) for batch in batches] == [64] * 9 + [24]
        assert not batches[-1]["x"][24:].any() and not batches[-1]["label"][24:].any()
        epochs.append(np.concatenate([rows_of(batch) for batch in batches]))
        np.testing.assert_array_equal(np.sort(epochs[-1]), np.arange(600))
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()


def test_a_split_smaller_than_a_batch_is_one_padded_batch_an_epoch(tmp_path, feed_of):
    small = write(tmp_path, np.array([3, 1, 1, 1, 1]))
    feed = feed_of(small, prefetch=3)
    assert feed.order.steps_per_epoch == 1
    for _ in range(5):
        np.testing.assert_array_equal(np.sort(rows_of(next(feed))), np.arange(7))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_batches_of_a_sorted_file_have_the_mix_of_the_split(split, feed_of, seed):
    """Reading in order gives batches of one class. The first half of an epoch has the mix if rows are shuffled over
    the whole split; a batch alone is a sample without replacement, of which chi-square is below its distribution."""
    feed = feed_of(split, seed=seed)
    batches = [next(feed) for _ in range(9)]
    expected = 64 * COUNTS / COUNTS.sum()
    for batch in batches:
        assert scipy.stats.chisquare(np.bincount(batch["label"], minlength=5), expected).pvalue > 1e-4
    half = sum(np.bincount(batch["label"], minlength=5) for batch in batches[:5])
    assert scipy.stats.chisquare(half, 5 * expected).pvalue > 1e-3
    in_order = np.bincount(batches_of(split, 64)[0]["label"], minlength=5)
    assert scipy.stats.chisquare(in_order, expected).pvalue < 1e-6  # the test can fail


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_neighbours_in_the_file_are_not_neighbours_in_the_order(split, seed):
    """Single rows are shuffled, no blocks of them: of 599 pairs, 2 are expected to be neighbours by chance."""
    order = RowOrder(split.labels, 600, seed).row_numbers(0)
    assert (np.abs(np.diff(order)) == 1).sum() <= 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_balanced_draws_classes_equally_and_rows_of_a_class_equally(split, feed_of, seed):
    feed = feed_of(split, seed=seed, sampling="balanced")
    batches = [next(feed) for _ in range(100)]
    rows = np.concatenate([rows_of(batch) for batch in batches])
    assert len(rows) == 6000 and feed.order.steps_per_epoch == 10  # an epoch has as many draws as the split has rows
    counts = np.bincount(split.labels[rows], minlength=5)
    assert scipy.stats.chisquare(counts, np.full(5, 1200)).pvalue > 1e-3
    assert scipy.stats.chisquare(counts, 6000 * COUNTS / 600).pvalue < 1e-6
    for label in range(5):
        drawn = np.bincount(rows[split.labels[rows] == label] - COUNTS[:label].sum(), minlength=COUNTS[label])
        assert len(drawn) == COUNTS[label] and scipy.stats.chisquare(drawn).pvalue > 1e-3


def test_balanced_goes_on_without_a_class(tmp_path, feed_of):
    lacking = write(tmp_path, np.array([50, 0, 30, 20, 0]))
    feed = feed_of(lacking, sampling="balanced")
    labels = np.concatenate([next(feed)["label"] for _ in range(2)])[:100]
    assert set(labels.tolist()) == {0, 2, 3}


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
@pytest.mark.parametrize("stop", [0, 1, 7, 10, 23])
def test_a_restored_feed_gives_the_rest_of_the_sequence(split, feed_of, sampling, stop):
    first = feed_of(split, sampling=sampling)
    for _ in range(stop):
        next(first)
    state = first.state()
    assert state == {"next_step": stop}  # not what was read ahead
    rest = [next(first) for _ in range(12)]
    second = feed_of(split, sampling=sampling, memory=2**30, prefetch=1)
    next(second)
    second.restore(state)
    for batch in rest:
        assert_same_arrays(next(second), batch)
    first.restore(state)
    assert_same_arrays(next(first), rest[0])


def test_seeds_differ(split):
    assert (RowOrder(split.labels, 64, 0).row_numbers(0) != RowOrder(split.labels, 64, 1).row_numbers(0)).any()


def test_hosts_share_the_global_batch_without_overlap(split, feed_of):
    whole = feed_of(split)
    hosts = [feed_of(split, process_index=i, process_count=4) for i in range(4)]
    for _ in range(11):  # over the epoch's end, where a host has nothing but padding
        expected, parts = next(whole), [next(host) for host in hosts]
        assert all(part["x"].shape == (16, 2, 3) for part in parts)
        assert_same_arrays({k: np.concatenate([part[k] for part in parts]) for k in expected}, expected)
    for make in (feed_of, lambda *a, **k: batches_of(*a, 64, **k)):
        with refused("64 rows", "3 hosts", "batch_size=63"):
            make(split, process_index=0, process_count=3)


def test_batches_are_placed_ahead_and_none_is_written_over(split, feed_of):
    placed: list[tuple[dict, np.ndarray]] = []

    def place(batch):
        placed.append((batch, batch["x"].copy()))
        return len(placed) - 1

    feed = feed_of(split, place=place, prefetch=3)
    assert [next(feed) for _ in range(20)] == list(range(20))
    assert len(placed) == 22  # the last one handed out and two ahead
    for batch, as_placed in placed:
        np.testing.assert_array_equal(batch["x"], as_placed)


@pytest.mark.parametrize("devices", [1, 8])
def test_placed_batches_keep_their_rows_while_later_ones_are_read(split, feed_of, devices):
    """Some are kept and others dropped at once, so that memory is used again beside memory in use."""
    expected = RowOrder(split.labels, 64, 3)
    feed = feed_of(split, place=lambda batch: jax.device_put(batch, by_row(devices)))
    kept = {}
    for step in range(60):
        batch = next(feed)
        np.testing.assert_array_equal(
            rows_of({k: np.asarray(v) for k, v in batch.items()}),
            [row for row in expected.row_numbers(step) if row >= 0],
        )
        if step % 7 == 0:
            kept[step] = batch
        del batch
    for step, batch in kept.items():
        np.testing.assert_array_equal(
            rows_of({k: np.asarray(v) for k, v in batch.items()}),
            [row for row in expected.row_numbers(step) if row >= 0],
        )


def test_few_batches_are_read_ahead(split, feed_of, monkeypatch):
    """Memory is bounded: after 500 elements ahead (grain's default) a 10 GB split would be read whole."""
    read: list[int] = []
    row_numbers = RowOrder.row_numbers

    def noted(self, step):
        read.append(step)
        return row_numbers(self, step)

    monkeypatch.setattr(RowOrder, "row_numbers", noted)
    feed = feed_of(split)
    for _ in range(3):
        next(feed)
    time.sleep(0.3)
    assert max(read) <= 3 + 2 + 5


def test_the_time_that_next_took_is_counted(split, feed_of):
    feed = feed_of(split, place=lambda batch: time.sleep(0.05), prefetch=1)
    began = time.perf_counter()
    next(feed), next(feed)
    most = time.perf_counter() - began
    assert 0.1 <= feed.take_input_wait() <= most
    assert feed.take_input_wait() == 0


def grain_threads() -> int:
    return sum(thread.name.startswith("grain") for thread in threading.enumerate())


def test_close_ends_the_threads(split, feed_of):
    before = grain_threads()
    feed = feed_of(split)
    next(feed)
    assert grain_threads() > before
    feed.close()
    feed.close()
    deadline = time.monotonic() + 10
    while grain_threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert grain_threads() == before


def test_errors_of_reading_threads_reach_the_caller_as_they_are(tmp_path, feed_of):
    bad = write(tmp_path, bad_row=123)
    feed = feed_of(bad)
    with refused("row 123", "nan", "sensor 1", "time point 2", where=bad.path):
        for _ in range(10):
            next(feed)
    with refused("row 123"):
        feed_of(bad, memory=2**30)
    with refused("row 123"):
        batches_of(bad, 64)


@pytest.mark.parametrize("batch_size", [1, 50, 64, 600, 1000])
def test_one_pass_in_file_order(split, batch_size):
    batches = batches_of(split, batch_size)
    assert len(batches) == -(-600 // batch_size)
    assert all(batch["x"].shape == (batch_size, 2, 3) for batch in batches)
    np.testing.assert_array_equal(np.concatenate([rows_of(batch) for batch in batches]), np.arange(600))
    labels = np.concatenate([batch["label"][batch["valid"]] for batch in batches])
    np.testing.assert_array_equal(labels, split.labels)
    last, valid = batches[-1], batches[-1]["valid"]
    assert not last["x"][~valid].any() and not last["label"][~valid].any()


def test_one_pass_is_shared_by_hosts_and_placed(split):
    whole = batches_of(split, 64)
    parts = [batches_of(split, 64, process_index=i, process_count=4) for i in range(4)]
    for expected, *shares in zip(whole, *parts, strict=True):
        assert_same_arrays({k: np.concatenate([share[k] for share in shares]) for k in expected}, expected)
    assert batches_of(split, 100, place=lambda batch: int(batch["x"][0, 0, 0])) == [
        0,
        100,
        200,
        300,
        400,
        500,
    ]
