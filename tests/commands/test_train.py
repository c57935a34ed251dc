"""`demega-jax train`: what it prints, writes and refuses."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from command_line import SMALL, fails
from helpers import GOLDEN

from demega_jax.cli import main
from demega_jax.config.load import load_config
from demega_jax.training import dispatch, loop
from demega_jax.training.checkpoint import Checkpoints, flatten, read_model
from demega_jax.training.run import RunFolder
from demega_jax.training.state import build


@pytest.mark.slow
def test_run_folder(run):
    assert {p.name for p in run.iterdir()} == {"config.yaml", "metrics.jsonl", "checkpoints", "report"}
    config = load_config(run / "config.yaml")
    assert (config.model.sensors, config.model.time_points, len(config.model.classes)) == (5, 9, 39)
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(m["split"], m["step"]) for m in read] == [
        ("train", 3),
        ("train", 6),
        ("validation", 6),
        ("train", 9),
        ("train", 12),
        ("validation", 12),
    ]
    train, validation = read[0], read[2]
    assert set(train) == {
        "step",
        "epoch",
        "split",
        "loss",
        "class_loss",
        "contrastive_loss",
        "ipa_loss",
        "grad_norm",
        "learning_rate",
        "samples_per_second",
        "input_wait",
        "skipped",
    }
    assert set(validation) == {
        "step",
        "epoch",
        "split",
        "loss",
        "macro_f1",
        "balanced_accuracy",
        "balanced_accuracy_at_10",
        "accuracy",
    }
    assert train["epoch"] == pytest.approx(3 / 8)
    total = train["class_loss"] + 0.5 * train["contrastive_loss"] + 0.2 * train["ipa_loss"]
    assert train["loss"] == pytest.approx(total, rel=1e-6)
    assert (run / "report" / "training_curve.png").stat().st_size > 10_000


@pytest.mark.slow
def test_dry_run_changes_nothing(data, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["train", "configs/tiny.yaml", "--data", data, "--run", folder, "--dry-run", "--devices", "1", *SMALL]
    assert main([str(a) for a in arguments]) == 0
    out = capsys.readouterr().out
    assert not folder.exists()
    for words in (
        "sensors: 5",
        "# parameters: ",
        "# memory: ",
        "# steps: 12, 8 an epoch",
        "# train: 125 rows of 5 x 9, 39 classes: ",
        "train_grouped.h5",
    ):
        assert words in out
    printed = tmp_path / "printed.yaml"
    printed.write_text(out)
    assert load_config(printed).model.time_points == 9  # what is printed is a configuration


@pytest.mark.parametrize(("parallel", "devices"), [pytest.param("jit", "8", marks=pytest.mark.long), ("pmap", "8")])
@pytest.mark.slow
@pytest.mark.long
def test_many_devices_give_the_run_of_one(data, run, tmp_path, parallel, devices):
    folder = tmp_path / "run"
    arguments = ["train", "configs/tiny.yaml", "--data", str(data), "--run", str(folder), *SMALL]
    assert main([*arguments, "--parallel", parallel, "--devices", devices]) == 0

    def losses(path: Path) -> list[float]:
        return [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]

    np.testing.assert_allclose(losses(folder), losses(run), rtol=1e-4)


@pytest.mark.slow
def test_init_takes_what_fits(data, run, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["train", "configs/tiny.yaml", "--data", str(data), "--run", str(folder), "--devices", "1", *SMALL]
    assert main([*arguments, "--init", str(run), "model.projection_width=6", "train.steps=1"]) == 0
    out = capsys.readouterr().out
    assert "parameters from" in out and "new: projection.out" in out


@pytest.mark.slow
def test_files_of_the_original_library_train(tmp_path, capsys):
    """Written by the original's data library; without names of classes, of sensors or of their order."""
    folder = tmp_path / "data"
    for level in (5, 10):
        shutil.copytree(GOLDEN / f"grouped_{level}", folder / "data" / f"grouped_{level}")
    run = tmp_path / "run"
    arguments = ["train", "configs/tiny.yaml", "--data", str(folder), "--run", str(run), "--devices", "1", *SMALL]
    assert main([*arguments, "--level", "5", "train.steps=2"]) == 0
    assert main(["evaluate", str(run), "--level", "10", "--split", "test"]) == 0
    arguments[arguments.index(str(run))] = str(tmp_path / "another")
    assert "levels 5, 10" in fails(capsys, *arguments)


