"""`inspect`. Recording trees: counts by hand, and what was broken on purpose."""

import json

import h5py
import numpy as np
import pytest
from helpers.errors import assert_facts, has_fact
from helpers.runs import inspect

from demega_jax.data.inspect.folder import inspect_data
from demega_jax.data.inspect.missing import missing_runs
from demega_jax.data.recordings.runs import OFFICIAL, RunName
from demega_jax.phonemes import PHONEMES


def test_recordings_are_counted_as_by_hand(whole_tree):
    (report,) = inspect_data(whole_tree)
    facts = report.facts
    assert report.problems == [] and report.notes == [] and facts.simulated
    assert (facts.rate, facts.sensors, facts.minutes) == (250.0, 6, pytest.approx(1))
    for split, pattern in (("validation", "*_ses-11_*"), ("test", "*_ses-12_*"), ("train", "*_ses-1_*")):
        rows = [
            line.split("\t")
            for path in whole_tree.glob(f"*/*/events/{pattern}")
            for line in path.read_text().splitlines()
        ]
        symbols = [row[2][:-2] for row in rows if row[1] == "phoneme" and row[2] not in ("sil", "oov_S")]
        of_split = facts.splits[split]
        assert of_split.phonemes == of_split.windows == len(symbols)
        assert of_split.counts == tuple(symbols.count(name) for name in PHONEMES)
    assert {split: found.runs for split, found in facts.splits.items()} == {"train": 2, "validation": 1, "test": 1}
    assert facts.amplitude.order is None  # of 6 sensors nothing says that they are triplets
    (kind,) = facts.amplitude.types
    with h5py.File(next(whole_tree.glob("Sherlock2/*/serialised/*.h5"))) as file:
        deviation = file["data"][:].std(axis=1)
    assert kind.name == "sensors" and kind.median == pytest.approx(np.median(deviation), rel=0.3)


def test_missing_runs_are_those_that_can_be_known():
    names = [RunName("0", str(session), "Sherlock1", "1") for session in (1, 2, 5, 10)] + [*OFFICIAL]
    names += [RunName("0", str(session), "Sherlock4", "1") for session in (1, 2, 3, 4, 5, 6, 7, 9)]
    assert missing_runs(names) == ["Sherlock1 sessions 3-4, 6-9", "Sherlock4 session 8"]
    without = [name for name in names if name.session != "11"]
    assert missing_runs(without)[0] == "the validation session run 0/11/Sherlock1/2"
    assert "11" not in missing_runs(without)[1]


def test_run_without_events_and_the_reverse_are_noted(tree, capsys):
    next(tree.glob("Sherlock2/*/events/*")).unlink()
    next(tree.glob("Sherlock1/*/serialised/*ses-12*")).unlink()
    status, out, err = inspect(capsys, tree)
    assert status == 0 and err == ""
    text = " ".join(out.split())
    assert_facts(text, "without events", "0/1/Sherlock2/1", "no recording", "0/12/Sherlock1/2")


def test_each_broken_run_is_named_and_the_others_are_reported(tree, capsys, tmp_path):
    cut, rate, events, nan = (
        next(tree.glob(f"*/*/{pattern}"))
        for pattern in (
            "serialised/*ses-12*",
            "serialised/*Sherlock2*",
            "events/*ses-11*",
            "serialised/*ses-1_task-S*1_*",
        )
    )
    with cut.open("r+b") as file:
        file.truncate(5000)
    with h5py.File(rate, "r+") as file:
        file.attrs["sample_frequency"] = 500.0
    events.write_text("no\ttable\n")
    with h5py.File(nan, "r+") as file:
        file["data"][3, 10] = np.inf
    status, out, err = inspect(capsys, tree, "--json", tmp_path / "all.json")
    assert status == 2 and err.count("\n") == 1 and err.startswith("error: ")
    assert_facts(err, "3 more")
    (report,) = json.loads((tmp_path / "all.json").read_text())["reports"]
    problems = report["problems"]
    assert not report["sound"] and len(problems) == 4
    for path, facts in (
        (cut, ["truncated"]),
        (events, ["column", "kind"]),
        (rate, ["500 Hz", "250 Hz", "0/1/Sherlock1/1"]),
        (nan, ["not finite", "sensor 3"]),
    ):
        (problem,) = [text for text in problems if has_fact(text, path)]
        assert_facts(problem, *facts)
    assert report["facts"]["splits"]["train"]["runs"] == 2  # what can be read is there


def test_times_that_contradict_the_rate_are_noted(tree):
    with h5py.File(next(tree.glob("Sherlock2/*/serialised/*")), "r+") as file:
        file["times"][:] = file["times"][:] / 2
    (report,) = inspect_data(tree)
    (note,) = report.notes
    assert_facts(note, "0/1/Sherlock2/1", "500 Hz", "`times`", "250 Hz", "attribute")


def test_windows_that_run_off_are_counted(tree):
    path = next(tree.glob("*/*/events/*ses-11*"))
    with path.open("a") as file:
        file.write("900\tphoneme\taa_S\t9.7\t0.1\n900\tphoneme\tqq_S\t8.0\t0.1\n")  # of 10 s
    (changed,) = [each for each in inspect_data(tree)[0].problems if "altered" in str(each)]
    assert_facts(str(changed), path, "events_crc32")
    with h5py.File(next(tree.glob("*/*/serialised/*ses-11*")), "a") as recording:
        del recording.attrs["events_crc32"]  # the way out that is named, as it was changed on purpose
    (report,) = inspect_data(tree)
    order, off, symbols = report.notes
    assert_facts(order, "1", "out of order")
    assert_facts(off, "1", "0.5 s")
    assert_facts(symbols, "1 event has", "qq (1)")
