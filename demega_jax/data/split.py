"""The one interface to data: what every split answers, whatever it is made of.

`LabelledRows` is known before any row is read: its labels and the shape of its windows. `Split` can give the rows as
well. Recordings for the regroup feed are `LabelledRows` only: their rows are made on the devices, epoch by epoch.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

# Numbers of each row and sensor that can lie beside the windows, and what a row of padding has in their place.
STATISTICS_PADDING = {"median": 0.0, "iqr": 1.0}


class RowReader(Protocol):
    """Reads rows of a split in any order; safe to use from several threads."""

    def read(
        self, rows: Int[np.ndarray, " n"], out: Float[np.ndarray, "n C T"] | None = None
    ) -> Float[np.ndarray, "n C T"]:
        """The rows, in the order asked for, in `out` if it is given, else in the split's `dtype`.

        UserError: a row holds a value that is not finite, or cannot be read.
        """
        ...


class ShuffledBlocks(NamedTuple):
    """Rows that were permuted when they were written, so that whole blocks can be shuffled in place of rows.

    rows: of each file.  size: rows of a block; the last block of a file can be shorter.
    """

    rows: tuple[int, ...]
    size: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LabelledRows:
    """What is known of a split before a row is read.

    path: where it lies, for messages.  name: train, validation or test.  level: K; None where it is unknown or mixed.
    labels [N]: the class of each row, a position in `classes`.  reference_macro_f1: the best score possible, where
    that is known.  simulated: whether the data say that they are simulated.
    """

    path: Path
    name: str
    level: int | None
    sensors: int
    time_points: int
    classes: tuple[str, ...]
    labels: Int[np.ndarray, " N"]
    reference_macro_f1: float | None = None
    simulated: bool = False

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.labels)

    @property
    def window(self) -> tuple[int, int]:
        """(sensors, time points) of a row."""
        return self.sensors, self.time_points

    @property
    def normalization(self) -> str | None:
        """How the windows are normalised already; None: they are not."""
        return None

    def class_counts(self) -> Int[np.ndarray, " V"]:
        """Rows of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def describe(self) -> str:
        """One line for people."""
        return f"{self.rows} rows of {self.sensors} x {self.time_points}, {len(self.classes)} classes: {self.path}"


class Split(LabelledRows, abc.ABC):
    """A split whose rows can be read."""

    @abc.abstractmethod
    def reader(self) -> RowReader:
        """The fastest reader that does not load the split into memory."""

    def sample(self, most: int) -> Float[np.ndarray, "n C T"]:
        """At most so many rows, from all over the split, as float32."""
        rows = np.unique(np.linspace(0, self.rows - 1, min(most, self.rows)).round().astype(np.int64))
        return self.reader().read(rows).astype(np.float32, copy=False)

    @property
    def dtype(self) -> np.dtype:
        """The type in which rows are read."""
        return np.dtype(np.float32)

    @property
    def has_statistics(self) -> bool:
        """Whether `row_statistics` holds anything."""
        return False

    @functools.cached_property
    def row_statistics(self) -> Mapping[str, Float[np.ndarray, "N C"]]:
        """Median and interquartile range of each row's sensors over time, float32, read once and kept."""
        return self.read_row_statistics() if self.has_statistics else {}

    def read_row_statistics(self) -> dict[str, Float[np.ndarray, "N C"]]:
        """`row_statistics` from where they lie. UserError: numbers that are not finite."""
        return {}

    @property
    def shuffled_blocks(self) -> ShuffledBlocks | None:
        """The blocks that can be shuffled in place of rows; None: rows must be shuffled one by one."""
        return None

    @property
    def in_memory(self) -> bool:
        """Whether the rows lie in memory already."""
        return False

    @property
    def slow_reason(self) -> str:
        """Why single rows can be read through HDF5 only, which is slow; empty where that is not so."""
        return ""

    @property
    def nbytes(self) -> int:
        """Bytes of all rows as they are read."""
        return self.rows * self.sensors * self.time_points * self.dtype.itemsize
