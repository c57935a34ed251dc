"""Splits made of another split: some of its rows, or all of its rows with their windows changed as they are read."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from demega_jax.data.split import RowNumbers, RowReader, Rows, Split, facts
from demega_jax.errors import UserError
from demega_jax.signal.denoise import denoise

Change = Callable[[Rows, RowNumbers], Rows]  # (windows, their row numbers) -> windows


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SampledSplit(Split):
    """Some rows of another split. chosen [n]: their numbers in the source."""

    source: Split
    chosen: RowNumbers

    @functools.cached_property
    def _reader(self) -> RowReader:
        return self.source.reader_of(self.chosen)

    def reader(self) -> RowReader:
        """Reads these rows of the source, numbered from 0."""
        return self._reader


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ChangedSplit(Split):
    """The rows of another split, changed by a function when they are read."""

    source: Split
    change: Change

    def reader(self) -> RowReader:
        """Reads rows of the source and changes them."""
        return ChangedRows(self.source.reader(), self.change)


class ChangedRows:
    """Rows of another reader, changed."""

    def __init__(self, source: RowReader, change: Change):
        self._source, self._change = source, change

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for, in float32."""
        found = self._change(self._source.read(rows), rows)
        if out is None:
            return found
        np.copyto(out, found)
        return out


def sampled(split: Split, most: int, seed: int) -> SampledSplit:
    """At most so many rows of a split, drawn by the seed and in its order; all rows of a split that has no more."""
    rows = np.arange(split.rows)
    if split.rows > most:
        rows = np.sort(np.random.default_rng(seed).choice(split.rows, most, replace=False))
    return SampledSplit(**facts(split) | {"labels": split.labels[rows]}, dtype=split.dtype, source=split, chosen=rows)


def changed(split: Split, change: Change) -> ChangedSplit:
    """A split whose windows are changed as they are read. UserError: as for `check_raw`."""
    check_raw(split)
    return ChangedSplit(**facts(split), source=split, change=change)


def denoised(split: Split) -> ChangedSplit:
    """A split whose windows are denoised by wavelets as they are read. UserError: as for `check_raw`."""
    return changed(split, lambda x, rows: denoise(x))


def check_raw(split: Split) -> None:
    """UserError: windows are stored normalised, and what changes them must come before that."""
    if split.normalization is not None:
        came = f"windows that are stored normalised by {split.normalization}"
        raise UserError(split.path, came, "windows as `demega-jax group` writes them", "give the grouped files")
