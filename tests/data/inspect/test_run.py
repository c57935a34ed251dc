"""`inspect`. A training run: its best step, and its checkpoints verified."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.data import simulate_grouped
from helpers.errors import assert_facts
from helpers.runs import flip_bit, inspect, run_command, split_lines


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of 4 steps on tiny data."""
    base = tmp_path_factory.mktemp("trained")
    simulate_grouped(base / "data", levels=[5], groups=48, sensors=3, time_points=12, seed=1)
    (base / "tiny.yaml").write_text(
        "model: {width: 8, layers: 1, heads: 2, embedding_width: 8, projection_width: 4, ipa_width: 4}\n"
        "train: {steps: 4, batch_size: 16, eval_every: 2, save_every: 2, log_every: 1, monitor: loss}\n"
    )
    assert run_command("train", base / "tiny.yaml", "--data", base / "data", "--run", base / "run") == 0
    return base / "run"


@pytest.mark.slow
def test_run_is_reported_with_its_best_step_and_verified_checkpoints(trained, tmp_path, capsys):
    assert inspect(capsys, trained, "--json", tmp_path / "run.json")[0] == 0
    (report,) = json.loads((tmp_path / "run.json").read_text())["reports"]
    facts = report["facts"]
    best = min(split_lines(trained, "validation").values(), key=lambda line: line["loss"])
    assert (facts["step"], facts["planned"], facts["validations"]) == (4, 4, 2)
    assert (facts["best"], facts["best_step"]) == (best["loss"], best["step"])
    states = [(found["kind"], found["step"], found["state"]) for found in facts["checkpoints"]]
    assert states == [("latest", 2, "whole"), ("latest", 4, "whole"), ("best", best["step"], "whole")]
    assert facts["parameters"] > 100 and facts["window"] == [3, 12] and report["sound"]


@pytest.mark.slow
def test_damaged_checkpoint_of_a_run_is_found(trained, tmp_path, capsys):
    copy = Path(shutil.copytree(trained, tmp_path / "run"))
    files = sorted((copy / "checkpoints" / "latest" / "4" / "model").rglob("*"), key=lambda path: path.stat().st_size)
    flip_bit(files[-1])
    status, out, err = inspect(capsys, copy)
    assert status == 2
    assert_facts(err, copy / "checkpoints" / "latest" / "4", "damaged")
    assert out.count("whole, checksums agree") == 2


def test_folder_of_a_run_without_a_config(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    status, _, err = inspect(capsys, tmp_path)
    assert status == 2 and err.startswith("error: ")
    assert_facts(err, tmp_path, "config.yaml")
