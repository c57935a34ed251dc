"""`report` and `evaluate --report`: what they write, from the same numbers as `evaluate`, and what they refuse."""

import json
import re
import shutil

import pytest
from command_line import SMALL, fails
from helpers.runs import files_in

from demega_jax.cli import main

FIGURES = ("confusion", "f1", "ipa_features", "reliability", "training_curve")


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run, whose report is not there yet."""
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "report")
    return folder


def names(folder):
    return sorted(path.name for path in (folder / "report").iterdir())


def shown(page, score):
    """A score of the page's table."""
    return float(re.search(rf"<td>{score}</td><td>([\d.]+)</td>", page).group(1))


@pytest.mark.slow
def test_report_shows_what_evaluate_finds(copy, tmp_path, capsys):
    assert main(["report", str(copy), "--split", "test"]) == 0
    assert f"report {copy}/report/index.html" in capsys.readouterr().out
    assert names(copy) == sorted(["index.html", *(f"{name}.png" for name in FIGURES)])
    page = (copy / "report" / "index.html").read_text()
    assert main(["evaluate", str(copy), "--split", "test", "--json", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    for name, value in (
        ("macro-F1", scores["macro_f1"]),
        ("accuracy", scores["accuracy"]),
        ("IPA feature head", scores["ipa_accuracy"]),
        ("ECE, expected calibration error", scores["calibration"]["ece"]),
        ("class loss \\(nats\\)", scores["loss"]),
    ):
        assert shown(page, name) == pytest.approx(value, abs=6e-5), name
    assert "test split, simulated data" in page


@pytest.mark.long
def test_formats_are_those_that_are_asked_for_and_other_files_stay(copy):
    (copy / "report").mkdir()
    (copy / "report" / "mine.json").write_text("{}")
    assert main(["report", str(copy)]) == 0
    assert main(["report", str(copy), "--format", "svg,pdf", "--saliency"]) == 0
    figures = [f"{name}.{ending}" for name in (*FIGURES, "saliency") for ending in ("pdf", "svg")]
    assert names(copy) == sorted(["index.html", "mine.json", *figures])
    assert (copy / "report" / "index.html").read_text().count("<figure") == len(FIGURES) + 1


@pytest.mark.long
def test_evaluate_writes_the_same_report_where_asked(copy, capsys):
    assert main(["report", str(copy)]) == 0
    made = files_in(copy / "report")
    shutil.rmtree(copy / "report")
    assert main(["evaluate", str(copy)]) == 0
    assert not (copy / "report").exists()
    assert main(["evaluate", str(copy), "--report"]) == 0
    assert files_in(copy / "report") == made


@pytest.mark.long
def test_a_run_without_metrics_has_a_report_without_curves(copy):
    (copy / "metrics.jsonl").unlink()
    assert main(["report", str(copy)]) == 0
    assert "training_curve.png" not in names(copy)


@pytest.mark.long
def test_members_are_listed_beside_their_ensemble(data, tmp_path):
    folder = tmp_path / "two"
    words = ["train", "configs/tiny.yaml", "--data", data, "--run", folder, "--devices", 1, *SMALL, "train.members=2"]
    assert main([str(word) for word in [*words, "data.feed=resident"]]) == 0
    assert main(["report", str(folder)]) == 0
    page = (folder / "report" / "index.html").read_text()
    assert all(f"{folder}/members/{number}" in page for number in (0, 1)) and "ensemble: mean" in page
    assert "2 models, steps" in page


def test_what_cannot_be_reported_is_refused_and_leaves_nothing(copy, run, tmp_path, capsys):
    assert "no config.yaml" in fails(capsys, "report", tmp_path)
    error = fails(capsys, "report", copy, "--format", "jpg")
    assert "--format" in error and "'jpg'" in error and "png, svg or pdf" in error
    error = fails(capsys, "evaluate", copy, run, "--report")
    assert "--report" in error and "2 training runs" in error
    assert not (copy / "report").exists()
    (copy / "report").write_text("a file where the folder would be")
    assert "Not a directory" in fails(capsys, "report", copy)
    assert (copy / "report").read_text() == "a file where the folder would be"
