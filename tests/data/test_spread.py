"""Windows that are small beside the epsilon of their normalisation (tesla) are named by every command."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import ONE_SCHEDULE, TINY_MODEL
from helpers.data import grouped_path, open_grouped, simulate_grouped
from helpers.errors import assert_facts, the_warning
from helpers.runs import run_command, train

from demega_jax.data.spread import warn_of_small_spread
from demega_jax.errors import set_warning_sink

SMALL = [*TINY_MODEL, ONE_SCHEDULE, "train.batch_size=16", "train.epochs=null", "train.steps=2"]
WAY_OUT = ("tesla", "1e12", "median_iqr")


def warnings_of(x: np.ndarray, how: str) -> list[str]:
    said: list[str] = []
    set_warning_sink(said.append)
    try:
        warn_of_small_spread("windows", x, how)
    finally:
        set_warning_sink(None)
    return said


@pytest.mark.parametrize(("how", "least"), [("median_iqr", 1e-4), ("instance", 1e-3), ("zscore", 1e-3)])
def test_the_limit_is_a_hundred_epsilons(how, least):
    """Of the interquartile range 1e-6, of the variance 1e-5."""
    x = np.random.default_rng(0).standard_normal((8, 5, 400)).astype(np.float32)
    if how == "median_iqr":
        spread = np.median(np.subtract(*np.quantile(x, [0.75, 0.25], axis=-1)))
        above, below = x / spread * least * 1.1, x / spread * least * 0.9
    else:
        variance = np.median(x.var(axis=-1 if how == "instance" else (-2, -1)))
        above, below = (x * np.sqrt(factor * least / variance) for factor in (1.1, 0.9))
    assert warnings_of(above, how) == [] and len(warnings_of(below, how)) == 1
    assert warnings_of(below, "none") == [] and warnings_of(below[:0], how) == []


@pytest.fixture(scope="module")
def tesla(tmp_path_factory) -> Path:
    """A grouped level whose windows are 1e12 times smaller than standardised ones."""
    folder = tmp_path_factory.mktemp("tesla")
    simulate_grouped(folder, levels=[100], groups=96, sensors=5, time_points=9, seed=1)
    for split in ("train", "validation", "test"):
        with h5py.File(grouped_path(folder, 100, split), "a") as file:
            file["data"][...] *= 1e-12
            del file["row_crc32"]  # the change is on purpose
    return folder


@pytest.fixture(scope="module")
def run(tesla, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tesla"
    assert train(tesla, path, *SMALL) == 0
    return path


def spread_lines(capsys) -> list[str]:
    """The warnings about the spread; too few rows for all classes are another matter."""
    return [line for line in capsys.readouterr().err.splitlines() if "normalisation" in line]


@pytest.mark.slow
def test_train_evaluate_shard_and_inspect_say_so(tesla, run, tmp_path, capsys):
    capsys.readouterr()
    assert train(tesla, tmp_path / "again", *SMALL) == 0
    the_warning(spread_lines(capsys), *WAY_OUT, "train_grouped.h5")
    assert run_command("evaluate", run, "--split", "test") == 0
    the_warning(spread_lines(capsys), *WAY_OUT, "test_grouped.h5")
    assert run_command("shard", tesla, tmp_path / "shards", "--dtype", "float32") == 0
    the_warning(spread_lines(capsys), *WAY_OUT)
    assert run_command("inspect", grouped_path(tesla, 100)) == 0
    assert_facts(" ".join(capsys.readouterr().out.split()), "tesla", "1e12")


@pytest.mark.slow
def test_predict_says_so(tesla, run, capsys):
    from demega_jax import load

    model, x = load(run), open_grouped(grouped_path(tesla, 100)).sample(4)
    capsys.readouterr()
    model.predict(x)
    the_warning(spread_lines(capsys), *WAY_OUT)
    model.predict(x * 1e12)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_standardised_data_are_no_news(tmp_path, capsys):
    simulate_grouped(tmp_path, levels=[100], groups=96, sensors=5, time_points=9, seed=1)
    capsys.readouterr()
    assert train(tmp_path, tmp_path / "run", *SMALL) == 0
    assert "tesla" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_says_so_too(tesla, tmp_path, capsys):
    more = [*SMALL, "train.steps=2", "train.eval_every=2"]
    words = ["sweep", "configs/tiny.yaml", "--data", tesla, "--run", tmp_path / "sweep", "--seeds", 1, "--devices", 1]
    assert run_command(*words, *more) == 0
    assert any("train_grouped.h5" in line for line in spread_lines(capsys))
