"""A training run that several files of tests copy and spoil."""

import shutil
from pathlib import Path

import pytest
from helpers.data import simulate_grouped
from helpers.runs import train
from helpers.small_run import KEYS


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A folder with `data`, and the training run `run` on them, with checkpoints of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("small")
    simulate_grouped(folder / "data", levels=[100], groups=64, sensors=5, time_points=9, seed=1)
    assert train(folder / "data", folder / "run", *KEYS) == 0
    return folder


@pytest.fixture
def data(small) -> Path:
    """The data of that run."""
    return small / "data"


@pytest.fixture
def run(small, tmp_path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(small / "run", tmp_path / "run"))
