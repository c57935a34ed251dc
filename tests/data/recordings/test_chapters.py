"""Chapters that several subjects hear: named where they are in several splits, and assigned as a whole."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.errors import assert_warned, fails_with, refused
from helpers.recordings import group
from helpers.runs import inspect

from demega_jax.config import Config, DataConfig
from demega_jax.data.open import open_split, open_training
from demega_jax.data.recordings.chapters import warn_of_shared
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.splits import by_shares, official, read_splits


@pytest.fixture
def several(tree) -> Path:
    """The six session runs of subject 0, and four of them again as heard by subject 1."""
    for path in [*tree.rglob("sub-0_ses-1_task-S*"), *tree.rglob("sub-0_ses-1[12]_task-S*")]:
        shutil.copy(path, path.with_name(path.name.replace("sub-0", "sub-1")))
    return tree


def splits_file(tmp_path: Path, **content) -> Path:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"format": 1} | content))
    return path


def names(assigned: dict) -> dict[str, set[str]]:
    return {split: {str(r.name) for r in runs} for split, runs in assigned.items()}


HELD_OUT = ("1/11/Sherlock1/2", "1/12/Sherlock1/2")


def test_published_splits_say_who_hears_their_chapters(several, tmp_path, capsys):
    assigned = names(official(find_recordings(several)))
    assert set(HELD_OUT) < assigned["train"] and assigned["validation"] == {"0/11/Sherlock1/2"}
    assert group(several, tmp_path / "out", "--level", 5) == 0
    lines = capsys.readouterr().err.splitlines()
    assert_warned(lines, "train has 2 session runs", *HELD_OUT, "--splits TABLE", "columns run and split")
    assert sum("whose chapter is also in" in line for line in lines) == 1
    status, out, _ = inspect(capsys, several)
    assert status == 0 and "train has 2 session runs" in " ".join(out.split())


def test_one_subject_is_not_warned_of(tree, capsys):
    warn_of_shared(official(find_recordings(tree)))
    assert "chapters" not in capsys.readouterr().err


def test_own_recordings_are_not_said_to_have_chapters(several, capsys):
    """A task and session that two splits have are a chapter in LibriBrain, and nobody knows what elsewhere."""
    own = [replace(r, name=replace(r.name, task="listen")) for r in find_recordings(several)]
    split_by_runs = {"train": own[:2], "validation": own[2:3], "test": own[3:]}
    warn_of_shared(split_by_runs)
    assert "chapters" not in capsys.readouterr().err


def test_evaluation_does_not_say_again_what_training_said(several, capsys):
    config = DataConfig(level=1, feed="regroup")
    open_training(Config(data=config.model_copy(update={"path": str(several)})))
    assert_warned(capsys.readouterr().err.splitlines(), "train has 2 session runs", *HELD_OUT)
    open_split(several, "validation", config)
    assert "hear chapters" not in capsys.readouterr().err


def test_a_file_assigns_whole_chapters(several, tmp_path, capsys):
    recordings = find_recordings(several)
    chapters = {"Sherlock1/11": "validation", "Sherlock1/12": "test", "Sherlock1/2": None}
    path = splits_file(tmp_path, chapters=chapters, others="train")
    capsys.readouterr()
    assigned = names(read_splits(path, recordings))
    assert assigned["validation"] == {"0/11/Sherlock1/2", "1/11/Sherlock1/2"}
    assert assigned["test"] == {"0/12/Sherlock1/2", "1/12/Sherlock1/2"}
    assert assigned["train"] == {f"{s}/1/Sherlock{task}/1" for s in (0, 1) for task in (1, 2)} | {"0/10/Sherlock1/1"}
    assert capsys.readouterr().err == ""
    assert group(several, tmp_path / "out", "--level", 5, "--splits", path) == 0
    assert "train has" not in capsys.readouterr().err
    one = splits_file(tmp_path, chapters=chapters, others="train", runs={"1/11/Sherlock1/2": None})
    assert names(read_splits(one, recordings))["validation"] == {"0/11/Sherlock1/2"}  # a session run goes first


def test_chapters_that_are_not_there_and_runs_without_a_split(several, tmp_path, capsys):
    recordings = find_recordings(several)
    capsys.readouterr()
    read_splits(splits_file(tmp_path, chapters={"sherlock1/11": "test"}, others="train"), recordings)
    assert_warned(capsys.readouterr().err.splitlines(), "1 of its chapters", "sherlock1/11")
    path = splits_file(tmp_path, chapters={"Sherlock1/11": "validation"})
    with refused("0/1/Sherlock1/1", "chapters", where=path):
        read_splits(path, recordings)
    misspelt = {"chapters": {"Sherlock1/11": "valid"}, "others": "train"}
    for wrong, run in ((misspelt, "0/11/Sherlock1/2"), ({"others": "rest"}, "0/1/Sherlock1/1")):
        with refused(run, "has no split", where=path):
            read_splits(splits_file(tmp_path, **wrong), recordings)
    for no_table in ([1], 3, "x"):
        with refused("not a file of splits", where=path):
            read_splits(splits_file(tmp_path, chapters=no_table), recordings)


def test_chapters_in_validation_and_test_are_named(several, tmp_path, capsys):
    path = splits_file(
        tmp_path, runs={"1/11/Sherlock1/2": "test"}, chapters={"Sherlock1/11": "validation"}, others="train"
    )
    warn_of_shared(read_splits(path, find_recordings(several)))
    assert_warned(capsys.readouterr().err.splitlines(), "validation has 1 session run", "test", "0/11/Sherlock1/2")


@pytest.mark.parametrize("seed", range(4))
def test_shares_keep_each_chapter_in_one_split(several, capsys, seed):
    assigned = by_shares(find_recordings(several), [0.5, 0.25, 0.25], seed)
    heard = [{(r.name.task, r.name.session) for r in runs} for runs in assigned.values()]
    assert sum(map(len, heard)) == len(set().union(*heard)) == 6 and all(heard)
    assert sum(map(len, assigned.values())) == 10 and capsys.readouterr().err == ""


def test_too_few_chapters_for_the_splits(several, tmp_path, capsys):
    for path in several.rglob("sub-*"):
        if "_ses-11_" not in path.name and "_ses-12_" not in path.name:
            path.unlink()
    command = ["group", several, tmp_path / "out", "--level", 5, "--split-shares", "0.5,0.3,0.2"]
    fails_with(capsys, command, "4 session runs", "2 chapters", "3 splits", "--splits TABLE", "run and split")
