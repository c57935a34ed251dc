"""What `inspect` looks at in several files: grouped files, a recording tree, and a copy of it to be broken."""

import shutil
from pathlib import Path

import pytest
from helpers.data import simulate_grouped

from demega_jax.data.simulate.recordings import simulate_recordings


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> Path:
    """Levels 2 and 4 of 120 train rows, 6 sensors, 8 time points."""
    out = tmp_path_factory.mktemp("grouped")
    simulate_grouped(out, levels=[2, 4], groups=120, sensors=6, time_points=8, seed=1)
    return out


@pytest.fixture(scope="session")
def whole_tree(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    simulate_recordings(out, minutes=1, sensors=6, seed=2)
    return out


@pytest.fixture
def tree(whole_tree, tmp_path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(whole_tree, tmp_path / "tree"))
