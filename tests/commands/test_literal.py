"""Classes and folders whose names are markup, formulas or HTML, in the commands that show them."""

import html
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL
from helpers.data import grouped_path, write_grouped
from helpers.errors import fails_with
from helpers.runs import inspect, run_command, train

pytestmark = pytest.mark.slow
CLASSES = ("a[/b]c", "x[red]y", ":ok:", "$x$", "<i>&")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with data of odd classes in D, and a run that learnt from them in R."""
    (folder := tmp_path_factory.mktemp("literal") / "a[/b]o[bold]o $y$ :ok:").mkdir(parents=True)
    labels = np.arange(30) % len(CLASSES)
    x = np.random.default_rng(1).normal(size=(30, 3, 6)).astype(np.float32)
    for split in ("train", "validation"):
        attributes = {"classes": list(CLASSES)}
        groups = [range(5 * row, 5 * row + 5) for row in range(30)]
        write_grouped(grouped_path(folder / "D", 5, split), x, labels, level=5, groups=groups, attributes=attributes)
    assert train(folder / "D", folder / "R", *SMALL, "loss.ipa_weight=0", "model.ipa_width=0") == 0
    return folder


def test_inspect_shows_them(place, capsys):
    status, out, err = inspect(capsys, place / "D", place / "R")
    assert status == 0, err
    assert str(place / "R") in out and all(name in out for name in CLASSES)


def test_evaluate_shows_them(place, capsys, tmp_path):
    assert run_command("evaluate", place / "R", "--json", tmp_path / "scores.json") == 0
    out = capsys.readouterr().out
    assert f"{place / 'R'} on validation" in out and all(name in out for name in CLASSES)
    assert json.loads((tmp_path / "scores.json").read_text())["classes"] == list(CLASSES)


def test_a_report_shows_them(place, capsys):
    assert run_command("report", place / "R", "--format", "svg") == 0
    out, page = capsys.readouterr().out, (place / "R" / "report" / "index.html").read_text()
    assert f"report {place / 'R' / 'report' / 'index.html'}" in out
    assert all(html.escape(name) in page for name in (*CLASSES, place.name))
    assert "<i>&" not in page


def test_an_error_shows_them(place, capsys):
    line = fails_with(capsys, ["evaluate", place / "R", "--data", place / "no[/b]ne"])
    assert str(place / "no[/b]ne") in line
