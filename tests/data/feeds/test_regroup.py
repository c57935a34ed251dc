"""The regroup feed. Window i of the recordings is 1 in sensor i alone, so that a mean shows which windows it is of."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import GOLDEN
from helpers.arrays import assert_same_arrays
from helpers.data import all_rows
from helpers.errors import refused
from helpers.feeds import assert_host_is_silent, assert_nothing_crosses, recorded_feed, regroup_feed, regroup_plan, take
from helpers.recordings import COUNTS, TIME_POINTS, recorded, recorded_tree, write_marked

from demega_jax.config import DataConfig

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Path:
    return write_marked(tmp_path_factory.mktemp("marked"))


def groups(batches, labels) -> list[tuple[int, ...]]:
    """The windows of every row, found in its mean; they are of the row's class, and weigh the same."""
    found = []
    for batch in batches:
        for x, label, valid in zip(batch["x"], batch["label"], batch["valid"], strict=True):
            members = np.flatnonzero(x[:, 0])
            if valid:
                assert set(labels[members]) == {label}
                np.testing.assert_allclose(x[members], 1 / len(members), rtol=1e-3)
                found.append(tuple(members.tolist()))
    return found


@pytest.mark.parametrize("recordings", ["replicated", "dealt"])
@pytest.mark.slow
def test_each_window_once_an_epoch_in_new_groups(marked, recordings):
    labels, feed = np.load(marked / "labels.npy"), regroup_feed(marked, recordings=recordings)
    epochs = [groups(take(feed, feed.steps_per_epoch), labels) for _ in range(2)]
    for epoch in epochs:
        assert sorted(sum(epoch, ())) == list(range(len(labels)))
        if recordings == "replicated":  # blocks of 5, and one of what remains
            sizes = sorted(len(g) for g in epoch)
            assert sizes == sorted([5] * 14 + [5] * 4 + [3] + [5] * 4 + [4] + [3])
        assert max(map(len, epoch)) <= 5
    same = {g for g in set(epochs[0]) & set(epochs[1]) if len(g) == 5}
    assert len(same) <= (0 if recordings == "replicated" else 2)  # a share that has 5 of a class has one group of it
    again = regroup_feed(marked, recordings=recordings, seeds=4)
    assert groups(take(again, again.steps_per_epoch), labels) != epochs[0]


@pytest.mark.parametrize("level", [1, 5, 10])
@pytest.mark.slow
def test_the_fixed_order_gives_the_golden_groups(level):
    """Against the original's files, through the feed and in memory."""
    data = recorded_tree(GOLDEN / "raw_libribrain", level, new_groups=False)
    stats = np.load(GOLDEN / "raw_libribrain_stats.npz")
    for split, name in (("train", "label_order"), ("validation", "validation_label_order")):
        with h5py.File(GOLDEN / f"grouped_{level}/{split}_grouped.h5") as file:
            x, order = file["data"][:], stats[name].tolist()
            labels = [regroup_plan(data).rows.classes.index(order[i]) for i in file["labels"]]
        averages = data.averages(split, None)
        assert averages.labels.tolist() == labels
        np.testing.assert_allclose(averages.x, x, rtol=2e-5, atol=2e-6)
        np.testing.assert_array_equal(all_rows(averages, batch_size=7), averages.x)
        if split == "validation":
            continue
        feed = recorded_feed(data, devices=2, seeds=0)
        for _ in range(2):
            batches = take(feed, feed.steps_per_epoch)
            rows, mine = (np.concatenate([b[key][b["valid"]] for b in batches]) for key in ("x", "label"))
            nearest = [int(np.abs(x - row).max(axis=(1, 2)).argmin()) for row in rows]
            assert sorted(nearest) == list(range(len(x))) and nearest != sorted(nearest)
            np.testing.assert_allclose(rows, x[nearest], rtol=2e-5, atol=2e-6)
            assert mine.tolist() == [labels[i] for i in nearest]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"recordings": "dealt"},
        {"sampling": "balanced", "recordings": "dealt"},
        {"level": (2, 7)},
        {"level": 20, "target_rows": 16, "min_level": 2, "overlap": 3.0, "recordings": "dealt", "dtype": "float16"},
    ],
)
@pytest.mark.slow
def test_devices_change_no_batch_and_nothing_crosses(marked, options):
    made = {n: regroup_feed(marked, devices=n, **options) for n in (1, 2, 8)}
    for _ in range(made[1].steps_per_epoch + 2):
        one, two, eight = (take(made[n], 1)[0] for n in (1, 2, 8))
        assert one["x"].dtype == np.float32 and one["x"].shape == (16, sum(COUNTS), TIME_POINTS)
        assert_same_arrays(two, one)
        assert_same_arrays(eight, one)
    assert_nothing_crosses(made[8])


