"""Training with the regroup feed from the command line: on any devices, after a stop, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from helpers import ONE_SCHEDULE, TINY_MODEL
from helpers.data import open_grouped
from helpers.errors import assert_facts, fails_with
from helpers.feeds import limit_device_memory
from helpers.runs import evaluate, losses, run_command, train_arguments
from helpers.runs import train as train_run

from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.splits import official, write_splits

pytestmark = pytest.mark.usefixtures("own_cache")
SMALL = [
    *TINY_MODEL,
    ONE_SCHEDULE,
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps=10",
    "train.eval_every=10",
    "train.log_every=1",
    "data.feed=regroup",
    "data.regroup.tmax=0.1",
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recordings") / "rec"
    assert run_command("simulate", root, "--recordings", "--minutes", 4, "--sensors", 5, "--seed", 1) == 0
    return root


def train(recordings, run, *more, devices: int = 1) -> int:
    return train_run(recordings, run, "--level", 5, *SMALL, *more, devices=devices)


@pytest.mark.parametrize("how", [pytest.param("replicated", marks=pytest.mark.long), "dealt"])
@pytest.mark.slow
def test_train_on_one_or_eight_devices_and_after_a_stop(recordings, tmp_path, capsys, how):
    option = f"data.regroup.recordings={how}"
    for devices in (1, 8):
        assert train(recordings, tmp_path / str(devices), option, devices=devices) == 0
    assert_facts(capsys.readouterr().out, "float32", how, "on each device")
    np.testing.assert_allclose(losses(tmp_path / "8"), losses(tmp_path / "1"), rtol=1e-4)
    assert train(recordings, tmp_path / "half", option, "train.steps=5") == 0
    assert train(recordings, tmp_path / "half", option, "--resume") == 0
    assert losses(tmp_path / "half") == losses(tmp_path / "1")


@pytest.mark.slow
def test_recordings_and_their_groups_score_alike(recordings, tmp_path, capsys):
    run, files = tmp_path / "run", tmp_path / "files"
    assert train(recordings, run, "data.regroup.target_rows=9", "data.dtype=float16") == 0
    assert run_command("group", recordings, files, "--level", 5, 10, "--tmax", 0.1) == 0

    def scores(*options) -> dict:
        return evaluate(run, tmp_path / "scores.json", *options)

    for level in (5, 10):
        direct, grouped = (
            scores("--data", folder, "--level", level, "--split", "test") for folder in (recordings, files)
        )
        assert direct["confusion"] == grouped["confusion"]
        np.testing.assert_allclose(direct["loss"], grouped["loss"], rtol=1e-5)
    out = capsys.readouterr().out
    assert_facts(out, "9 x 5", "of each")
    runs, swapped = official(find_recordings(recordings)), tmp_path / "splits.json"
    write_splits(swapped, runs | {"validation": runs["test"], "test": runs["validation"]})
    direct, usual = scores("--split", "test", "--splits", swapped), scores("--split", "validation")
    assert direct["confusion"] == usual["confusion"] != grouped["confusion"]
    capsys.readouterr()
    other = tmp_path / "other"
    assert run_command("simulate", other, "--recordings", "--minutes", 4, "--sensors", 4) == 0
    fails_with(capsys, ["evaluate", run, "--data", other], "4 sensors", "25 time points")
    validation = open_grouped(files / "grouped_5/validation_grouped.h5")
    support = sum(n for n in validation.class_counts())
    assert_facts(out, f"{support} rows", "5 x 25")


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (["data.feed=stream"], "data.feed=regroup"),
        (["--parallel", "pmap"], "--parallel jit"),
        (["data.shares=4", "--devices", "8"], "data.shares=8"),
        (["data.level=null"], "--level"),
        (["data.level=[5,10]", "data.regroup.target_rows=3"], "level=10"),
        (["data.level=1000", "data.regroup.drop_remaining=true"], "drop_remaining=false"),
        (["data.regroup.splits=/no/such"], "/no/such"),
        (["data.regroup.tmax=0"], "2"),
        (["data.regroup.overlap=0.5"], "data.regroup.overlap"),
        (["model.time_points=9"], "model.time_points"),
    ],
)
def test_what_cannot_be_is_refused(recordings, tmp_path, capsys, options, fact):
    words = train_arguments(recordings, tmp_path / "run", *SMALL, "data.level=5", *options, devices=None)
    fails_with(capsys, words, fact)
    assert not (tmp_path / "run").exists()


def test_what_cannot_fit_is_refused_beforehand(recordings, tmp_path, capsys, monkeypatch):
    limit_device_memory(monkeypatch, 10_000)
    for devices, way in ((2, "data.regroup.recordings=dealt"), (1, "demega-jax group")):
        words = train_arguments(recordings, tmp_path / "run", "--level", 5, *SMALL, devices=devices)
        fails_with(capsys, words, "data.feed", "regroup", "recordings", way)
    assert not (tmp_path / "run").exists()


def test_grouped_files_are_no_recordings(recordings, tmp_path, capsys):
    assert run_command("group", recordings, tmp_path / "files", "--level", 5, "--tmax", 0.1) == 0
    words = train_arguments(tmp_path / "files", tmp_path / "run", "--level", 5, *SMALL)
    fails_with(capsys, words, "--recordings")
