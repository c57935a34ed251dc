from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path) -> Path:
    """Where a sound file of level 5 goes."""
    return tmp_path / "grouped_5" / "train_grouped.h5"
