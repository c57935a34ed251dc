"""A training run that is made longer when it is resumed goes on learning: its schedule spans the new length."""

import math
from pathlib import Path

import pytest
from helpers import TINY_MODEL
from helpers.data import simulate_grouped
from helpers.errors import assert_facts, the_warning
from helpers.runs import run_command, split_lines, train, train_arguments

from demega_jax.config.load import load_config

SMALL = [*TINY_MODEL, "train.batch_size=16", "train.log_every=1", "train.eval_every=4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[100], groups=64, sensors=5, time_points=9, seed=1)
    return folder


def rates(run: Path) -> dict[int, float]:
    return {step: line["learning_rate"] for step, line in split_lines(run, "train").items()}


@pytest.mark.slow
def test_a_longer_run_spans_its_schedule_anew(data, tmp_path, capsys):
    assert train(data, tmp_path / "run", *SMALL, "train.epochs=2") == 0
    assert load_config(tmp_path / "run" / "config.yaml").optim.schedule_length is None
    capsys.readouterr()
    assert run_command("train", "--resume", "--run", tmp_path / "run", "--devices", 1, "train.epochs=4") == 0
    shown = capsys.readouterr()
    resumed = rates(tmp_path / "run")
    assert sorted(resumed) == list(range(1, 17))
    # 2 of 16 steps warm up; then a half wave of the cosine.
    wanted = {step: 3e-3 * (1 + math.cos(math.pi * (step - 1 - 2) / (16 - 2))) / 2 for step in range(9, 17)}
    assert {step: resumed[step] for step in wanted} == pytest.approx(wanted, rel=1e-5)
    assert_facts(shown.out, "after step 8", f"{wanted[9]:.3g}")
    assert "schedule_length" not in shown.err


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.slow
def test_a_fixed_schedule_that_ends_early_is_named(data, tmp_path, capsys, resume):
    fixed = (*SMALL, "optim.schedule_length=8")
    run = tmp_path / "run"
    if resume:
        assert train(data, run, *fixed, "train.epochs=2") == 0
    capsys.readouterr()
    more = ("--resume",) if resume else ()
    assert run_command(*train_arguments(data, run, *fixed, "train.epochs=4", *more)) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "schedule" in line]
    the_warning(said, "optim.schedule_length=8", "step 9", "16", "--init")
    assert [rate for step, rate in rates(run).items() if step > 8] == [0.0] * 8
