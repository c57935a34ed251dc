"""Averages of the user's windows in groups of K windows of one class, as `group` makes them of recordings."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.in_groups import in_groups, warn_of_few
from demega_jax.data.own.blocks import Block
from demega_jax.errors import UserError
from demega_jax.names import MAX_LEVEL, MAX_SEED

BLOCK_ROWS = 32  # means that are handed on at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a split's file, and the windows of the split, by their numbers, that each is the mean of.

    label [G]: of each row.  window [M]: window numbers, row after row; row g has window[start[g] : start[g + 1]].
    attributes: of the file, such as how groups were made.
    """

    label: Int[np.ndarray, " G"]
    window: Int[np.ndarray, " M"]
    start: Int[np.ndarray, " G1"]
    attributes: dict[str, object] = dataclasses.field(default_factory=dict)

    @property
    def sizes(self) -> Int[np.ndarray, " G"]:
        """Windows of each row."""
        return np.diff(self.start)

    def with_attributes(self, **more: object) -> "Rows":
        """These rows with more attributes of their file."""
        return dataclasses.replace(self, attributes=self.attributes | more)


def rows_as_given(ids: Int[np.ndarray, " N"], level: int) -> Rows:
    """Rows that are written as they are given, each the mean of `level` windows that are nowhere else."""
    return Rows(ids, np.arange(len(ids) * level), np.arange(len(ids) + 1) * level)


def rows_of_groups(
    ids: Int[np.ndarray, " N"], split: str, classes: Sequence[str], level: int, seed: int, drop_remaining: bool
) -> Rows:
    """Rows that are means of K windows of one class; in train the seed draws which, elsewhere they follow each other.

    ids: the classes of the windows of the split.  Warns of classes with too few windows. UserError: there is no group.
    """
    shuffle = split == "train"
    window, start = in_groups(ids, level, seed if shuffle else None, drop_remaining)
    warn_of_few(f"{split} at level {level}", classes, np.bincount(ids, minlength=len(classes)), level)
    if not len(window):
        came, wanted = f"no group of {level} windows in {split}", "a group in every split"
        raise UserError("group", came, wanted, "lower group, or set drop_remaining=False")
    drawn = seed if shuffle else -1
    how: dict[str, object] = {"drop_remaining": drop_remaining, "shuffle": shuffle, "shuffle_seed": drawn}
    return Rows(ids[window[start[:-1]]], window, start, how)


def check_group(group: int | None, level: int, seed: int, drop_remaining: bool) -> None:
    """UserError: no number of windows, windows that are means already, or what says nothing without `group`."""
    if group is None:
        if drop_remaining:
            raise UserError("drop_remaining", "given without group", "group=K beside it", "set group, or leave it out")
        return
    if isinstance(group, bool) or not isinstance(group, int) or not 1 <= group <= MAX_LEVEL:
        raise UserError("group", f"{group!r}", f"a whole number from 1 to {MAX_LEVEL}", "use for example group=5")
    if level != 1:
        came = f"group={group} beside level={level}, so that rows would be means of means"
        raise UserError("group", came, "single windows, with level=1", "leave one of the two out")
    if not 0 <= seed <= MAX_SEED:
        raise UserError("seed", f"{seed}", f"0 to {MAX_SEED}", "use seed=777")


class Averager:
    """Adds windows up that come one after the other, and hands on the means when all of them have come.

    put: takes means [n, C, T].  The sums of all groups [G, C, T] are in memory, in float32.
    """

    def __init__(self, rows: Rows, windows: int, window: tuple[int, int], put: Callable[[Block], None]):
        self._sizes, self._put, self._done = rows.sizes, put, 0
        self._sums: Float[np.ndarray, "G C T"] = np.zeros((len(rows.label), *window), np.float32)
        self._group = np.full(windows, -1, np.int64)  # of each window; -1: it is left out
        self._group[rows.window] = np.repeat(np.arange(len(rows.label)), rows.sizes)

    def add(self, rows: Block) -> None:
        """Add windows."""
        for group, window in zip(self._group[self._done : self._done + len(rows)].tolist(), rows, strict=True):
            if group >= 0:
                self._sums[group] += window
        self._done += len(rows)

    def close(self) -> None:
        """Hand on the means."""
        for first in range(0, len(self._sums), BLOCK_ROWS):
            some = slice(first, first + BLOCK_ROWS)
            self._put(self._sums[some] / self._sizes[some, None, None].astype(np.float32))
