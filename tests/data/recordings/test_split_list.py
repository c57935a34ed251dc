"""Splits from a plain list of session runs: tables and JSON, names in three forms, and what is refused."""

import json

import pytest
from helpers.data import grouped_path, read_grouped
from helpers.errors import assert_warned, fails_with, refused
from helpers.recordings import GOLDEN_TREE, group

from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.splits import read_splits

# Of the six session runs five are named, in each of the three forms.
ROWS = [
    ("0/1/Sherlock1/1", "train"),
    ("1:Sherlock2:1", "validation"),
    ("0/10/Sherlock1/1", "train"),
    ("sub-0_ses-11_task-Sherlock1_run-2_meg.h5", "test"),
    ("some/where/sub-0_ses-12_task-Sherlock1_run-2.fif", "test"),
]
EXPECTED = {
    "train": ["0/1/Sherlock1/1", "0/10/Sherlock1/1"],
    "validation": ["0/1/Sherlock2/1"],
    "test": ["0/11/Sherlock1/2", "0/12/Sherlock1/2"],
}


def table(rows, head=("run", "split"), separator="\t") -> str:
    return "".join(separator.join(cells) + "\n" for cells in (head, *rows))


def as_json(rows, name="run") -> str:
    return json.dumps([{name: run, "split": split} for run, split in rows])


FILES = {
    "tabs.tsv": table(ROWS),
    "commas.csv": table([(f'"{run}"', split, "x") for run, split in ROWS], ("File", "Split", "note"), ","),
    "semicolons.csv": "\ufeff" + table([(split, run) for run, split in ROWS], ("split", "run"), ";") + ";\r\n",
    "list.json": as_json(ROWS),
    "files.json": as_json(ROWS, "file"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_list_names_the_split_of_each_session_run(tmp_path, capsys, name):
    (tmp_path / name).write_text(FILES[name])
    found = read_splits(tmp_path / name, find_recordings(GOLDEN_TREE))
    assert {split: [str(r.name) for r in runs] for split, runs in found.items()} == EXPECTED
    assert_warned(capsys.readouterr().err.splitlines(), name, "1 session run is", "left out", "0/2/Sherlock1/1")


REFUSED = {
    "unknown": (
        table([*ROWS, ("0/99/Sherlock1/1", "train"), ("x", "test")]),
        *("2 session runs", "0/99/Sherlock1/1 (line 7)", "x (line 8)"),
    ),
    "twice": (table([*ROWS, ("1:Sherlock1:1", "train")]), "0/1/Sherlock1/1 is in line 2 and in line 7"),
    "empty split": (table(ROWS[:2]), "no session run for test"),
    "no split": (table([(run, "train") for run, _ in ROWS]), "no session run for validation and test"),
    "another split": (table([*ROWS[:2], ("0/10/Sherlock1/1", "trian")]), "'trian' in line 4", "did you mean train?"),
    "no column": (table(ROWS, ("run", "splt")), "no column split", "did you mean splt?"),
    "one cell": (table([*ROWS, ("0/2/Sherlock1/1",)]), "no split in line 7"),
    "cells": (table([*ROWS, ("0/2/Sherlock1/1", "train", "x")]), "3 cells in line 7"),
    "head alone": (table([]), "no row below its head"),
    "empty": ("", "no head in its first line"),
}


@pytest.mark.parametrize("text, facts", [(text, facts) for text, *facts in REFUSED.values()], ids=REFUSED)
def test_what_is_wrong_in_a_table_is_one_line(tmp_path, text, facts):
    path = tmp_path / "splits.tsv"
    path.write_text(text)
    with refused(*facts, where=path):
        read_splits(path, find_recordings(GOLDEN_TREE))


def test_what_is_wrong_in_a_list_or_an_option_is_one_line(tree, tmp_path, capsys):
    path = tmp_path / "splits.json"
    for text, fact in (("[]", "an empty list"), ('["x"]', "item 1"), ('[{"run": "x", "split": null}]', "item 1")):
        path.write_text(text)
        with refused(fact, where=path):
            read_splits(path, find_recordings(tree))
    for file in tree.rglob("sub-0_ses-1_task-Sherlock1*"):  # the same session run of another subject
        file.with_name(file.name.replace("sub-0", "sub-1")).write_bytes(file.read_bytes())
    path.write_text(as_json([("1:Sherlock1:1", "train")]))
    with refused("2 subjects", "0/1/Sherlock1/1, 1/1/Sherlock1/1", where=path):
        read_splits(path, find_recordings(tree))
    path.write_text(as_json(ROWS[2:4] + [("0/1/Sherlock2/1", "validation")]))
    command = ["group", tree, tmp_path / "out", "--level", 5, "--splits", path, "--run"]
    fails_with(capsys, [*command, "10:Sherlock1:1", "1:Sherlock2:1"], path, "no session run for test")
    assert not (tmp_path / "out").exists()


def test_group_takes_a_table(tmp_path):
    path = tmp_path / "splits.tsv"
    path.write_text(FILES["tabs.tsv"])
    assert group(GOLDEN_TREE, tmp_path / "out", "--level", 5, "--splits", path) == 0
    for split, runs in EXPECTED.items():
        told = read_grouped(grouped_path(tmp_path / "out", 5, split))["attributes"]
        assert told["recordings"].tolist() == runs
