"""The interface to data, which is the same for every kind of split.

`LabelledRows` is known before any row is read: its labels and the shape of its windows. A `Split` can give the rows as
well. Recordings for the regroup feed are `LabelledRows` only, as their rows are made on the devices in each epoch.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.acquisition import Acquisition
from demega_jax.errors import counted

UNKNOWN = -1  # the label of a row whose class is not known

STATISTICS = ("median", "iqr")  # of each row and sensor, which can be stored beside the windows
# Arrays that a batch can hold beside windows and labels, and their values in a row of padding.
ROW_PADDING = {"median": 0.0, "iqr": 1.0, "target": 0.0}

WindowShape = tuple[int, int | None]  # (sensors, time points; None: any number)
RowNumbers = Int[np.ndarray, " n"]
Rows = Float[np.ndarray, "n C T"]


class RowReader(Protocol):
    """Reads rows of a split in any order; safe to use from several threads."""

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for, in `out` if it is given, or else in the split's `dtype`.

        UserError: a row holds a value that is not finite, or cannot be read.
        """
        ...


class SomeRows:
    """Some rows of another reader, numbered from 0."""

    def __init__(self, source: RowReader, chosen: RowNumbers):
        self._source, self._chosen = source, chosen

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for."""
        return self._source.read(self._chosen[rows], out)


class ShuffledBlocks(NamedTuple):
    """Blocks of rows that were permuted when they were written, so that it is enough to shuffle whole blocks.

    rows: of each file.  size: rows of a block; the last block of a file can be shorter.
    """

    rows: tuple[int, ...]
    size: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LabelledRows:
    """What is known of a split before a row is read.

    path: its file or folder, for messages.  name: train, validation or test.  level: K; None if unknown or mixed.
    labels [N]: the class of each row, a position in `classes`; UNKNOWN for a row that has none.
    reference_macro_f1: the best score possible, where it is known.  simulated: whether the data say that they are
    simulated.  normalization: how the stored windows are normalised; None: they are not.  acquisition: sampling rate
    and sensors, as far as the data say them.
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
    normalization: str | None = None
    acquisition: Acquisition = Acquisition()

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.labels)

    @property
    def window(self) -> tuple[int, int]:
        """(sensors, time points) of a row."""
        return self.sensors, self.time_points

    def class_counts(self) -> Int[np.ndarray, " V"]:
        """Rows of each class."""
        return np.bincount(self.labels[self.labels != UNKNOWN], minlength=len(self.classes))

    @property
    def labelled(self) -> bool:
        """Whether every row has a label."""
        return bool((self.labels != UNKNOWN).all())

    def describe(self) -> str:
        """One line of text about these rows."""
        rows, classes = counted(self.rows, "row"), counted(len(self.classes), "class")
        return f"{rows} of {self.sensors} x {self.time_points}, {classes}: {self.path}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Split(LabelledRows, abc.ABC):
    """A split whose rows can be read.

    dtype: the type in which rows are read.  has_statistics, has_targets: whether `row_arrays` has these.
    """

    dtype: np.dtype = np.dtype(np.float32)
    has_statistics: bool = False
    has_targets: bool = False
    in_memory: ClassVar[bool] = False
    """Whether the rows are in memory already."""

    @abc.abstractmethod
    def reader(self) -> RowReader:
        """The fastest reader that does not load the split into memory."""

    def reader_of(self, rows: RowNumbers) -> RowReader:
        """A reader of some rows, in ascending order, which it numbers from 0. No other row is read."""
        return SomeRows(self.reader(), rows)

    def sample(self, most: int) -> Rows:
        """At most `most` rows, evenly spread over the split, as float32."""
        last = max(self.rows - 1, 0)
        rows = np.unique(np.linspace(0, last, min(most, self.rows)).round().astype(np.int64))
        return self.reader().read(rows).astype(np.float32, copy=False)

    @property
    def row_array_sizes(self) -> dict[str, int]:
        """How many numbers each array of `row_arrays` has in a row."""
        statistics = dict.fromkeys(STATISTICS, self.sensors) if self.has_statistics else {}
        return statistics | ({"target": len(self.classes)} if self.has_targets else {})

    @functools.cached_property
    def row_arrays(self) -> Mapping[str, Float[np.ndarray, "N n"]]:
        """What belongs to each row beside its window and label, float32; read once.

        median, iqr [N, C]: of each sensor over time.  target [N, V]: the probabilities of the classes in rows with soft
        pseudo-labels, and zeros in the others.
        """
        return self.read_row_arrays() if self.row_array_sizes else {}

    def read_row_arrays(self) -> dict[str, Float[np.ndarray, "N n"]]:
        """Read the `row_arrays`. UserError: numbers that are not finite."""
        return {}

    @property
    def shuffled_blocks(self) -> ShuffledBlocks | None:
        """The blocks that can be shuffled instead of rows; None: rows must be shuffled one by one."""
        return None

    @property
    def slow_reason(self) -> str:
        """Why single rows can only be read through HDF5, which is slow; empty if they can be read directly."""
        return ""

    @property
    def nbytes(self) -> int:
        """Bytes of all rows as they are read."""
        return self.rows * self.sensors * self.time_points * self.dtype.itemsize


def facts(rows: LabelledRows) -> dict[str, Any]:
    """The fields that every split has, by name."""
    return {field.name: getattr(rows, field.name) for field in dataclasses.fields(LabelledRows)}
