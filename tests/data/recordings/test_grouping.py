"""Grouping: the golden files, several passes, and what is on disk when it ends early."""

import subprocess
import time

import numpy as np
import pytest
from helpers import GOLDEN
from helpers.data import open_grouped, read_grouped
from helpers.errors import assert_facts, fails_with, has_fact
from helpers.recordings import GOLDEN_STATISTICS, GOLDEN_TREE, group
from helpers.runs import process, run_with_full_disk

from demega_jax.data.recordings.runs import OFFICIAL, find_recordings
from demega_jax.data.recordings.statistics import statistics
from demega_jax.data.recordings.windows import find_windows

SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize("memory", ["4G", "260K"])
def test_golden_files(tmp_path, memory, capsys):
    """Several levels at once, in one pass and in many: the original's numbers, its label numbers mapped to ours."""
    assert group(GOLDEN_TREE, tmp_path / "out", "--level", 1, 5, 10, "--no-shuffle", "--memory", memory) == 0
    assert has_fact(capsys.readouterr().out, "1 pass") == (memory == "4G")
    stats = np.load(GOLDEN_STATISTICS)
    order = {s: stats["label_order" if s == "train" else f"{s}_label_order"].tolist() for s in SPLITS}
    for level in (1, 5, 10):
        for split in SPLITS:
            ours, theirs = (read_grouped(d / f"grouped_{level}/{split}_grouped.h5") for d in (tmp_path / "out", GOLDEN))
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
        assert group(GOLDEN_TREE, tmp_path / name, "--level", 1, 3, "--memory", memory) == 0
    for path in sorted((tmp_path / "one").rglob("*.h5")):
        one, many = read_grouped(path), read_grouped(tmp_path / "many" / path.relative_to(tmp_path / "one"))
        np.testing.assert_array_equal(one["data"], many["data"])
        np.testing.assert_array_equal(one["labels"], many["labels"])
    capsys.readouterr()


def test_files_open_as_training_data_and_shuffled_groups_are_means(tmp_path, capsys):
    assert group(GOLDEN_TREE, tmp_path, "--level", 7, "--seed", 5) == 0
    recordings = find_recordings(GOLDEN_TREE)
    train = [r for r in recordings if r.name not in OFFICIAL]
    found, windows = statistics(train), find_windows(train)
    split = open_grouped(tmp_path / "grouped_7/train_grouped.h5")
    file = read_grouped(split.path)
    data = [r.read().astype(np.float64) for r in train]
    for row, members in enumerate(file["group_indices"]):
        assert len(set(windows.label[members])) == 1 and windows.label[members[0]] == split.labels[row]
        each = [data[windows.run[w]][:, windows.start[w] : windows.start[w] + 125] for w in members]
        wanted = np.mean([np.clip((x - found.mean[:, None]) / found.std[:, None], -10, 10) for x in each], axis=0)
        np.testing.assert_allclose(file["data"][row], wanted, rtol=1e-5, atol=5e-6)
    assert sorted(np.concatenate(file["group_indices"])) == list(range(len(windows)))
    assert file["attributes"]["shuffle"] and file["attributes"]["shuffle_seed"] == 5
    assert not read_grouped(tmp_path / "grouped_7/validation_grouped.h5")["attributes"]["shuffle"]
    capsys.readouterr()


def test_a_folder_that_holds_the_level_is_refused(tmp_path, capsys):
    assert group(GOLDEN_TREE, tmp_path, "--level", 5) == 0
    before = (tmp_path / "grouped_5/train_grouped.h5").read_bytes()
    fails_with(capsys, ["group", GOLDEN_TREE, tmp_path, "--level", 5, "--no-shuffle"], "grouped_5", "already")
    assert (tmp_path / "grouped_5/train_grouped.h5").read_bytes() == before


def test_what_a_killed_process_left_is_no_hindrance(tmp_path):
    (tmp_path / "grouped_5").mkdir()
    left = tmp_path / "grouped_5/train_grouped.h5.partial"
    left.write_bytes(b"half")
    assert group(GOLDEN_TREE, tmp_path, "--level", 5) == 0
    assert not left.exists() and open_grouped(tmp_path / "grouped_5/train_grouped.h5").rows


def test_a_full_disk(tmp_path):
    done = run_with_full_disk(300_000, "group", GOLDEN_TREE, tmp_path / "out", "--level", 1)
    assert done.returncode == 2, done.stderr
    assert_facts(done.stderr.splitlines()[-1], "train_grouped.h5", "cannot be written", "File too large")
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_a_kill_leaves_no_file_under_its_name(tmp_path):
    out = tmp_path / "out"
    words = process("group", GOLDEN_TREE, out, "--level", 1, "--memory", "130K")
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = out / "grouped_1/train_grouped.h5.partial"
    until = time.monotonic() + 60
    while not partial.exists() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    running.kill()
    running.wait()
    assert partial.exists() and not list(out.rglob("*.h5"))
