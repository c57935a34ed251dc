"""The regroup feed. Window i of the recordings is 1 in sensor i alone, so that a mean shows which windows it is of."""

import json
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from helpers import TINY_MODEL
from hypothesis import given
from hypothesis import strategies as st

from demega_jax.cli import main
from demega_jax.config import Config, DataConfig, RegroupConfig
from demega_jax.data.feeds.regroup import RegroupFeed, mean_windows
from demega_jax.data.feeds.regroup_tables import adapt, make_table
from demega_jax.data.feeds.stream import split_batches
from demega_jax.data.grouped import open_grouped
from demega_jax.data.recordings.averaged import RecordedData, open_recordings
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.splits import official, write_splits
from demega_jax.data.recordings.statistics import Statistics
from demega_jax.errors import UserError
from demega_jax.training import feeds
from demega_jax.training.parallel import make_placement

GOLDEN = Path("tests/golden")
CLASSES = ("aa", "ae", "b", "zh")
COUNTS = (70, 23, 24, 3)  # windows of each class in train
TIME_POINTS = 2
SMALL = [
    *TINY_MODEL, "train.batch_size=16", "train.epochs=null", "train.steps=10", "train.eval_every=5",
    "train.log_every=1", "data.feed=regroup", "data.regroup.tmax=0.1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_run(root: Path, session: int, x: np.ndarray, events: list[tuple[float, str]]) -> None:
    name = f"sub-0_ses-{session}_task-Sherlock1_run-2"
    for folder in ("serialised", "events"):
        (root / f"Sherlock1/derivatives/{folder}").mkdir(parents=True, exist_ok=True)
    with h5py.File(root / f"Sherlock1/derivatives/serialised/{name}_proc-x_meg.h5", "w") as file:
        file["data"], file.attrs["sample_frequency"] = x, 250.0
    lines = ["kind\tsegment\ttimemeg", *(f"phoneme\t{symbol}_B\t{onset}" for onset, symbol in events)]
    (root / f"Sherlock1/derivatives/events/{name}_events.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Path:
    return write_marked(tmp_path_factory.mktemp("marked"))


def write_marked(root: Path) -> Path:
    """Two runs of train and one of validation; windows lie between samples of noise that no mean may show."""
    rng = np.random.default_rng(0)
    symbols = rng.permutation(np.repeat(CLASSES, COUNTS))
    n = len(symbols)
    for session, mine in ((1, range(n // 3)), (2, range(n // 3, n)), (11, range(20))):
        x, events = np.full((n, 3 * len(mine) + 4), 9.0, np.float32), []
        for place, number in enumerate(mine):
            x[:, 3 * place + 1 : 3 * place + 3] = np.eye(n, dtype=np.float32)[:, [number]]
            events.append(((3 * place + 1.5) / 250, symbols[number]))
        write_run(root, session, x, events)
    np.save(root / "labels.npy", [CLASSES.index(s) for s in symbols])
    return root


def recorded(root: Path, level=5, **regroup) -> RecordedData:
    config = DataConfig(level=level, feed="regroup", regroup=RegroupConfig(tmax=TIME_POINTS / 250, **regroup))
    sensors = sum(COUNTS)
    return RecordedData(
        root, official(find_recordings(root)), lambda: Statistics(np.zeros(sensors), np.ones(sensors)), config
    )  # fmt: skip


def feed_of(
    root, *, devices=1, level=5, seeds=3, sampling="uniform", dtype="float32", steps_per_dispatch=1, **regroup
) -> RegroupFeed:
    data = recorded(root, level, **regroup)
    return RegroupFeed(
        data.train(CLASSES), batch_size=16, seeds=seeds, dtype=dtype, placement=make_placement("jit", devices, 16),
        sampling=sampling, new_groups=data.config.regroup.new_groups, steps_per_dispatch=steps_per_dispatch,
    )  # fmt: skip


def take(feed, count) -> list[dict]:
    return [{name: np.asarray(values) for name, values in next(feed).items()} for _ in range(count)]


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
def test_each_window_once_an_epoch_in_new_groups(marked, recordings):
    labels, feed = np.load(marked / "labels.npy"), feed_of(marked, recordings=recordings)
    epochs = [groups(take(feed, feed.steps_per_epoch), labels) for _ in range(2)]
    for epoch in epochs:
        assert sorted(sum(epoch, ())) == list(range(len(labels)))
        if recordings == "replicated":  # blocks of 5, and one of what remains
            sizes = sorted(len(g) for g in epoch)
            assert sizes == sorted([5] * 14 + [5] * 4 + [3] + [5] * 4 + [4] + [3])
        assert max(map(len, epoch)) <= 5
    same = {g for g in set(epochs[0]) & set(epochs[1]) if len(g) == 5}
    assert len(same) <= (0 if recordings == "replicated" else 2)  # a share that has 5 of a class has one group of it
    again = feed_of(marked, recordings=recordings, seeds=4)
    assert groups(take(again, again.steps_per_epoch), labels) != epochs[0]


@pytest.mark.parametrize("level", [1, 5, 10])
def test_the_fixed_order_gives_the_golden_groups(level):
    """Against the original's files, through the feed and in memory."""
    config = DataConfig(level=level, feed="regroup", regroup=RegroupConfig(new_groups=False))
    data, stats = open_recordings(GOLDEN / "raw_libribrain", config), np.load(GOLDEN / "raw_libribrain_stats.npz")
    for split, name in (("train", "label_order"), ("validation", "validation_label_order")):
        with h5py.File(GOLDEN / f"grouped_{level}/{split}_grouped.h5") as file:
            x, order = file["data"][:], stats[name].tolist()
            labels = [data.train(None).classes.index(order[i]) for i in file["labels"]]
        averages = data.averages(split, None)
        assert averages.labels.tolist() == labels
        np.testing.assert_allclose(averages.x, x, rtol=2e-5, atol=2e-6)
        read = np.concatenate([b["x"][b["valid"]] for b in split_batches(averages, batch_size=7)])
        np.testing.assert_array_equal(read, averages.x)
        if split == "validation":
            continue
        feed = RegroupFeed(
            data.train(None), batch_size=16, seeds=0, dtype="float32", placement=make_placement("jit", 2, 16),
            new_groups=False,
        )  # fmt: skip
        for _ in range(2):
            batches = take(feed, feed.steps_per_epoch)
            rows, mine = (np.concatenate([b[key][b["valid"]] for b in batches]) for key in ("x", "label"))
            nearest = [int(np.abs(x - row).max(axis=(1, 2)).argmin()) for row in rows]
            assert sorted(nearest) == list(range(len(x))) and nearest != sorted(nearest)
            np.testing.assert_allclose(rows, x[nearest], rtol=2e-5, atol=2e-6)
            assert mine.tolist() == [labels[i] for i in nearest]


@pytest.mark.parametrize("options", [
    {}, {"recordings": "dealt"}, {"sampling": "balanced", "recordings": "dealt"}, {"level": (2, 7)},
    {"level": 20, "target_rows": 16, "min_level": 2, "overlap": 3.0, "recordings": "dealt", "dtype": "float16"},
])  # fmt: skip
def test_devices_change_no_batch_and_nothing_crosses(marked, options):
    made = {n: feed_of(marked, devices=n, **options) for n in (1, 2, 8)}
    for _ in range(made[1].steps_per_epoch + 2):
        one, two, eight = (take(made[n], 1)[0] for n in (1, 2, 8))
        assert one["x"].dtype == np.float32 and one["x"].shape == (16, sum(COUNTS), TIME_POINTS)
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
            np.testing.assert_array_equal(one[name], eight[name])
    feed = made[8]
    text = feed.draw.lower(*feed.take(1)).compile().as_text()
    assert not any(word in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))


@pytest.mark.parametrize("recordings", ["replicated", "dealt"])
def test_restore_in_mid_epoch_is_exact(marked, recordings):
    steps = feed_of(marked, recordings=recordings).steps_per_epoch
    whole = take(feed_of(marked, recordings=recordings), 2 * steps + 2)
    for at in (1, steps + 1, 2 * steps):
        feed = feed_of(marked, recordings=recordings)
        feed.restore({"next_step": at})
        for got, wanted in zip(take(feed, 2), whole[at:], strict=False):
            for name in wanted:
                np.testing.assert_array_equal(got[name], wanted[name])
    feed.restore({"next_step": 1})  # an earlier epoch, on the same feed
    np.testing.assert_array_equal(take(feed, 1)[0]["x"], whole[1]["x"])


def test_sizes_from_a_list(marked):
    labels, feed = np.load(marked / "labels.npy"), feed_of(marked, level=(2, 7))
    found = groups(take(feed, feed.steps_per_epoch), labels)
    assert sorted(sum(found, ())) == list(range(len(labels)))
    common = [len(g) for g in found if labels[g[0]] == 0]
    assert set(common) >= {2, 7} and len(set(common) - {2, 7}) <= 1  # and a remainder


def test_sizes_adapted_to_frequency(marked):
    labels = np.load(marked / "labels.npy")
    feed = feed_of(marked, level=6, target_rows=10, min_level=2, overlap=2.0)
    found = groups(take(feed, feed.steps_per_epoch), labels)
    by_class = [[g for g in found if labels[g[0]] == c] for c in range(4)]
    # 70 windows: 10 groups of 6; 23: 2 x 23 / 10 = 4.6, 4 each; 24: 4.8; 3: 2 each, of which 2 x 3 / 2 = 3 groups
    assert [(len(gs), {len(g) for g in gs}) for gs in by_class] == [(10, {6}), (10, {4}), (10, {4}), (3, {2})]
    for gs, n in zip(by_class, COUNTS, strict=True):
        uses = np.bincount(sum(gs, ()), minlength=len(labels))[sorted(set(sum(gs, ())))]
        assert uses.max() <= (1 if n == 70 else 3) and len(uses) == min(n, len(gs) * len(gs[0]))


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=5), st.lists(st.integers(1, 20), min_size=1, max_size=3),
    st.booleans(), st.none() | st.integers(1, 30), st.integers(1, 9), st.floats(1, 4), st.integers(0, 3),
)  # fmt: skip
def test_tables(counts, levels, drop, rows, least, overlap, seed):
    settings = RegroupConfig(drop_remaining=drop, target_rows=rows, min_level=least, overlap=overlap)
    sizes = adapt(np.array(counts), levels[0], settings)
    table = make_table(np.array(counts), tuple(levels), settings, sizes, np.random.default_rng(seed))
    assert (np.diff(table.label) >= 0).all() and (table.size > 0).all()
    for label, n in enumerate(counts):
        mine = table.label == label
        start, size = table.start[mine], table.size[mine]
        assert (size <= n).all()  # no window twice in a group
        if rows is None:
            assert (start == np.cumsum(size) - size).all() and set(size[:-1]) <= set(levels)
            left = n - int(size.sum())
            assert (0 <= left < max(levels) and set(size) <= set(levels)) if drop else left == 0
        elif n:
            assert 1 <= len(size) <= rows and len(set(size)) == 1 and (start < n).all()
            assert len(size) == 1 or size.sum() <= overlap * n
            assert min(n, least, levels[0]) <= size[0] <= levels[0]
            assert len(size) == 1 or size[0] < n  # no two groups of the same windows
            if size.sum() <= n:
                assert (np.diff(start) >= size[0]).all()


@given(st.lists(st.lists(st.integers(0, 40), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 30))
def test_shares_have_adapted_groups_in_proportion_and_together_as_many(counts, rows):
    counts = np.array(counts)
    whole = adapt(counts.sum(axis=0), 7, RegroupConfig(target_rows=rows, min_level=2, overlap=2.0))
    parts = whole.shared(counts)
    made = np.array([part.groups for part in parts])
    np.testing.assert_array_equal(made.sum(axis=0), whole.groups)
    fair = counts * whole.groups / np.maximum(counts.sum(axis=0), 1)
    assert (np.abs(made - fair) < 1 + 1e-9).all() and all((part.size == whole.size).all() for part in parts)


@pytest.mark.parametrize("most", [1, 8, 9, 37])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_means_of_any_number_of_windows(most, dtype):
    rng = np.random.default_rng(most)
    x = rng.standard_normal((200, 3)).astype(dtype)
    first, size = rng.integers(0, 196, (5, most)), rng.integers(1, most + 1, 5)
    got = np.asarray(jax.jit(mean_windows, static_argnums=3)(x, first, size, 4))
    for row in range(5):
        wanted = np.mean([x[at : at + 4].astype(np.float64) for at in first[row, : size[row]]], axis=0)
        np.testing.assert_allclose(got[row], wanted, rtol=1e-5, atol=1e-6)


def test_balanced_draws_each_class_equally_often(marked):
    feed = feed_of(marked, sampling="balanced", level=2)  # rows: 35, 12, 12 and 2, those in 2 of 8 shares
    drawn = np.concatenate([b["label"][b["valid"]] for b in take(feed, 100)])
    spread = np.sqrt(0.25 * 0.75 / len(drawn))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), 0.25, atol=4 * spread)


def test_the_host_sends_nothing_within_an_epoch(marked):
    feed = feed_of(marked, recordings="dealt")
    next(feed)
    with jax.transfer_guard_host_to_device("disallow"):
        for _ in range(feed.steps_per_epoch - 1):
            next(feed)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recordings") / "rec"
    assert main(["simulate", str(root), "--recordings", "--minutes", "4", "--sensors", "5", "--seed", "1"]) == 0
    return root


def lines(run, split="train") -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["split"] == split]


