"""Folds of rows, and of session runs of recordings."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from demega_jax.data.recordings.runs import Recording
from demega_jax.data.recordings.splits import Assigned
from demega_jax.errors import UserError, counted


def row_folds(labels: Int[np.ndarray, " N"], folds: int, seed: int) -> Int[np.ndarray, " N"]:
    """The fold of each row. Every fold has, within one, the same number of rows of each class."""
    rng = np.random.default_rng(seed)
    found = np.empty(len(labels), np.int64)
    first = 0  # the classes take turns, so that small classes are not all in the first folds
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        found[rows] = (first + np.arange(len(rows))) % folds
        first += len(rows)
    return found


def run_folds(splits: Assigned, folds: int) -> list[Assigned]:
    """For each fold, the session runs by split: the fold's runs are `test`, those of the other folds `train`.

    Session runs of train are dealt to the folds, the longest first, each to the fold with the least recorded time.
    Validation stays as it is; the published test runs are in no split. UserError: fewer session runs than folds.
    """
    runs = sorted(splits["train"], key=lambda run: -run.samples)
    if len(runs) < folds:
        came, way_out = (
            f"{counted(len(runs), 'session run')} of train for {counted(folds, 'fold')}",
            f"set stack.folds={max(2, len(runs))}",
        )
        raise UserError("stack.folds", came, "at least one session run for each fold", way_out)
    dealt: list[list[Recording]] = [[] for _ in range(folds)]
    for run in runs:
        min(dealt, key=lambda fold: sum(other.samples for other in fold)).append(run)
    order = {run.name: place for place, run in enumerate(splits["train"])}
    return [
        {
            "train": [run for run in splits["train"] if run not in fold],
            "validation": splits["validation"],
            "test": sorted(fold, key=lambda run: order[run.name]),
        }
        for fold in dealt
    ]


def inner_split(
    labels: Int[np.ndarray, " N"], rows: Int[np.ndarray, " n"], folds: int, seed: int
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Of some rows, those to learn from and those to choose by: one fold of them."""
    of = row_folds(labels[rows], folds, seed)
    return rows[of != 0], rows[of == 0]


def check_rows(labels: Sequence[int] | np.ndarray, folds: int, where: object) -> None:
    """UserError: there are too few rows for so many folds."""
    if len(labels) < 2 * folds:
        came = f"{counted(len(labels), 'row')} for {counted(folds, 'fold')}"
        raise UserError(where, came, f"at least {2 * folds} rows", "set fewer stack.folds, or use more data")
