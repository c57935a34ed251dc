"""A run that was stopped, however, and resumed is the run that never stopped: bit for bit (design rule 3)."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY_MODEL
from helpers.arrays import INERT, assert_same_arrays
from helpers.data import simulate_grouped
from helpers.errors import fails_with
from helpers.feeds import signal_before_batch
from helpers.runs import flip_bit, lines_of, newest_arrays, process, run_command, train_arguments

STEPS = 20  # 2.5 epochs of 8 steps
TINY = [
    *TINY_MODEL,
    "model.dropout=0.5",
    "train.batch_size=16",
    f"optim.schedule_length={STEPS}",
    "optim.learning_rate=1e-3",
    "train.averaging=ema",
    "train.save_every=3",
    "train.eval_every=5",
    "train.log_every=2",
    "data.memory=1K",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[100], groups=125, sensors=5, time_points=9, seed=1)
    return folder


def command(data: Path, run: Path, *more: str, steps: int = STEPS, devices: int = 1) -> list[str]:
    length = (f"train.steps={steps}", "train.epochs=null")
    return train_arguments(data, run, *TINY, *length, *more, devices=devices)


def train(data: Path, run: Path, *more: str, steps: int = STEPS, devices: int = 1) -> int:
    return run_command(*command(data, run, *more, steps=steps, devices=devices))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """The run that nothing stopped."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert train(data, run) == 0
    return run


def lines(run: Path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    timed = ("samples_per_second", "input_wait")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines_of(run)]


def assert_same_run(run: Path, whole: Path) -> None:
    ours = newest_arrays(run)
    assert_same_arrays(ours, newest_arrays(whole))
    assert int(ours["step"]) == STEPS
    ours, theirs = lines(run), lines(whole)
    # A run that ended early also logged its last step; nothing else may differ.
    cadence = [line for line in ours if line in theirs]
    assert cadence == theirs
    assert {line["step"] for line in ours if line not in theirs} <= {7}


@pytest.mark.slow
def test_a_run_continued_beyond_its_end(data, whole, tmp_path):
    run = tmp_path / "run"
    assert train(data, run, steps=7) == 0  # in mid-epoch, between all cadences
    assert train(data, run, "--resume") == 0
    assert_same_run(run, whole)


@pytest.mark.slow
def test_resume_goes_back_to_the_last_checkpoint(data, whole, tmp_path):
    """A run killed after step 20: everything after the checkpoint of step 18 is done, and logged, again."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoints" / "latest" / "20")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 20, "torn')
    assert train(data, run, "--resume") == 0
    assert_same_run(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
@pytest.mark.slow
def test_a_signal_ends_the_step_saves_and_resumes(data, whole, tmp_path, monkeypatch, capsys, number):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_before_batch(patch, 6, number)
        assert train(data, run) == 128 + number
    assert "--resume" in capsys.readouterr().out
    assert int(newest_arrays(run)["step"]) == 7
    assert train(data, run, "--resume") == 0
    assert_same_run(run, whole)


@pytest.mark.slow
@pytest.mark.long
def test_sigkill_in_mid_epoch(data, whole, tmp_path):
    """A real process, really killed, at whatever it is doing after its second checkpoint."""
    run = tmp_path / "run"
    arguments = process(*command(data, run))
    running = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "latest" / "6").is_dir():
        assert running.poll() is None, running.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    running.stderr.close()
    assert train(data, run, "--resume") == 0
    assert_same_run(run, whole)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint(data, whole, tmp_path, capsys):
    """One flipped byte: a warning, the checkpoint before it, and the same end."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    largest = max((run / "checkpoints/latest/20").rglob("d/*"), key=lambda p: p.stat().st_size)
    flip_bit(largest)
    assert train(data, run, "--resume") == 0
    assert "warning: " in capsys.readouterr().err
    assert_same_run(run, whole)


@pytest.mark.slow
def test_no_whole_checkpoint_left(data, whole, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = (run / "metrics.jsonl").read_text()
    for meta in (run / "checkpoints/latest").glob("*/meta/metadata"):
        meta.write_text("{")
    fails_with(capsys, command(data, run, "--resume"), run, "2 checkpoints")
    assert (run / "metrics.jsonl").read_text() == before


def test_resume_with_another_configuration_is_refused(data, whole, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    fails_with(capsys, command(data, run, "--resume", "optim.weight_decay=0.5"), "optim.weight_decay", "0.001", "0.5")
    fails_with(capsys, command(data, run, "--resume", "train.monitor=loss"), "train.monitor", "macro_f1", "loss")


def test_what_cannot_be_gone_on_from_is_left_as_it_is(data, whole, tmp_path, capsys):
    """Another length of the position table than in the checkpoint; its log has a line after the checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": STEPS + 1, "loss": 1.0}) + "\n")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("num_buckets: ", "num_buckets: 1"))
    before[path] = path.read_bytes()
    assert run_command(*command(data, run, "--resume", steps=STEPS + 1)) == 2
    assert {path: path.read_bytes() for path in before} == before


def test_an_existing_run_is_not_overwritten(data, whole, capsys):
    before = (whole / "metrics.jsonl").read_text()
    fails_with(capsys, command(data, whole), "--resume")
    assert (whole / "metrics.jsonl").read_text() == before


@pytest.mark.long
def test_resume_on_more_devices(data, whole, tmp_path):
    """Other devices, other rounding, the same run: and from a checkpoint of one device."""
    run = tmp_path / "run"
    assert train(data, run, steps=7) == 0
    assert train(data, run, "--resume", devices=4) == 0
    ours, theirs = newest_arrays(run), newest_arrays(whole)
    for name in theirs:
        if name.startswith("params.") and not name.endswith(INERT):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4, err_msg=name)
