"""What a data folder holds, and a split of it: grouped files, shards, or recordings."""

from collections.abc import Sequence
from pathlib import Path

from demega_jax.config import DataConfig
from demega_jax.data.grouped import GroupedSplit, find_levels
from demega_jax.data.levels import open_levels
from demega_jax.data.recordings.averaged import open_recordings
from demega_jax.data.recordings.runs import has_recordings


def is_recorded(folder: Path, config: DataConfig) -> bool:
    """Whether a folder is to be read as a recording tree; grouped files go first, unless the feed is regroup."""
    return has_recordings(folder) and (config.feed == "regroup" or not find_levels(folder))


def open_split(
    folder: Path, split: str, config: DataConfig, *, classes: Sequence[str] | None = None,
    expect_shape: tuple[int, int | None] | None = None,
) -> GroupedSplit:  # fmt: skip
    """A split to evaluate on, of whatever the folder holds; of recordings, averages at `config.level`."""
    if is_recorded(folder, config):
        return open_recordings(folder, config).averages(split, classes, expect_shape)
    return open_levels(folder, config.level, split, classes=classes, expect_shape=expect_shape)