def train(recordings, run, *more) -> int:
    return main(
        ["train", "configs/tiny.yaml", "--data", str(recordings), "--level", "5", "--run", str(run), *SMALL, *more]
    )


@pytest.mark.parametrize("how", ["replicated", "dealt"])
def test_train_on_one_or_eight_devices_and_after_a_stop(recordings, tmp_path, capsys, how):
    option = f"data.regroup.recordings={how}"
    for devices in ("1", "8"):
        assert train(recordings, tmp_path / devices, "--devices", devices, option) == 0
    assert f"float32 recordings ({how}) on each device" in capsys.readouterr().out
    losses = {run: [line["loss"] for line in lines(tmp_path / run)] for run in ("1", "8")}
    np.testing.assert_allclose(losses["8"], losses["1"], rtol=1e-4)
    assert train(recordings, tmp_path / "half", "--devices", "1", option, "train.steps=5",
                 "optim.schedule_length=10") == 0  # fmt: skip
    assert train(recordings, tmp_path / "half", "--devices", "1", option, "--resume", "optim.schedule_length=10") == 0
    assert [line["loss"] for line in lines(tmp_path / "half")] == losses["1"]


def test_recordings_and_their_groups_score_alike(recordings, tmp_path, capsys):
    run, files = tmp_path / "run", tmp_path / "files"
    assert train(recordings, run, "--devices", "1", "data.regroup.target_rows=9", "data.dtype=float16") == 0
    assert main(["group", str(recordings), str(files), "--level", "5", "10", "--tmax", "0.1"]) == 0
    for level in ("5", "10"):
        for name, data in (("direct", recordings), ("files", files)):
            assert main(["evaluate", str(run), "--data", str(data), "--level", level, "--split", "test",
                         "--json", str(tmp_path / f"{name}.json")]) == 0  # fmt: skip
        direct, grouped = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("direct", "files"))
        assert direct["confusion"] == grouped["confusion"]
        np.testing.assert_allclose(direct["loss"], grouped["loss"], rtol=1e-5)
    out = capsys.readouterr().out
    assert "of each" in out and " 9 x 5" in out
    runs, swapped = official(find_recordings(recordings)), tmp_path / "splits.json"
    write_splits(swapped, runs | {"validation": runs["test"], "test": runs["validation"]})
    for name, words in (("direct", ["test", "--splits", str(swapped)]), ("files", ["validation"])):
        assert main(["evaluate", str(run), "--split", *words, "--json", str(tmp_path / f"{name}.json")]) == 0
    direct, usual = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("direct", "files"))
    assert direct["confusion"] == usual["confusion"] != grouped["confusion"]
    capsys.readouterr()
    other = tmp_path / "other"
    assert main(["simulate", str(other), "--recordings", "--minutes", "4", "--sensors", "4"]) == 0
    assert main(["evaluate", str(run), "--data", str(other)]) == 2
    assert "4 sensors x 25 time points" in capsys.readouterr().err.splitlines()[-1]
    validation = open_grouped(files / "grouped_5/validation_grouped.h5")
    support = sum(n for n in validation.class_counts())
    assert f"validation {support} rows of 5 x 25" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["data.feed=stream"], "set data.feed=regroup"), (["--parallel", "pmap"], "use --parallel jit"),
        (["data.shares=4", "--devices", "8"], "data.shares=8"), (["data.level=null"], "give --level K"),
        (["data.level=[5,10]", "data.regroup.target_rows=3"], "level=10 fits"),
        (["data.level=1000", "data.regroup.drop_remaining=true"], "drop_remaining=false"),
        (["data.regroup.splits=/no/such"], "check the path"), (["data.regroup.tmax=0"], "at least 2"),
        (["data.regroup.overlap=0.5"], "data.regroup.overlap"), (["model.time_points=9"], "model.time_points"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(recordings, tmp_path, capsys, options, words):
    arguments = ["train", "configs/tiny.yaml", "--data", str(recordings), "--run", str(tmp_path / "run"), *SMALL]
    assert main([*arguments, "data.level=5", *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and words in error
    assert not (tmp_path / "run").exists()


def test_what_cannot_fit_is_refused_beforehand(recordings, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(feeds, "available_memory", lambda device: 10_000)
    for more, way in (
        (["--devices", "2"], "data.regroup.recordings=dealt"),
        (["--devices", "1"], "`demega-jax group`"),
    ):
        assert train(recordings, tmp_path / "run", *more) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: data.feed: regroup: the recordings take") and way in error
    assert not (tmp_path / "run").exists()


def test_grouped_files_are_no_recordings(recordings, tmp_path, capsys):
    assert main(["group", str(recordings), str(tmp_path / "files"), "--level", "5", "--tmax", "0.1"]) == 0
    assert train(tmp_path / "files", tmp_path / "run") == 2
    assert "simulate OUT --recordings" in capsys.readouterr().err


def test_one_level_is_one_number():
    assert (
        Config().data.levels == () and DataConfig(level=5).levels == (5,) and DataConfig(level=(5, 9)).levels == (5, 9)
    )
    with pytest.raises(UserError, match="give --level K"):
        recorded(GOLDEN / "raw_libribrain", None).train(None)
