"""Splits straight from recordings: groups for training on the device (regroup), averages in memory for evaluation."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from demega_jax.config import DataConfig
from demega_jax.data.feeds.regroup_tables import Plan, make_plan
from demega_jax.data.grouped import GroupedSplit, check_window
from demega_jax.data.recordings.grouping import Averages, GroupSettings, average_groups, make_groups
from demega_jax.data.recordings.runs import Recording, Windows, find_recordings, find_windows
from demega_jax.data.recordings.splits import official, read_splits
from demega_jax.data.recordings.statistics import Statistics, statistics
from demega_jax.errors import UserError
from demega_jax.phonemes import PHONEMES

StatisticsOf = Callable[[], Statistics]  # of the runs of train, read at the first call


@dataclasses.dataclass(frozen=True, eq=False)
class RegroupSplit(GroupedSplit):
    """A training split whose rows are the groups of an epoch, made by `RegroupFeed`."""

    windows: Windows
    statistics: StatisticsOf
    plan: Plan

    @property
    def nbytes(self) -> int:
        """Size of the recordings in float32."""
        return sum(recording.nbytes for recording in self.windows.recordings)


@dataclasses.dataclass(frozen=True, eq=False)
class AveragedSplit(GroupedSplit):
    """A split whose rows are averaged in memory when they are first read, as `group` would write them."""

    wanted: tuple[Averages, ...]
    statistics: StatisticsOf

    @functools.cached_property
    def x(self) -> Float[np.ndarray, "N C T"]:
        """The rows."""
        means = average_groups(self.wanted, self.statistics())
        return means[0] if len(means) == 1 else np.concatenate(means)


@dataclasses.dataclass(frozen=True, eq=False)
class RecordedData:
    """A recording tree as the configuration wants it read: its runs by split, and the statistics of those of train."""

    path: Path
    runs: dict[str, list[Recording]]
    statistics: StatisticsOf
    config: DataConfig

    def train(self, classes: Sequence[str] | None) -> RegroupSplit:
        """The groups of an epoch of training. UserError: no level, no window."""
        windows, levels = self._windows("train", classes), self._levels()
        plan = make_plan(windows, levels, self.config.regroup, self.config.shares, self.config.shares_seed)
        labels = plan.labels()
        fields = self._fields("train", levels, windows, labels)
        return RegroupSplit(**fields, windows=windows, statistics=self.statistics, plan=plan)

    def averages(
        self, split: str, classes: Sequence[str] | None, expect_shape: tuple[int, int | None] | None = None
    ) -> AveragedSplit:
        """A split's groups of every level in the order of the recordings. UserError: no such split, no group."""
        windows, levels = self._windows(split, classes), self._levels()
        settings = GroupSettings(seed=None, drop_remaining=self.config.regroup.drop_remaining)
        groups = [make_groups(windows, k, settings, shuffle=False, name=f"{split} at level {k}") for k in levels]
        labels = np.concatenate([each.label for each in groups])
        if not len(labels):
            raise UserError(
                "data.level", f"no group of {min(levels)} windows in {split}", "a level with groups", "lower it"
            )
        check_window(self.path, windows.recordings[0].sensors, windows.time_points, expect_shape)
        wanted = tuple(Averages(windows, each) for each in groups)
        return AveragedSplit(**self._fields(split, levels, windows, labels), wanted=wanted, statistics=self.statistics)

    def _levels(self) -> tuple[int, ...]:
        if not self.config.levels:
            raise UserError(
                "--level", f"none, with the recordings of {self.path}", "a grouping level K", "give --level K"
            )
        return self.config.levels

    def _windows(self, split: str, classes: Sequence[str] | None) -> Windows:
        if split not in self.runs:
            raise UserError(
                self.path, f"no run for {split}", f"splits that have runs: {', '.join(self.runs)}",
                "add runs, or assign them with data.regroup.splits",
            )  # fmt: skip
        settings = self.config.regroup
        return find_windows(self.runs[split], tmin=settings.tmin, tmax=settings.tmax, classes=classes or PHONEMES)

    def _fields(self, split: str, levels: tuple[int, ...], windows: Windows, labels: np.ndarray) -> dict[str, Any]:
        """What every split has."""
        return {
            "path": self.path, "name": split, "level": levels[0] if len(levels) == 1 else None, "rows": len(labels),
            "sensors": windows.recordings[0].sensors, "time_points": windows.time_points, "classes": windows.classes,
            "labels": labels, "reference_macro_f1": None,
        }  # fmt: skip


def open_recordings(path: Path, config: DataConfig) -> RecordedData:
    """A recording tree. UserError: runs that are not sound, a file of splits that does not fit."""
    recordings = find_recordings(path)
    splits = config.regroup.splits
    runs = official(recordings) if splits is None else read_splits(Path(splits), recordings)
    # Read when they are first needed: what does not fit together is refused before hours of recordings are read.
    return RecordedData(path, runs, functools.cache(lambda: statistics(runs["train"], print)), config)
