"""A recording tree as the original reads it, and a copy of it to be broken; nothing is remembered elsewhere."""

import shutil
from pathlib import Path

import pytest
from helpers.recordings import GOLDEN_TREE


@pytest.fixture(autouse=True)
def empty_cache(own_cache):
    """Statistics of recordings are measured anew."""


@pytest.fixture
def tree(tmp_path) -> Path:
    return Path(shutil.copytree(GOLDEN_TREE, tmp_path / "tree"))
