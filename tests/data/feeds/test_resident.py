"""The resident feed: rows once an epoch, the same on any number of devices, exact after a restore."""

from collections import Counter

import numpy as np
import pytest
from helpers import ONE_SCHEDULE, TINY_MODEL
from helpers.arrays import assert_same_arrays
from helpers.data import ShardSettings, all_rows, open_split, simulate_grouped, write_shards
from helpers.errors import assert_facts, fails_with, refused
from helpers.feeds import assert_host_is_silent, assert_nothing_crosses, limit_device_memory, resident_feed, take
from helpers.runs import losses, train, train_arguments

from demega_jax.config import Config
from demega_jax.data.feeds.shares import check_shares, class_chances, deal
from demega_jax.data.open import plan_rows

SMALL = [
    *TINY_MODEL,
    ONE_SCHEDULE,
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps=10",
    "train.eval_every=10",
    "train.log_every=1",
    "data.feed=resident",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resident")
    simulate_grouped(folder / "files", levels=[5, 10], groups=93, sensors=5, time_points=9, seed=1)
    write_shards(
        folder / "files",
        folder / "raw",
        levels=[5, 10],
        splits=("train", "validation"),
        settings=ShardSettings(norm="raw", dtype="float32"),
    )
    return folder


def rows(split) -> dict[bytes, int]:
    """The number of each row, by its bytes."""
    return {window.tobytes(): row for row, window in enumerate(all_rows(split))}


def numbers(batch, known) -> list[int]:
    found = [known[x.tobytes()] for x, valid in zip(batch["x"], batch["valid"], strict=True) if valid]
    return found


@pytest.mark.parametrize("source", ["files", "raw"])
@pytest.mark.parametrize("level", [10, (5, 10)])
def test_each_row_once_an_epoch_in_new_orders(data, source, level):
    split = open_split(data / source, level)
    known, feed = rows(split), resident_feed(split)
    assert feed.steps_per_epoch == -(-split.rows // 16)
    epochs = [[numbers(b, known) for b in take(feed, feed.steps_per_epoch)] for _ in range(2)]
    for epoch in epochs:
        assert sorted(sum(epoch, [])) == list(range(split.rows))
    assert epochs[0] != epochs[1]
    for batch in take(feed, 3):
        at = numbers(batch, known)
        assert batch["label"][batch["valid"]].tolist() == split.labels[at].tolist()
        assert set(batch) == {"x", "label", "valid"} | ({"median", "iqr"} if source == "raw" else set())
        if source == "raw":
            np.testing.assert_allclose(batch["median"], np.sort(batch["x"], axis=2)[:, :, 4])


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
@pytest.mark.slow
def test_devices_change_no_batch_and_no_row_crosses(data, sampling):
    split = open_split(data / "files", 10)
    known, feeds = rows(split), {n: resident_feed(split, devices=n, sampling=sampling) for n in (1, 2, 8)}
    shares = deal(split.labels, 8, 3)
    for _ in range(feeds[1].steps_per_epoch + 2):
        one, two, eight = (take(feeds[n], 1)[0] for n in (1, 2, 8))
        assert_same_arrays(two, one)
        assert_same_arrays(eight, one)
        for share in range(8):  # an equal part from each share, in the order of the shares
            part = {k: v[share * 2 : share * 2 + 2] for k, v in one.items()}
            assert set(numbers(part, known)) <= set(shares[share].tolist())
    assert_nothing_crosses(feeds[8])


def test_restore_in_mid_epoch_is_exact(data):
    split = open_split(data / "files", 10)
    whole = take(resident_feed(split), 11)
    feed = resident_feed(split)
    feed.restore({"next_step": 8})
    assert feed.state() == {"next_step": 8}
    for got, wanted in zip(take(feed, 3), whole[8:], strict=True):
        assert_same_arrays(got, wanted)


def test_shares_hold_all_rows_and_each_class_evenly():
    labels = np.sort(np.random.default_rng(0).integers(0, 5, 203))
    dealt = deal(labels, 8, 7)
    assert sorted(dealt[dealt >= 0]) == list(range(203)) and dealt.shape == (8, 26)
    assert (dealt[:, :-1] >= 0).all()  # what is missing is missing at the end
    for c in range(5):
        counts = [(labels[share[share >= 0]] == c).sum() for share in dealt]
        assert max(counts) - min(counts) <= 1
    assert (deal(labels, 8, 8) != dealt).any()


def test_balanced_draws_each_class_equally_often(data):
    split = open_split(data / "files", (5, 10))
    feed = resident_feed(split, sampling="balanced")
    drawn = Counter(np.concatenate([b["label"][b["valid"]] for b in take(feed, 400)]).tolist())
    counts, total = split.class_counts(), sum(drawn.values())
    present = np.flatnonzero(counts)
    assert counts[present].min() < 8  # a class that is not in every share
    shares, wanted = np.array([drawn[c] / total for c in present]), 1 / len(present)
    np.testing.assert_allclose(shares, wanted, atol=4 * np.sqrt(wanted * (1 - wanted) / total))


def test_chances_of_classes_that_few_shares_have():
    counts = np.array([[40, 9, 1, 0], [41, 0, 0, 0], [40, 9, 0, 2], [0, 0, 0, 0]])
    chances = class_chances(counts)
    np.testing.assert_allclose(chances.sum(axis=1), [1, 1, 1, 0])
    assert ((chances > 0) == (counts > 0)).all()
    draws = counts.sum(axis=1) / counts.sum()  # a share draws as many rows as it has
    # One share has but one class, so that class takes its 41 of 142; the others share the rest, as far as they can.
    np.testing.assert_allclose(draws @ chances, [41 / 142, *[101 / 142 / 3] * 3], atol=0.03)
    for counts in ([[5, 3, 0], [5, 3, 1], [6, 0, 1]], [[10, 2], [1, 8]], [[60, 20, 9], [60, 20, 3], [20, 5, 0]]):
        counts = np.array(counts)
        frequency = counts.sum(axis=1) / counts.sum() @ class_chances(counts)
        np.testing.assert_allclose(frequency, 1 / counts.shape[1], atol=2e-3)


def test_half_precision(data):
    split = open_split(data / "files", 10)
    batch = take(resident_feed(split, dtype="float16"), 1)[0]
    assert batch["x"].dtype == np.float16
    full = take(resident_feed(split), 1)[0]
    np.testing.assert_array_equal(batch["x"], full["x"].astype(np.float16))
    config = Config.model_validate({"data": {"feed": "resident", "dtype": "float16"}, "train": {"batch_size": 16}})
    assert plan_rows(config, split).device_bytes(2) == 12 * 4 * 5 * 9 * 2  # 93 rows: 12 in a share, 4 shares


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ((8, 9, 72, "jit"), "data.shares=9"),
        ((8, 2, 20, "jit"), "train.batch_size=16"),
        ((8, 2, 16, "pmap"), "--parallel jit"),
    ],
)
def test_what_does_not_divide_is_refused(arguments, fact):
    with refused(fact):
        check_shares(*arguments, "resident")
    check_shares(8, 3, 16, "jit", "resident")