@pytest.mark.parametrize("recordings", ["replicated", "dealt"])
@pytest.mark.slow
def test_restore_in_mid_epoch_is_exact(marked, recordings):
    steps = regroup_feed(marked, recordings=recordings).steps_per_epoch
    whole = take(regroup_feed(marked, recordings=recordings), 2 * steps + 2)
    for at in (1, steps + 1, 2 * steps):
        feed = regroup_feed(marked, recordings=recordings)
        feed.restore({"next_step": at})
        for got, wanted in zip(take(feed, 2), whole[at:], strict=False):
            assert_same_arrays(got, wanted)
    feed.restore({"next_step": 1})  # an earlier epoch, on the same feed
    np.testing.assert_array_equal(take(feed, 1)[0]["x"], whole[1]["x"])


def test_sizes_from_a_list(marked):
    labels, feed = np.load(marked / "labels.npy"), regroup_feed(marked, level=(2, 7))
    found = groups(take(feed, feed.steps_per_epoch), labels)
    assert sorted(sum(found, ())) == list(range(len(labels)))
    common = [len(g) for g in found if labels[g[0]] == 0]
    assert set(common) >= {2, 7} and len(set(common) - {2, 7}) <= 1  # and a remainder


def test_sizes_adapted_to_frequency(marked):
    labels = np.load(marked / "labels.npy")
    feed = regroup_feed(marked, level=6, target_rows=10, min_level=2, overlap=2.0)
    found = groups(take(feed, feed.steps_per_epoch), labels)
    by_class = [[g for g in found if labels[g[0]] == c] for c in range(4)]
    # 70 windows: 10 groups of 6; 23: 2 x 23 / 10 = 4.6, 4 each; 24: 4.8; 3: 2 each, of which 2 x 3 / 2 = 3 groups
    assert [(len(gs), {len(g) for g in gs}) for gs in by_class] == [(10, {6}), (10, {4}), (10, {4}), (3, {2})]
    for gs, n in zip(by_class, COUNTS, strict=True):
        uses = np.bincount(sum(gs, ()), minlength=len(labels))[sorted(set(sum(gs, ())))]
        assert uses.max() <= (1 if n == 70 else 3) and len(uses) == min(n, len(gs) * len(gs[0]))


def test_balanced_draws_each_class_equally_often(marked):
    feed = regroup_feed(marked, sampling="balanced", level=2)  # rows: 35, 12, 12 and 2, those in 2 of 8 shares
    drawn = np.concatenate([b["label"][b["valid"]] for b in take(feed, 100)])
    spread = np.sqrt(0.25 * 0.75 / len(drawn))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), 0.25, atol=4 * spread)


def test_the_host_sends_nothing_within_an_epoch(marked):
    assert_host_is_silent(regroup_feed(marked, recordings="dealt"))


def test_one_level_is_one_number():
    assert [DataConfig(level=level).levels for level in (None, 5, (5, 9))] == [(), (5,), (5, 9)]
    with refused("--level"):
        regroup_plan(recorded(GOLDEN / "raw_libribrain", None))