def test_wrong_input_is_one_line(run, data, tmp_path, capsys):
    train = ["train", "configs/tiny.yaml", "--data", data, "--run", tmp_path / "run"]
    assert "no such folder" in fails(capsys, *train[:3], tmp_path / "none", *train[4:])
    assert "no data folder" in fails(capsys, "train", "configs/tiny.yaml", "--run", tmp_path / "run")
    assert "no level 7" in fails(capsys, *train, "--level", 7)
    assert "Did you mean train.batch_size" in fails(capsys, *train, "train.batch_sise=3")
    assert "heads that fit" in fails(capsys, *train, "model.heads=5")
    assert "train.batch_size=8" in fails(capsys, *train, "train.batch_size=6", "--devices", 8)
    assert "--devices" in fails(capsys, *train, "--devices", 99)
    assert "model.time_points" in fails(capsys, *train, "model.time_points=11")
    assert "no config.yaml" in fails(capsys, *train, "--resume")
    assert "no --run" in fails(capsys, *train[:4], "--resume")
    assert "none.yaml: no such file" in fails(capsys, "train", tmp_path / "none.yaml")
    assert not (tmp_path / "run").exists()


def test_a_row_that_is_not_finite_stops_the_run(data, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    with h5py.File(folder / "grouped_100" / "train_grouped.h5", "r+") as file:
        file["data"][77, 3, 4] = np.nan
    error = fails(
        capsys, "train", "configs/tiny.yaml", "--data", folder, "--run", tmp_path / "r", "--devices", 1, *SMALL
    )
    assert "train_grouped.h5: row 77 has nan at sensor 3, time point 4" in error


@pytest.mark.slow
def test_too_many_steps_that_are_not_finite_stop_the_run(data, tmp_path, capsys):
    error = fails(
        capsys,
        "train",
        "configs/tiny.yaml",
        "--data",
        data,
        "--run",
        tmp_path / "r",
        "--devices",
        1,
        *SMALL,
        "loss.ipa_weight=3e38",
        "train.max_nonfinite_steps=2",
        "train.log_every=1",
    )
    assert "in 3 steps so far" in error and "at most 2 such steps" in error and "train.max_nonfinite_steps" in error
    # No step moves the parameters: each one starts from the first ones again.
    assert error.startswith("error: step 3:")
    folder = RunFolder(tmp_path / "r")
    _, params, _ = build(folder.read_config().model, 777)
    saved, _ = read_model(folder)
    for name, array in flatten({"params": params}).items():
        np.testing.assert_array_equal(saved[name], array, err_msg=name)
    # It goes on where the steps under way had led to, and counts on.
    assert newest_step_and_row(folder) == (6, [6, 6])
    more = ["train.max_nonfinite_steps=100", "train.max_nonfinite_in_a_row=7"]
    error = fails(capsys, "train", "--resume", "--run", folder.path, "--devices", 1, *more)
    assert error.startswith("error: step 8:") and "in 8 steps in a row" in error and "at most 7" in error
    step, row = newest_step_and_row(folder)
    assert row == [step, step] and step >= 8
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["skipped"] for line in lines if line["split"] == "train"] == list(range(1, step + 1))


def newest_step_and_row(folder: RunFolder) -> tuple[int, list[int]]:
    with contextlib.closing(Checkpoints(folder.checkpoints)) as checkpoints:
        meta = checkpoints.newest_meta("latest")
    return meta["step"], meta["skipped_in_a_row"]


@pytest.mark.slow
@pytest.mark.long
def test_a_batch_that_memory_cannot_hold(data, tmp_path, capsys, monkeypatch):
    """Hardly any memory: the message names a batch size, and that one runs."""
    monkeypatch.setattr(dispatch, "available_memory", lambda device: 1_500_000)
    arguments = ["train", "configs/tiny.yaml", "--data", data, "--devices", 1, *SMALL]
    error = fails(capsys, *arguments, "train.batch_size=120", "--run", tmp_path / "a")
    size = error.partition("train.batch_size=")[2].split()[0].strip("();.")
    assert 0 < int(size) < 120
    again = [*arguments, f"train.batch_size={size}", "train.steps=1", "--run", tmp_path / "b"]
    assert main([str(a) for a in again]) == 0


