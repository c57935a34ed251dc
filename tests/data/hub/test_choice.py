"""`demega-jax download`. Which files are chosen, and what the hub does not have."""

import json

import pytest
from helpers.errors import assert_facts, the_warning
from helpers.hub import NEW, RUNS, TRAIN_10, contents, download, fails, recording, recording_files

from demega_jax.data.hub.download import GROUPED_REPO, RECORDINGS_MIRROR, RECORDINGS_REPO


def test_some_recordings(hub, tmp_path):
    assert download(tmp_path / "a", "--recordings", "--run", "2:Sherlock1:1", "12:Sherlock1:2") == 0
    assert contents(tmp_path / "a").keys() == {*recording(*RUNS[1]), *recording(*RUNS[3])}
    assert download(tmp_path / "b", "--recordings", "--split", "validation", "train") == 0
    assert contents(tmp_path / "b").keys() == recording_files().keys() - recording(*RUNS[3]).keys()


def test_runs_that_are_missing_are_left_out_with_one_line(hub, tmp_path, capsys):
    lonely = "Sherlock4/derivatives/events/sub-0_ses-8_task-Sherlock4_run-1_events.tsv"
    hub.datasets[RECORDINGS_REPO].commits[NEW][lonely] = b"kind\tsegment\ttimemeg\n"
    del hub.datasets[RECORDINGS_MIRROR]
    assert download(tmp_path, "--recordings") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert_facts(warnings[0], "mirror")
    assert_facts(warnings[1], "1 session run", "8:Sherlock4:1", "no recording")
    assert contents(tmp_path) == recording_files()
    there = "1:Sherlock1:1, 2:Sherlock1:1"
    fails(capsys, [tmp_path, "--recordings", "--run", "9:Sherlock9:1"], "9:Sherlock9:1", "recording", "events", there)


def test_the_mirror_gives_what_the_first_lacks(hub, tmp_path, capsys):
    first = hub.datasets[RECORDINGS_REPO].commits[NEW]
    gone = next(path for path in first if "ses-2_" in path and path.endswith(".h5"))
    hub.datasets[RECORDINGS_MIRROR].commits[NEW] = {gone: first.pop(gone)}
    assert download(tmp_path, "--recordings") == 0
    assert contents(tmp_path) == recording_files()
    lines = capsys.readouterr().err.splitlines()
    assert [the_warning(lines, RECORDINGS_REPO, "1 file", RECORDINGS_MIRROR, "2:Sherlock1:1")] == lines
    record = json.loads((tmp_path / "download.json").read_text())["datasets"]
    assert list(record[RECORDINGS_MIRROR]["files"]) == [gone] and len(record[RECORDINGS_REPO]["files"]) == 7


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--level", 10, "--repo", "nobody/nothing"], ["nobody/nothing", "no such dataset", "401"]),
        (["--level", 10, "--revision", "v9"], ["no revision v9"]),
        (["--level", 7], ["--level 7", "wordcab/libribrain-meg-preprocessed", "5, 10"]),
        (["--level", 10, "--run", "1:Sherlock1:1"], ["--run", "--recordings"]),
        (["--recordings", "--run", "Sherlock1"], ["--run", "Sherlock1", "SESSION:TASK:RUN"]),
        (["--level", 10, "--repo", "nothing"], ["nothing", "OWNER/NAME"]),
        (["--level", 10, "--repo", "no body/nothing"], ["no body/nothing", "OWNER/NAME"]),
        (["--recordings", "--run", "1:Sherlock1:1", "--split", "test"], ["pnpl/LibriBrain", "test"]),
        (["--recordings", "--repo", GROUPED_REPO], ["recordings"]),
    ],
)
def test_what_is_not_on_the_hub_is_one_line(hub, tmp_path, capsys, arguments, facts):
    fails(capsys, [tmp_path / "out", *arguments], *facts)
    assert not (tmp_path / "out").exists()


def test_a_split_or_a_file_that_is_missing(hub, tmp_path, capsys):
    dataset = hub.datasets[GROUPED_REPO]
    dataset.missing = {TRAIN_10}
    fails(capsys, [tmp_path, "--level", 10], TRAIN_10, "no such file", NEW[:12])
    del dataset.commits[NEW][TRAIN_10]
    fails(capsys, [tmp_path, "--level", 10], "--split train", "grouped_10", "--split validation test")
