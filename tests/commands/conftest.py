"""Small data and a run on them, for the tests of the commands."""

from pathlib import Path

import pytest
from command_line import SMALL

from demega_jax.cli import main
from demega_jax.data.simulate.grouped import simulate_grouped


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[100], groups=125, sensors=5, time_points=9, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert (
        main(["train", "configs/tiny.yaml", "--data", str(data), "--run", str(folder), "--devices", "1", *SMALL]) == 0
    )
    return folder
