"""Recordings and arguments that are not sound: what goes on with a warning, and what stops."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.data import read_grouped
from helpers.errors import fails_with, has_fact
from helpers.recordings import GOLDEN_TREE, group


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
    "off the end": (_append("99\tphoneme\taa_B\t10.3\t0.08"), ["1 window", "runs off"]),
    "off the begin": (_append("99\tphoneme\taa_B\t-0.1\t0.08"), ["1 window", "runs off"]),
    "unknown symbol": (_append("99\tphoneme\tqq_B\t1.0\t0.08"), ["1 event", "symbol", "qq"]),
    "duplicate": (_first_again, ["1", "duplicate"]),
    "unordered": (_append("99\tphoneme\taa_B\t1.0\t0.08"), ["1", "out of order"]),
    "no events": (lambda tree: events_of(tree).unlink(), ["1", "without events", "0/2/Sherlock1/1"]),
    "no recording": (lambda tree: meg_of(tree).unlink(), ["1", "without a recording"]),
    "constant sensor": (_constant, ["1", "constant", "3"]),
    "empty class": (lambda tree: None, ["no window"]),
    "level above a class": (lambda tree: None, ["fewer than 10 windows"]),
}


@pytest.mark.parametrize("what", SURVIVED)
def test_goes_on_with_one_warning(tree, tmp_path, capsys, what):
    change, facts = SURVIVED[what]
    change(tree)
    assert group(tree, tmp_path / "out", "--level", 10) == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in lines)
    assert any(all(has_fact(line, fact) for fact in facts) for line in lines), lines
    data = read_grouped(tmp_path / "out/grouped_10/train_grouped.h5")["data"]
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
    "rate": (_rate, ["500 Hz", "250 Hz"]),
    "sensors": (_sensors, ["7 sensors", "8 sensors"]),
    "nan": (_nan, ["not finite", "sensor 5"]),
    "truncated": (_cut, ["truncated"]),
    "no column": (_no_column, ["column", "timemeg"]),
    "bad time": (_append("99\tphoneme\taa_B\tsoon\t0.08"), ["time", "soon", "line"]),
}


@pytest.mark.parametrize("what", STOPPED)
def test_stops_with_one_line(tree, tmp_path, capsys, what):
    change, facts = STOPPED[what]
    change(tree)
    assert "ses-2_" in fails_with(capsys, ["group", tree, tmp_path / "out", "--level", 10], *facts)
    assert not list((tmp_path / "out").rglob("*.h5"))


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--level", 0], "--level"),
        (["--level", 5, 5], "--level"),
        (["--level", 5, "--memory", "lots"], "--memory"),
        (["--level", 5, "--memory", "1K"], "--memory"),
        (["--level", 5, "--tmax", "0"], "tmax"),
        (["--level", 5, "--run", "9:Sherlock1:1"], "9:Sherlock1:1"),
        (["--level", 5, "--run", "11:Sherlock1:2"], "training"),
        (["--level", 5, "--split-shares", 0, 1, 1], "--split-shares"),
        (["--level", 5, "--splits", "none"], "none"),
        (["--level", 999, "--drop-remaining"], "999 windows"),
        (["--level", 5, "--tmin", "nan"], "--tmin"),
        (["--level", 5, "--tmax", "inf"], "--tmax"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, capsys, arguments, fact):
    fails_with(capsys, ["group", GOLDEN_TREE, tmp_path / "out", *arguments], fact)
    assert not (tmp_path / "out").exists()
