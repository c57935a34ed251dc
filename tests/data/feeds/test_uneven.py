"""Any number of devices: where a batch does not divide over them, rows of padding come after it, and it is the same."""

from pathlib import Path

import numpy as np
import pytest
from helpers.arrays import assert_same_arrays
from helpers.data import open_split, simulate_grouped
from helpers.feeds import assert_nothing_crosses, regroup_feed, resident_feed, stream_feed, take
from helpers.recordings import write_marked

pytestmark = pytest.mark.usefixtures("own_cache")


def assert_same_and_padding(batches, wanted, rows: int) -> None:
    """The first rows of each batch are those that are wanted, and all others are padding."""
    for batch, want in zip(batches, wanted, strict=True):
        size = len(want["valid"])
        assert {len(values) for values in batch.values()} == {rows}
        assert not batch["valid"][size:].any()
        kept = {name: values[:size] for name, values in batch.items()}
        # Rows that are padding anyway, at the end of an epoch, may hold anything.
        assert_same_arrays({"valid": kept["valid"]}, {"valid": want["valid"]})
        for name in ("x", "label"):
            np.testing.assert_array_equal(kept[name][want["valid"]], want[name][want["valid"]], err_msg=name)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uneven")
    simulate_grouped(folder, levels=[10], groups=93, sensors=5, time_points=9, seed=1)
    return open_split(folder, 10)


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Path:
    return write_marked(tmp_path_factory.mktemp("marked"))


def assert_padded_alike(feeds) -> None:
    """Eight shares of two rows on 3 and 5 devices, nine and ten places, give the batches of one device."""
    found = {n: take(feed, feeds[1].steps_per_epoch + 1) for n, feed in feeds.items()}
    assert_same_and_padding(found[3], found[1], 18)
    assert_same_and_padding(found[5], found[1], 20)


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
@pytest.mark.slow
def test_resident(split, sampling):
    feeds = {n: resident_feed(split, devices=n, sampling=sampling) for n in (1, 3, 5)}
    assert_padded_alike(feeds)
    assert_nothing_crosses(feeds[5])


@pytest.mark.parametrize("recordings", ["replicated", "dealt"])
@pytest.mark.slow
def test_regroup(marked, recordings):
    assert_padded_alike({n: regroup_feed(marked, devices=n, recordings=recordings) for n in (1, 3, 5)})


def test_stream(split):
    """On one host, and of each of two hosts with half of the rows, in whose second half all padding is."""
    whole = [dict(batch) for batch in _batches(stream_feed(split, batch_size=16))]
    padded = _batches(stream_feed(split, batch_size=16, rows=20))
    assert_same_and_padding(padded, whole, 20)
    hosts = [_batches(stream_feed(split, batch_size=16, rows=20, process_index=i, process_count=2)) for i in (0, 1)]
    for one, two, batch in zip(*hosts, padded, strict=True):
        assert_same_arrays({name: np.concatenate([one[name], two[name]]) for name in one}, batch)


def _batches(feed) -> list[dict[str, np.ndarray]]:
    """The batches of an epoch and one more; the last of the epoch is short."""
    try:
        return take(feed, -(-93 // 16) + 1)
    finally:
        feed.close()
