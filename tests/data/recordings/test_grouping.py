"""Grouping: the golden files, the arithmetic of groups, several passes, and every bad input."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demega_jax.cli import main
from demega_jax.data.grouped import open_grouped
from demega_jax.data.recordings import statistics as statistics_module
from demega_jax.data.recordings.events import POSITIONS
from demega_jax.data.recordings.grouping import GroupSettings, make_groups, plan_passes
from demega_jax.data.recordings.runs import OFFICIAL, Recording, RunName, find_recordings
from demega_jax.data.recordings.splits import by_shares, read_splits, write_splits
from demega_jax.data.recordings.statistics import statistics
from demega_jax.data.recordings.windows import Windows, find_windows
from demega_jax.errors import UserError
from demega_jax.files import cache_folder

GOLDEN = Path("tests/golden")
TREE = GOLDEN / "raw_libribrain"
SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path) -> Path:
    return Path(shutil.copytree(TREE, tmp_path / "tree"))


def group(*arguments) -> int:
    return main(["group", *map(str, arguments)])


def read(path: Path) -> dict:
    with h5py.File(path) as file:
        found = {name: file[name][:] for name in ("data", "labels", "group_indices")}
        return found | {"attributes": dict(file.attrs), "chunks": file["data"].chunks}


def test_pooled_statistics_are_the_golden_ones():
    golden = np.load(GOLDEN / "raw_libribrain_stats.npz")
    train = [r for r in find_recordings(TREE) if r.name not in OFFICIAL]
    assert [str(r.name) for r in train] == golden["train_run_order"].tolist()
    found = statistics(train)
    np.testing.assert_allclose(found.mean, golden["channel_means"], rtol=2e-7)
    np.testing.assert_allclose(found.std, golden["channel_stds"], rtol=2e-7)


@pytest.mark.parametrize("memory", ["4G", "260K"])
def test_golden_files(tmp_path, memory, capsys):
    """Several levels at once, in one pass and in many: the original's numbers, its label numbers mapped to ours."""
    assert group(TREE, tmp_path / "out", "--level", 1, 5, 10, "--no-shuffle", "--memory", memory) == 0
    out = capsys.readouterr().out
    assert ("in 1 pass;" in out) == (memory == "4G")
    stats = np.load(GOLDEN / "raw_libribrain_stats.npz")
    order = {s: stats["label_order" if s == "train" else f"{s}_label_order"].tolist() for s in SPLITS}
    for level in (1, 5, 10):
        for split in SPLITS:
            ours, theirs = (read(d / f"grouped_{level}/{split}_grouped.h5") for d in (tmp_path / "out", GOLDEN))
            classes = ours["attributes"]["classes"].tolist()
            assert [classes[i] for i in ours["labels"]] == [order[split][i] for i in theirs["labels"]]
            np.testing.assert_allclose(ours["data"], theirs["data"], rtol=2e-5, atol=2e-6)
            assert [a.tolist() for a in ours["group_indices"]] == [a.tolist() for a in theirs["group_indices"]]
            assert ours["chunks"] == (min(32, len(ours["data"])), *theirs["data"].shape[1:])
            for name, value in theirs["attributes"].items():
                assert name == "created_time" or ours["attributes"][name] == value, name
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_passes_change_no_bit(tmp_path, capsys):
    for name, memory in (("one", "4G"), ("many", "130K")):
        assert group(TREE, tmp_path / name, "--level", 1, 3, "--memory", memory) == 0
    for path in sorted((tmp_path / "one").rglob("*.h5")):
        one, many = read(path), read(tmp_path / "many" / path.relative_to(tmp_path / "one"))
        np.testing.assert_array_equal(one["data"], many["data"])
        np.testing.assert_array_equal(one["labels"], many["labels"])
    capsys.readouterr()


