"""A recording tree read as a configuration says: session runs by split, windows, averages for evaluation."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.config import DataConfig
from demega_jax.data.grouped import check_window
from demega_jax.data.recordings.classes import classes_of, event_choice
from demega_jax.data.recordings.grouping import Groups, GroupSettings, average_groups, make_groups
from demega_jax.data.recordings.runs import Recording, find_recordings
from demega_jax.data.recordings.splits import BY_TABLE, official, read_splits
from demega_jax.data.recordings.statistics import StatisticsOf, statistics
from demega_jax.data.recordings.windows import Windows, find_windows
from demega_jax.data.rows import MemoryRows
from demega_jax.data.split import LabelledRows, RowNumbers, RowReader, Split, WindowShape, facts
from demega_jax.errors import UserError, listed
from demega_jax.names import straight


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AveragedRecordings(Split):
    """A split whose rows are averaged in memory when they are first read; the rows are those that `group` would write.

    wanted: the groups of each level.  statistics: means and standard deviations that standardise the recordings.
    """

    wanted: tuple[Groups, ...]
    statistics: StatisticsOf
    in_memory = True

    @functools.cached_property
    def x(self) -> Float[np.ndarray, "N C T"]:
        """All rows: the groups of one level after those of another."""
        return average_groups(self.wanted, self.statistics())

    def reader(self) -> RowReader:
        """The rows from memory."""
        return MemoryRows(self, self.x)

    def reader_of(self, rows: RowNumbers) -> RowReader:
        """Some rows, in ascending order, from memory. Only their groups are averaged."""
        ends = np.cumsum([len(groups) for groups in self.wanted])
        of_level = np.split(rows, np.searchsorted(rows, ends[:-1]))
        starts = [0, *ends[:-1].tolist()]
        parts = tuple(g.some(some - start) for g, some, start in zip(self.wanted, of_level, starts, strict=True))
        return dataclasses.replace(self, wanted=parts, labels=self.labels[rows]).reader()


@dataclasses.dataclass(frozen=True, eq=False)
class RecordingTree:
    """A recording tree: its session runs by split, and the statistics of the session runs of train."""

    path: Path
    runs: dict[str, list[Recording]]
    statistics: StatisticsOf
    config: DataConfig

    @property
    def levels(self) -> tuple[int, ...]:
        """The grouping levels that the configuration names. UserError: it names none."""
        if not self.config.levels:
            came = f"no level given for the recordings in {self.path}"
            wanted = "the number of windows K in a group"
            raise UserError("--level", came, wanted, "add --level K, for example --level 20")
        return self.config.levels

    def windows(self, split: str, classes: Sequence[str] | None) -> Windows:
        """The windows of a split. classes: names; None: as the configuration says, from the session runs of train.

        UserError: no session run, or no window; other classes than those of the file of classes.
        """
        if split not in self.runs:
            wanted = f"a split that has session runs: {', '.join(self.runs)}"
            raise UserError(self.path, f"no session run for {split}", wanted, BY_TABLE)
        settings = self.config.regroup
        if classes is None:
            classes = classes_of(self.runs["train"], settings.top)
        self._check_classes(classes)
        return find_windows(self.runs[split], tmin=settings.tmin, tmax=settings.tmax, classes=classes)

    def _check_classes(self, classes: Sequence[str]) -> None:
        """UserError: the file of classes has other classes than these, which are those of a model or model.classes."""
        class_map = next(iter(self.runs.values()))[0].choice.class_map
        if class_map is not None and [*map(straight, classes)] != [*map(straight, class_map.classes)]:
            came, wanted = f"the classes {listed(class_map.classes, 8)}", f"{listed(classes, 8)}, as in model.classes"
            raise UserError(class_map.path, came, wanted, "name the same classes in the same order")

    def labelled(self, split: str, windows: Windows, labels: np.ndarray) -> LabelledRows:
        """The description of rows that are groups of these windows. labels: of the groups."""
        return LabelledRows(
            path=self.path,
            name=split,
            level=self.levels[0] if len(self.levels) == 1 else None,
            sensors=windows.recordings[0].sensors,
            time_points=windows.time_points,
            classes=windows.classes,
            labels=labels,
            simulated=windows.simulated,
            acquisition=windows.acquisition,
        )

    def averages(
        self, split: str, classes: Sequence[str] | None, expect_shape: WindowShape | None = None
    ) -> AveragedRecordings:
        """A split's groups of every level in the order of the recordings. UserError: no such split, no group."""
        windows = self.windows(split, classes)
        settings = GroupSettings(seed=None, drop_remaining=self.config.regroup.drop_remaining)
        groups = [
            make_groups(windows, level, settings, shuffle=False, name=f"{split} at level {level}")
            for level in self.levels
        ]
        labels = np.concatenate([each.label for each in groups])
        if not len(labels):
            came = f"no class has {min(self.levels)} windows in {split}"
            way_out = "lower --level, or set data.regroup.drop_remaining=false"
            raise UserError("data.level", came, "a level that gives at least one group", way_out)
        check_window(self.path, windows.recordings[0].sensors, windows.time_points, expect_shape)
        known = facts(self.labelled(split, windows, labels))
        return AveragedRecordings(**known, wanted=tuple(groups), statistics=self.statistics)


def open_recordings(path: Path, config: DataConfig) -> RecordingTree:
    """Open a recording tree. UserError: session runs that are not sound, or a file of splits that lacks one."""
    settings = config.regroup
    file = None if settings.classes_file is None else Path(settings.classes_file)
    choice = event_choice("data.regroup.", settings.events, settings.label, file, settings.top)
    recordings = find_recordings(path, rate=settings.resample, choice=choice)
    splits = settings.splits
    runs = official(recordings) if splits is None else read_splits(Path(splits), recordings)
    # The statistics are computed when they are first needed. So what does not fit together is refused before hours of
    # recordings are read.
    return RecordingTree(path, runs, functools.cache(lambda: statistics(runs["train"], print)), config)
