"""Splits straight from recordings: averages in memory, for evaluation."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from demega_jax.data.recordings.grouping import Groups, average_groups
from demega_jax.data.recordings.statistics import StatisticsOf
from demega_jax.data.rows import MemoryRows
from demega_jax.data.split import RowNumbers, RowReader, Split


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AveragedRecordings(Split):
    """A split whose rows are averaged in memory when they are first read; the rows are those that `group` would write.

    wanted: the groups of each level.  statistics: means and standard deviations that standardise the recordings.
    """

    wanted: tuple[Groups, ...]
    statistics: StatisticsOf

    @functools.cached_property
    def x(self) -> Float[np.ndarray, "N C T"]:
        """All rows: the groups of one level after those of another."""
        return average_groups(self.wanted, self.statistics())

    @property
    def in_memory(self) -> bool:
        """Whether the rows lie in memory already."""
        return True

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
