"""The matrix of a sweep, trained at by tested at: as a table and as JSON."""

import dataclasses
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from demega_jax.errors import counted
from demega_jax.evaluation.sweep.cells import Cell
from demega_jax.evaluation.sweep.plan import Sweep

Cells = Mapping[tuple[int, int], Cell]
FORMAT = 1
LEVEL_COLUMNS = ("level", "mean", "95 % interval", "ensemble", "rows", "s/step", "s/epoch")
MOST_COLUMNS = 5  # levels beside each other in a table of 80 columns


def print_matrix(sweep: Sweep, cells: Cells, console: Console) -> None:
    """Print macro-F1 (mean and standard deviation over seeds) of each cell, then times and intervals by level."""
    done, planned = len(cells), len(sweep.levels) ** 2
    console.print(
        f"macro-F1 on {sweep.split}, mean and standard deviation over {counted(sweep.seeds, 'seed')}", style="bold"
    )
    for first in range(0, len(sweep.levels), MOST_COLUMNS):
        some = sweep.levels[first : first + MOST_COLUMNS]
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("trained at", justify="right")
        for tested in some:
            table.add_column(f"tested at {tested}", justify="right", min_width=11)
        for trained in sweep.levels:
            table.add_row(*matrix_row(sweep, cells, trained, some))
        console.print(table)
    console.print(_by_level(sweep, cells))
    if done < planned:
        console.print(f"{done} of {planned} cells are finished; the others are shown as -")


def _text(cell: Cell | None) -> str:
    return "-" if cell is None else f"{cell.mean:.3f} ± {cell.deviation:.3f}"


def _by_level(sweep: Sweep, cells: Cells) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in LEVEL_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in level_rows(sweep, cells):
        table.add_row(*row)
    return table


def matrix_row(sweep: Sweep, cells: Cells, trained: int, tested: Sequence[int]) -> list[str]:
    """The level of training, and mean and standard deviation at each level of testing."""
    return [str(trained), *(_text(cells.get((trained, level))) for level in tested)]


def level_rows(sweep: Sweep, cells: Cells) -> list[list[str]]:
    """For each level, tested at the same level: mean, interval, ensemble, and the times of its training run."""
    found = [cell for level in sweep.levels if (cell := cells.get((level, level))) is not None]
    return [
        [
            str(cell.trained),
            f"{cell.mean:.4f}",
            f"{cell.low:.3f} .. {cell.high:.3f}",
            f"{cell.ensemble:.4f}",
            f"{cell.rows:,}",
            *("-" if value is None else f"{value:.3g}" for value in (cell.step_seconds, cell.epoch_seconds)),
        ]
        for cell in found
    ]


def to_json(sweep: Sweep, cells: Cells) -> dict[str, object]:
    """The sweep and its finished cells in plain Python types."""
    found = [
        dataclasses.asdict(cell) | {"mean": cell.mean, "standard_deviation": cell.deviation} for cell in cells.values()
    ]
    return {
        "format": FORMAT,
        "split": sweep.split,
        "levels": list(sweep.levels),
        "seeds": sweep.seeds,
        "interval": "95 %, of the mean over seeds by Student's t; with one seed, by bootstrap over rows",
        "cells": found,
    }
