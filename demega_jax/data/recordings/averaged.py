"""Splits straight from recordings: averages in memory, for evaluation."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from demega_jax.data.recordings.grouping import Averages, average_groups
from demega_jax.data.recordings.statistics import Statistics
from demega_jax.data.rows import MemoryRows
from demega_jax.data.split import RowNumbers, RowReader, Split

StatisticsOf = Callable[[], Statistics]  # computed at the first call, from the session runs of train


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AveragedRecordings(Split):
    """A split whose rows are averaged in memory when they are first read; the rows are those that `group` would write.

    wanted: the groups of each level.  statistics: means and standard deviations that standardise the recordings.
    """

    wanted: tuple[Averages, ...]
    statistics: StatisticsOf

    @functools.cached_property
    def x(self) -> Float[np.ndarray, "N C T"]:
        """All rows: the groups of one level after those of another."""
        means = average_groups(self.wanted, self.statistics())
        return means[0] if len(means) == 1 else np.concatenate(means)

    @property
    def in_memory(self) -> bool:
        """Whether the rows lie in memory already."""
        return True

    def reader(self) -> RowReader:
        """The rows from memory."""
        return MemoryRows(self, self.x)

    def reader_of(self, rows: RowNumbers) -> RowReader:
        """Some rows, in ascending order, from memory. Only their groups are averaged."""
        ends = np.cumsum([len(each.groups) for each in self.wanted])
        of_level = np.split(rows, np.searchsorted(rows, ends[:-1]))
        starts = [0, *ends[:-1].tolist()]
        parts = tuple(
            Averages(each.windows, each.groups.some(some - start))
            for each, some, start in zip(self.wanted, of_level, starts, strict=True)
        )
        return dataclasses.replace(self, wanted=parts, labels=self.labels[rows]).reader()
