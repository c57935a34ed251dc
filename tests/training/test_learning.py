"""The tiny configuration learns: on simulated data it passes half of what the true matched filter reaches."""

import pytest
from helpers.runs import evaluate, run_command, train


@pytest.mark.slow
def test_tiny_passes_half_of_its_reference(tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    shape = ["--sensors", 12, "--time-points", 25]
    assert run_command("simulate", data, "--level", 100, "--groups", 1600, *shape) == 0
    assert train(data, run, "train.epochs=8") == 0  # of 12
    scores = evaluate(run, tmp_path / "scores.json", "--split", "test")
    assert scores["reference_macro_f1"] > 0.9
    assert scores["macro_f1"] > scores["reference_macro_f1"] / 2
    assert scores["chance"] < 0.03