@pytest.mark.long
def test_train_on_one_or_eight_devices_and_after_a_stop(data, tmp_path):
    files, options = data / "files", ("--level", 10, *SMALL)
    for devices in (1, 8):
        assert train(files, tmp_path / str(devices), *options, devices=devices) == 0
    np.testing.assert_allclose(losses(tmp_path / "8"), losses(tmp_path / "1"), rtol=1e-4)
    assert train(files, tmp_path / "half", *options, "train.steps=5") == 0
    assert train(files, tmp_path / "half", *options, "--resume", "train.steps=10") == 0
    assert losses(tmp_path / "half") == losses(tmp_path / "1")


@pytest.mark.slow
def test_a_dry_run_says_what_is_held(data, tmp_path, capsys):
    files, options = data / "files", ("--level", 10, *SMALL)
    assert train(files, tmp_path / "dry", *options, "--dry-run") == 0
    assert_facts(capsys.readouterr().out, "resident", "KiB", "float32", "on each device")
    assert train(files, tmp_path / "dry", *options, "--dry-run", "data.dtype=float16", "data.sampling=balanced") == 0
    out = capsys.readouterr().out
    assert_facts(out, "# feed: resident", "# sampling: balanced")
    assert_facts(next(line for line in out.splitlines() if line.startswith("# sampling")), "aa")


def test_what_cannot_fit_is_refused_beforehand(data, tmp_path, capsys, monkeypatch):
    limit_device_memory(monkeypatch, 10_000)
    arguments = train_arguments(data / "files", tmp_path / "run", "--level", 10, *SMALL)
    fails_with(capsys, arguments, "data.feed", "resident", "93 rows", "data.feed=stream")
    assert not (tmp_path / "run").exists()


def test_the_host_sends_no_rows_during_training(data):
    assert_host_is_silent(resident_feed(open_split(data / "files", 10)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("source", "norm"), [("files", "median_iqr"), ("files", "zscore"), ("raw", "median_iqr")])
def test_windows_are_normalised_once_by_float64_arithmetic(data, source, norm, dtype):
    split = open_split(data / source, 10)
    config = Config.model_validate({"data": {"feed": "resident", "dtype": dtype}, "model": {"input_norm": norm}})
    plan = plan_rows(config, split)
    assert plan.normalization == norm and set(plan.batch) == {"x", "label", "valid"}
    feed = resident_feed(split, dtype=dtype, normalize=norm)
    x = all_rows(split).astype(np.float64)
    if norm == "zscore":
        spread = np.sqrt(x.var(axis=(1, 2), keepdims=True) + 1e-5)
        want = (x - x.mean(axis=(1, 2), keepdims=True)) / spread
    else:
        low, middle, high = np.percentile(x, [25, 50, 75], axis=2, keepdims=True)
        want = (x - middle) / (high - low + 1e-6)
    for batch in take(feed, 3):
        assert set(batch) == {"x", "label", "valid"} and batch["x"].dtype == dtype
        for window in batch["x"][batch["valid"]]:
            assert np.abs(want - window).max(axis=(1, 2)).min() < (2e-5 if dtype == "float32" else 5e-3)


@pytest.mark.slow
def test_training_from_the_device_is_training_from_the_stream(data, tmp_path):
    """The first losses of both feeds on the same rows in the same order: one batch that holds the whole split."""
    whole = ["train.batch_size=96", "train.steps=3", "train.epochs=null", "train.log_every=1", "model.dropout=0"]
    for feed in ("stream", "resident"):
        assert train(data / "files", tmp_path / feed, "--level", 10, *TINY_MODEL, *whole, f"data.feed={feed}") == 0
    np.testing.assert_allclose(losses(tmp_path / "resident"), losses(tmp_path / "stream"), rtol=1e-5)
