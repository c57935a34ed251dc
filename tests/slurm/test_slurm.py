"""Training runs in jobs of a real SLURM: two tasks train once, and a job that is preempted ends with the same bits."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, TINY_MODEL
from helpers.arrays import INERT, assert_same_arrays
from helpers.data import simulate_grouped
from helpers.runs import evaluate, lines_of, newest_arrays, train

from slurm.cluster import CREDENTIAL, cluster, missing, said, wait_for

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(missing()), reason=missing() or "a real SLURM")]

SECONDS = 900  # most that a job takes, on a busy machine
STEPS = 200
KEYS = [
    *TINY_MODEL,
    "model.dropout=0.5",
    "train.batch_size=16",
    "train.epochs=null",
    "train.eval_every=100",
    "train.save_every=100",
    "train.log_every=1",
]
COMMAND = f"{sys.executable} -m demega_jax"
BATCH = """#!/bin/bash
set -euo pipefail
echo started >> {run}.starts
if [ -e {run}/config.yaml ]; then
  srun {command} train --resume --run {run} --devices 2 --join-within 300
else
  srun {command} train {words} --join-within 300
fi
"""


@pytest.fixture(scope="module")
def env() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        Path(name).chmod(0o755)
        with cluster(Path(name)) as found:
            yield found | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[100], groups=72, sensors=5, time_points=9, seed=1)
    return folder


def words_of(data: Path, run: Path, steps: int) -> list[str]:
    keys = [*KEYS, f"train.steps={steps}"]
    return [str(ROOT / "configs" / "tiny.yaml"), "--data", str(data), "--run", str(run), "--devices", "2", *keys]


def srun(env: dict[str, str], *words: object) -> subprocess.CompletedProcess:
    """A command in two tasks."""
    line = ["srun", "-n", "2", sys.executable, "-m", "demega_jax", *map(str, words)]
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=SECONDS, cwd=ROOT)


def test_two_tasks_train_and_evaluate_once(env, data, tmp_path):
    """The numbers are those of one process with two devices."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(data, one, *KEYS, "train.steps=6", "train.save_every=6", "train.eval_every=6", devices=2) == 0
    done = srun(env, "train", *words_of(data, two, 6), "train.save_every=6", "train.eval_every=6")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 6/6") == 2  # training and validation, of one task
    ours, theirs = lines_of(two), lines_of(one)
    assert [(line["step"], line["split"]) for line in ours] == [(line["step"], line["split"]) for line in theirs]
    np.testing.assert_allclose([line["loss"] for line in ours], [line["loss"] for line in theirs], rtol=2e-5)
    arrays, other = newest_arrays(two), newest_arrays(one)
    for name in arrays:
        if name.startswith("params.") and not name.endswith(INERT):
            np.testing.assert_allclose(arrays[name], other[name], rtol=1e-4, atol=1e-5, err_msg=name)
    alone = evaluate(two, tmp_path / "alone.json", "--split", "test")
    done = srun(env, "evaluate", two, "--split", "test", "--json", tmp_path / "two.json")
    assert done.returncode == 0 and done.stdout.count("macro-F1") == alone_lines(done.stdout), done.stderr
    assert json.loads((tmp_path / "two.json").read_text())["confusion"] == alone["confusion"]


def alone_lines(text: str) -> int:
    """How often one process prints the macro-F1: in the summary, and beside the reference."""
    return 1 + text.count("reference macro-F1")


def test_what_only_one_task_can_do_is_refused(env, data, tmp_path):
    done = srun(env, "inspect", data)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and all("of 2 tasks of SLURM" in line for line in errors)


def test_a_job_that_is_requeued_ends_with_the_same_bits(env, data, tmp_path):
    """`scontrol requeue` ends the tasks in the midst of training, as a preemption does, and the job starts again."""
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    done = srun(env, "train", *words_of(data, undisturbed, STEPS))
    assert done.returncode == 0, done.stderr
    script = tmp_path / "job.sh"
    words = " ".join(words_of(data, run, STEPS))
    script.write_text(BATCH.format(run=run, command=COMMAND, words=words))
    log = tmp_path / "job.log"
    sbatch = ["sbatch", "--parsable", "--ntasks=2", "--requeue", "--open-mode=append", f"--output={log}", str(script)]
    job = subprocess.run(sbatch, env=env, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    wait_for(lambda: (run / "metrics.jsonl").exists() and len(lines_of(run)) > STEPS // 10, SECONDS)
    subprocess.run(["scontrol", "requeue", job], env=env, check=True)
    wait_for(lambda: (tmp_path / "run.starts").read_text() == "started\nstarted\n", SECONDS + 3 * CREDENTIAL)
    assert lines_of(run)[-1]["step"] < STEPS, "it was not stopped in the midst"
    wait_for(lambda: "JobState=COMPLETED" in said(env, "scontrol", "show", "job", job), SECONDS)
    text = log.read_text()
    assert "interrupted and saved" in text and "Traceback" not in text, text[:6000]
    assert "going on after step" in text, text[:6000]
    assert_same_arrays(newest_arrays(run), newest_arrays(undisturbed))
    assert [line["step"] for line in lines_of(run)] == [line["step"] for line in lines_of(undisturbed)]
    assert [line["loss"] for line in lines_of(run)] == [line["loss"] for line in lines_of(undisturbed)]