def test_files_open_as_training_data_and_shuffled_groups_are_means(tmp_path, capsys):
    assert group(TREE, tmp_path, "--level", 7, "--seed", 5) == 0
    recordings = find_recordings(TREE)
    train = [r for r in recordings if r.name not in OFFICIAL]
    found, windows = statistics(train), find_windows(train)
    split = open_grouped(tmp_path / "grouped_7/train_grouped.h5")
    file = read(split.path)
    data = [r.read().astype(np.float64) for r in train]
    for row, members in enumerate(file["group_indices"]):
        assert len(set(windows.label[members])) == 1 and windows.label[members[0]] == split.labels[row]
        each = [data[windows.run[w]][:, windows.start[w] : windows.start[w] + 125] for w in members]
        wanted = np.mean([np.clip((x - found.mean[:, None]) / found.std[:, None], -10, 10) for x in each], axis=0)
        np.testing.assert_allclose(file["data"][row], wanted, rtol=1e-5, atol=5e-6)
    assert sorted(np.concatenate(file["group_indices"])) == list(range(len(windows)))
    assert file["attributes"]["shuffle"] and file["attributes"]["shuffle_seed"] == 5
    assert not read(tmp_path / "grouped_7/validation_grouped.h5")["attributes"]["shuffle"]
    capsys.readouterr()


def made_up(labels, positions) -> Windows:
    recording = Recording(RunName("0", "1", "S1", "1"), Path("m"), Path("e"), 2, 10, 250.0)
    count = len(labels)
    return Windows((recording,), tuple("abcd"), 2, np.zeros(count, np.int32), np.arange(count), np.array(labels),
                   np.array(positions))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=60), st.integers(1, 9),
    st.integers(0, 99), st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
