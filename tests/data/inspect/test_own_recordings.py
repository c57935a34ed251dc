"""`inspect` on recordings that are not of LibriBrain: what their events are, and which options read them."""

import json

import pytest
from helpers.errors import assert_facts, fails_with
from helpers.recordings import write_words
from helpers.runs import inspect, run_command

from demega_jax.data.inspect.event_tables import ColumnFacts, EventFacts
from demega_jax.data.inspect.folder import inspect_data

HEAD = "onset\tduration\ttrial_type\tvalue\tsample\n"
# 3 session runs of 8 s, each with 4 events; the last one has no label and no time.
ROWS = "1.0\t0.5\tleft\t1\t10\n3.25\t0.5\tRight\t2\t20\n7.75\t0.5\tleft\t1\t30\nn/a\t0.5\tn/a\tn/a\t40\n"


@pytest.fixture
def trials(tmp_path):
    """Recordings with the tables of events of BIDS."""
    tree = write_words(tmp_path / "tree")
    for number, path in enumerate(sorted(tree.rglob("*_events.tsv"))):
        path.write_text(HEAD + ROWS.replace("0\n", f"{number}\n"))
    (tmp_path / "splits.csv").write_text("run,split\n0/1/Own/1,train\n0/1/Own/2,validation\n0/1/Own/3,test\n")
    return tree


def test_events_that_are_no_phonemes_are_counted_with_the_options_that_read_them(trials, tmp_path, capsys):
    """Of the 9 events with a label, 6 have half a second left in their recording."""
    status, out, err = inspect(capsys, trials, "--json", tmp_path / "found.json")
    text = " ".join(out.split())
    assert status == 0 and err == "" and "not sound" not in text and "missing" not in text and "Sherlock" not in text
    assert_facts(text, "12 rows in 3 tables, times in the column onset", "counted with --events all --label trial_type")
    assert_facts(text, "left (6), right (3)", "1 (6), 2 (3)", "1000 Hz", "1 mag + 1 grad", "--splits TABLE")
    (report,) = json.loads((tmp_path / "found.json").read_text())["reports"]
    facts = report["facts"]
    assert facts["classes"] == ["left", "right"] and facts["missing"] is None
    assert facts["splits"]["train"]["counts"] == [3, 3] and facts["options"] == "--events all --label trial_type"
    (found,) = inspect_data(trials)
    columns = (
        ColumnFacts("trial_type", 9, 2, (("left", 6), ("Right", 3))),
        ColumnFacts("value", 9, 2, (("1", 6), ("2", 3))),
    )
    assert found.facts.events == EventFacts(3, 12, "onset", columns)  # each `sample` and `duration` is a number alone


def test_splits_and_windows_are_those_that_are_asked_for(trials, tmp_path, capsys):
    """From 1.5 s before on, the event at 1 s begins too early; until 0.2 s after, the one at 7.75 s fits."""
    options = ["--splits", tmp_path / "splits.csv", "--tmin", -1.5, "--tmax", 0.2, "--json", tmp_path / "found.json"]
    status, out, _ = inspect(capsys, trials, *options)
    assert status == 0 and "published split" not in out
    (report,) = json.loads((tmp_path / "found.json").read_text())["reports"]
    for split in ("train", "validation", "test"):
        assert (report["facts"]["splits"][split]["runs"], report["facts"]["splits"][split]["counts"]) == (1, [1, 1])
    assert any("3 windows run off a recording in 1.7 s" in note for note in report["notes"])
    fails_with(capsys, ["inspect", trials, "--tmax", "nan"], "--tmax", "nan")
    fails_with(capsys, ["inspect", trials, "--tmax", 0], "a window of 0 samples")
    fails_with(capsys, ["inspect", trials, "--splits", tmp_path / "none.csv"], "none.csv", "No such file")
    fails_with(capsys, ["inspect", tmp_path, "--tmax", 1], "options", "recording tree")


def test_a_quiet_inspection_is_a_line_for_each_path(trials, capsys):
    assert run_command("inspect", "-q", trials) == 0
    assert capsys.readouterr().out.splitlines() == [f"{trials}: recordings, sound"]


def test_kinds_of_events_are_tried_before_all_rows(tmp_path):
    """A word such as `inf` is no number."""
    tree = write_words(tmp_path)
    for path in tree.rglob("*_events.tsv"):
        path.write_text(path.read_text().replace("phoneme\tah_B", "sound\tbeep").replace("the\n", "inf\n"))
    (report,) = inspect_data(tree)
    assert report.facts.events.columns[2].most[0] == ("inf", 12)
    assert report.problems == [] and report.facts.options == "--events kind=word --label segment"
    assert report.facts.classes == tuple(f"x{number}" for number in range(10))


def test_tables_without_labels_are_not_sound(trials, capsys):
    for path in trials.rglob("*_events.tsv"):
        path.write_text("onset\tduration\n1.0\t0.5\n2.0\t0.5\n")
    status, _, err = inspect(capsys, trials)
    assert status == 2 and err.count("\n") == 1
    assert_facts(err, "no column kind", "--events")