@pytest.mark.slow
def test_a_device_that_runs_out_of_memory(data, tmp_path, capsys, monkeypatch):
    """What a device says when it has no memory left, at any step, becomes a line with a smaller batch size."""
    original = loop.compile_dispatch

    def compiled(experiment, feed, state):
        dispatch = original(experiment, feed, state)

        def step(state, batch):
            if int(state.step) == 2:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.")
            return dispatch.run(state, batch)

        return dispatch._replace(run=step)

    monkeypatch.setattr(loop, "compile_dispatch", compiled)
    arguments = ["train", "configs/tiny.yaml", "--data", data, "--run", tmp_path / "r", "--devices", 1, *SMALL]
    error = fails(capsys, *arguments)
    size = int(error.partition("train.batch_size=")[2].split()[0].strip("();."))
    assert error.startswith("error: train.batch_size: 16 rows") and 0 < size < 16


@pytest.mark.long
def test_compiled_programs_are_remembered(data, tmp_path):
    """A second process takes the step from the cache: nothing is added to it."""
    cache = tmp_path / "cache"
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    kept = []
    for run in ("first", "second"):
        arguments = ["train", "configs/tiny.yaml", "--data", data, "--run", tmp_path / run, "--devices", 1, *SMALL]
        done = subprocess.run(
            [sys.executable, "-m", "demega_jax", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env=environment | {"XDG_CACHE_HOME": str(cache)},
        )
        assert done.returncode == 0 and "compiled the step in" in done.stdout, done.stderr
        assert all(line.startswith("warning: ") for line in done.stderr.splitlines())
        kept.append({file.name for file in (cache / "demega-jax" / "compiled").glob("*-cache")})
    assert kept[0] and kept[0] == kept[1]


@pytest.mark.slow
def test_nothing_leaves_the_device_between_log_points(data, tmp_path, monkeypatch):
    """What a step returns is read at log points alone, nothing goes in with it, and one program serves all steps."""
    reads, steps = [], []
    compile_dispatch, device_get = loop.compile_dispatch, jax.device_get

    class Guarded:
        """Stands in for a metric: reading it outside the log is an error."""

        def __init__(self, value):
            self.value = value

        def __array__(self, *args, **kwargs):
            raise AssertionError("a metric was read between log points")

        __float__ = __int__ = __bool__ = item = __array__

        def block_until_ready(self):
            return self

    def compiled_once(experiment, feed, state):
        dispatch = compile_dispatch(experiment, feed, state)
        assert isinstance(dispatch.run, jax.stages.Compiled)

        def step(state, batch):
            with jax.transfer_guard_host_to_device("disallow"):  # the batch is on the device before the step
                state, metrics = dispatch.run(state, batch)
            steps.append(dispatch.run)
            return state, {name: Guarded(value) for name, value in metrics.items()}

        return dispatch._replace(run=step)

    def read(tree):
        if any(isinstance(leaf, Guarded) for leaf in jax.tree.leaves(tree)):
            reads.append(len(steps))
            tree = jax.tree.map(lambda guarded: guarded.value, tree)
        return device_get(tree)

    monkeypatch.setattr(loop, "compile_dispatch", compiled_once)
    monkeypatch.setattr(jax, "device_get", read)
    arguments = ["train", "configs/tiny.yaml", "--data", data, "--run", tmp_path / "r", "--devices", 1, *SMALL]
    assert main([str(a) for a in arguments]) == 0
    # Lines of 3, 6, 9 and 12 steps: once these have finished, at the latest before the validations after 6 and 12.
    assert reads == [6, 6, 12, 12]
    assert len(steps) == 12 and len(set(map(id, steps))) == 1


@pytest.mark.slow
def test_no_space_left_for_a_checkpoint(data, tmp_path):
    """A limit on the size of files stands in for a full disk: one line, and no half-written checkpoint counts.

    However the checkpoint is cut into files, one array of this model alone passes the limit.
    """
    run = tmp_path / "run"
    arguments = ["train", "configs/tiny.yaml", "--data", str(data), "--run", str(run), "--devices", "1", *SMALL]
    arguments.append("model.width=64")
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from demega_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith(f"error: {run}/checkpoints: no space left"), done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_weights_of_classes_are_validated_too(data, tmp_path):
    """The compiled step holds an array of weights, which has no hash."""
    keys = [*SMALL, "train.steps=2", "train.eval_every=2", "loss.class_weights=inverse_sqrt"]
    run = tmp_path / "run"
    words = ["train", "configs/tiny.yaml", "--data", str(data), "--run", str(run), "--devices", "1", *keys]
    assert main(words) == 0
    assert main(["evaluate", str(run)]) == 0