def test_groups(rows, level, seed, shuffle, drop, by_position):
    label, position = np.array(rows).T
    how = GroupSettings(seed, drop, by_position)
    windows = made_up(label, position)
    found = make_groups(windows, level, how, shuffle=shuffle)
    again = make_groups(windows, level, how, shuffle=shuffle)
    np.testing.assert_array_equal(found.window, again.window)
    assert len(set(found.window)) == len(found.window)  # each window in one group at most
    assert (np.diff(found.label) >= 0).all()
    sizes = found.sizes()
    assert (sizes >= 1).all() and (sizes <= level).all() and len(sizes) == len(found)
    key = label * len(POSITIONS) + position if by_position else label
    of = found.of_window(len(rows))
    for g in range(len(found)):
        members = found.window[found.start[g] : found.start[g + 1]]
        assert set(label[members]) == {found.label[g]} and len(set(key[members])) == 1
        assert set(np.flatnonzero(of == g)) == set(members)
        if not shuffle:
            assert (np.diff(members) > 0).all()
    for one in set(key):
        mine = sizes[key[found.window[found.start[:-1]]] == one]
        n = int((key == one).sum())
        wanted = [level] * (n // level) + ([n % level] if n % level and not drop else [])
        assert mine.tolist() == wanted
    if not drop:
        assert len(found.window) == len(rows)


def test_a_plan_holds_no_more_than_the_memory(tmp_path):
    from demega_jax.data.recordings.grouping import Target

    windows = made_up(np.zeros(300, int), np.zeros(300, int))
    targets = [
        Target(
            windows, make_groups(windows, level, GroupSettings(None), shuffle=False), tmp_path / str(level), level, {}
        )
        for level in (1, 2, 5)
    ]
    one = targets[0].bytes_of(1)  # 2 sensors x 2 time points x 4 bytes
    assert one == 16
    for memory in (32 * one, 100 * one, 10**9):
        passes = plan_passes(targets, memory)
        assert all(sum(p.target.bytes_of(p.stop - p.first) for p in parts) <= memory for parts in passes)
        for target in targets:
            rows = [r for parts in passes for p in parts if p.target is target for r in range(p.first, p.stop)]
            assert rows == list(range(len(target.groups)))
    with pytest.raises(UserError, match="--memory"):
        plan_passes(targets, 31 * one)


def test_statistics_are_remembered_outside_the_recordings(tree, monkeypatch):
    before = sorted(tree.rglob("*"))
    recordings = find_recordings(tree)
    first = statistics(recordings)
    measured = []
    real = statistics_module._measure
    monkeypatch.setattr(statistics_module, "_measure", lambda r: measured.append(r.name) or real(r))
    np.testing.assert_array_equal(statistics(recordings).mean, first.mean)
    assert not measured and sorted(tree.rglob("*")) == before
    with h5py.File(recordings[2].meg, "r+") as file:
        file["data"][0] *= 2
    next(cache_folder("statistics").glob("*.json")).write_text("{damaged")
    changed = statistics(find_recordings(tree))
    assert recordings[2].name in measured and 1 <= len(measured) <= 2
    assert changed.mean[0] > 1.1 * first.mean[0]
    np.testing.assert_array_equal(changed.mean[1:], first.mean[1:])


def test_splits_by_shares_are_written_and_read(tree, tmp_path, capsys):
    recordings = find_recordings(tree)
    assert group(tree, tmp_path / "out", "--level", 5, "--split-shares", 0.6, 0.2, 0.2) == 0
    assigned = by_shares(recordings, [0.6, 0.2, 0.2], 777)
    assert sorted(r.name for runs in assigned.values() for r in runs) == [r.name for r in recordings]
    assert {split: len(runs) for split, runs in assigned.items()} == {"train": 4, "validation": 1, "test": 1}
    assert read_splits(tmp_path / "out/splits.json", recordings) == assigned
    assert (
        by_shares(recordings, [0.6, 0.2, 0.2], 1) != assigned or by_shares(recordings, [0.6, 0.2, 0.2], 2) != assigned
    )
    assert group(tree, tmp_path / "again", "--level", 5, "--splits", tmp_path / "out/splits.json") == 0
    for split in SPLITS:
        one, two = (read(tmp_path / d / f"grouped_5/{split}_grouped.h5") for d in ("out", "again"))
        np.testing.assert_array_equal(one["data"], two["data"])
    write_splits(tmp_path / "new.json", assigned)
    text = (tmp_path / "new.json").read_text()
    (tmp_path / "new.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="format 2"):
        read_splits(tmp_path / "new.json", recordings)
    capsys.readouterr()


def events_of(tree: Path) -> Path:
    return sorted(tree.rglob("*ses-2_*events.tsv"))[0]


def meg_of(tree: Path) -> Path:
    return sorted(tree.rglob("*ses-2_*_meg.h5"))[0]


def _append(line: str):
    def change(tree: Path) -> None:
        path = events_of(tree)
        path.write_text(path.read_text() + line + "\n")

    return change


def _first_again(tree: Path) -> None:
    lines = events_of(tree).read_text().splitlines()
    events_of(tree).write_text("\n".join([*lines, lines[1]]) + "\n")


def _constant(tree: Path) -> None:
    for path in tree.rglob("*_meg.h5"):
        with h5py.File(path, "r+") as file:
            file["data"][3] = 1e-12


SURVIVED = {
    "off the end": (_append("99\tphoneme\taa_B\t10.3\t0.08"), "1 windows run off a recording"),
    "off the begin": (_append("99\tphoneme\taa_B\t-0.1\t0.08"), "1 windows run off a recording"),
    "unknown symbol": (_append("99\tphoneme\tqq_B\t1.0\t0.08"), "1 events with symbols that are no class"),
    "duplicate": (_first_again, "1 duplicate events"),
    "unordered": (_append("99\tphoneme\taa_B\t1.0\t0.08"), "1 events came out of order"),
    "no events": (lambda tree: events_of(tree).unlink(), "1 runs without events, left out: 0/2/Sherlock1/1"),
    "no recording": (lambda tree: meg_of(tree).unlink(), "1 runs events without a recording, left out"),
    "constant sensor": (_constant, "1 sensors are constant in the training runs and become 0: 3"),
    "empty class": (lambda tree: None, "classes have no window"),
    "level above a class": (lambda tree: None, "classes have fewer than 10 windows"),
}


@pytest.mark.parametrize("what", SURVIVED)
def test_goes_on_with_one_warning(tree, tmp_path, capsys, what):
    change, words = SURVIVED[what]
    change(tree)
    assert group(tree, tmp_path / "out", "--level", 10) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if words in line]
    assert lines and all(line.startswith("warning: ") for line in lines)
    data = read(tmp_path / "out/grouped_10/train_grouped.h5")["data"]
    assert np.isfinite(data).all()
    if what == "constant sensor":
        assert not data[:, 3].any()


def _rate(tree: Path) -> None:
    with h5py.File(meg_of(tree), "r+") as file:
        file.attrs["sample_frequency"] = 500.0


def _sensors(tree: Path) -> None:
    with h5py.File(meg_of(tree), "r+") as file:
        data = file["data"][:7]
        del file["data"]
        file["data"] = data


def _nan(tree: Path) -> None:
    with h5py.File(meg_of(tree), "r+") as file:
        file["data"][5, 100] = np.nan


def _cut(tree: Path) -> None:
    os.truncate(meg_of(tree), meg_of(tree).stat().st_size // 2)


def _no_column(tree: Path) -> None:
    events_of(tree).write_text("kind\tsegment\nphoneme\taa_B\n")


STOPPED = {
    "rate": (_rate, "500 Hz; wanted 250 Hz"),
    "sensors": (_sensors, "7 sensors; wanted 8 sensors"),
    "nan": (_nan, "not finite in sensor 5"),
    "truncated": (_cut, "truncated"),
    "no column": (_no_column, "no column timemeg"),
    "bad time": (_append("99\tphoneme\taa_B\tsoon\t0.08"), "time 'soon' in line"),
}


@pytest.mark.parametrize("what", STOPPED)
def test_stops_with_one_line(tree, tmp_path, capsys, what):
    change, words = STOPPED[what]
    change(tree)
    assert group(tree, tmp_path / "out", "--level", 10) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("error: ") and words in errors[-1] and "ses-2_" in errors[-1]
    assert not list((tmp_path / "out").rglob("*.h5"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--level", 0], "at least 1"), (["--level", 5, 5], "different levels"),
        (["--level", 5, "--memory", "lots"], "--memory"), (["--level", 5, "--memory", "1K"], "--memory"),
        (["--level", 5, "--tmax", "0"], "at least 2"), (["--level", 5, "--run", "9:Sherlock1:1"], "ses:task:run"),
        (["--level", 5, "--run", "11:Sherlock1:2"], "no run for training"),
        (["--level", 5, "--split-shares", 0, 1, 1], "--split-shares"), (["--level", 5, "--splits", "none"], "none"),
        (["--level", 999, "--drop-remaining"], "no group of 999 windows"),
        (["--level", 5, "--tmin", "nan"], "--tmin: nan"), (["--level", 5, "--tmax", "inf"], "--tmax: inf"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(tmp_path, capsys, arguments, words):
    assert group(TREE, tmp_path / "out", *arguments) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_the_level_is_refused(tmp_path, capsys):
    assert group(TREE, tmp_path, "--level", 5) == 0
    before = (tmp_path / "grouped_5/train_grouped.h5").read_bytes()
    assert group(TREE, tmp_path, "--level", 5, "--no-shuffle") == 2
    assert "holds files already" in capsys.readouterr().err
    assert (tmp_path / "grouped_5/train_grouped.h5").read_bytes() == before


def test_what_a_killed_process_left_is_no_hindrance(tmp_path):
    (tmp_path / "grouped_5").mkdir()
    left = tmp_path / "grouped_5/train_grouped.h5.partial"
    left.write_bytes(b"half")
    assert group(TREE, tmp_path, "--level", 5) == 0
    assert not left.exists() and open_grouped(tmp_path / "grouped_5/train_grouped.h5").rows


def test_a_full_disk(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "demega_jax", "group", str(TREE), str(tmp_path / "out"), "--level", "1"],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        ),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "train_grouped.h5: cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_a_kill_leaves_no_file_under_its_name(tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "demega_jax", "group", str(TREE), str(out), "--level", "1", "--memory", "130K"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    partial = out / "grouped_1/train_grouped.h5.partial"
    until = time.monotonic() + 60
    while not partial.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert partial.exists() and not list(out.rglob("*.h5"))
