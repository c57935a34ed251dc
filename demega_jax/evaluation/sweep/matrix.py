"""The matrix of a sweep, trained at by tested at: as a table, as JSON and as a heat map."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from demega_jax.evaluation.report.figure import new_figure, save_figure
from demega_jax.evaluation.report.levels import draw_levels
from demega_jax.evaluation.sweep.cells import Cell
from demega_jax.evaluation.sweep.plan import Sweep

Cells = Mapping[tuple[int, int], Cell]
FORMAT = 1
MOST_COLUMNS = 5  # levels beside each other in a table of 80 columns


def print_matrix(sweep: Sweep, cells: Cells, console: Console) -> None:
    """Print macro-F1 (mean and standard deviation over seeds) of each cell, then times and intervals by level."""
    done, planned = len(cells), len(sweep.levels) ** 2
    console.print(f"macro-F1 on {sweep.split}, mean and standard deviation over {sweep.seeds} seeds", style="bold")
    for first in range(0, len(sweep.levels), MOST_COLUMNS):
        some = sweep.levels[first : first + MOST_COLUMNS]
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("trained at", justify="right")
        for tested in some:
            table.add_column(f"tested at {tested}", justify="right", min_width=11)
        for trained in sweep.levels:
            table.add_row(str(trained), *(_text(cells.get((trained, tested))) for tested in some))
        console.print(table)
    console.print(_by_level(sweep, cells))
    if done < planned:
        console.print(f"{done} of {planned} cells are finished; the others are shown as -")


def _text(cell: Cell | None) -> str:
    return "-" if cell is None else f"{cell.mean:.3f} ± {cell.deviation:.3f}"


def _by_level(sweep: Sweep, cells: Cells) -> Table:
    """For each level, tested at the same level: mean, interval, ensemble, and the times of its training run."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("level", "mean", "95 % interval", "ensemble", "rows", "s/step", "s/epoch"):
        table.add_column(name, justify="right", no_wrap=True)
    for level in sweep.levels:
        cell = cells.get((level, level))
        if cell is not None:
            times = [("-" if value is None else f"{value:.3g}") for value in (cell.step_seconds, cell.epoch_seconds)]
            interval = f"{cell.low:.3f} .. {cell.high:.3f}"
            table.add_row(str(level), f"{cell.mean:.4f}", interval, f"{cell.ensemble:.4f}", f"{cell.rows:,}", *times)
    return table


def to_json(sweep: Sweep, cells: Cells) -> dict[str, object]:
    """The sweep and its finished cells in plain Python types."""
    found = [
        dataclasses.asdict(cell) | {"mean": cell.mean, "standard_deviation": cell.deviation} for cell in cells.values()
    ]
    return {
        "format": FORMAT, "split": sweep.split, "levels": list(sweep.levels), "seeds": sweep.seeds,
        "interval": "95 %, of the mean over seeds by Student's t; with one seed, by bootstrap over rows",
        "cells": found,
    }  # fmt: skip


def plot_matrix(sweep: Sweep, cells: Cells, path: Path) -> Path:
    """Draw the heat map of mean macro-F1; cells that are missing stay grey. Returns `path`."""
    means = np.full((len(sweep.levels),) * 2, np.nan)
    for (trained, tested), cell in cells.items():
        means[sweep.levels.index(trained), sweep.levels.index(tested)] = cell.mean
    side = float(np.clip(0.75 * len(sweep.levels), 3.2, 15))
    figure = new_figure(side + 1.8, side + 0.6)
    axes = figure.subplots()
    axes.set_facecolor("#cccccc")
    image = axes.imshow(means, cmap="cividis", interpolation="nearest")
    names = list(map(str, sweep.levels))
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.set_xlabel("tested at grouping level K")
    axes.set_ylabel("trained at grouping level K")
    axes.set_title(f"macro-F1 on {sweep.split}, mean of {sweep.seeds} seeds", fontsize=12)
    middle = (np.nanmin(means) + np.nanmax(means)) / 2 if len(cells) else 0.0
    for (row, column), value in np.ndenumerate(means):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="black" if value > middle else "w")
    figure.colorbar(image, ax=axes, shrink=0.8, label="macro-F1")
    return save_figure(figure, path)


def plot_levels(sweep: Sweep, cells: Cells, path: Path) -> Path | None:
    """Draw macro-F1 over K of models tested at the level that they were trained at; None: no such cell is finished."""
    found = {
        level: (cell.mean, cell.low, cell.high)
        for level in sweep.levels
        if (cell := cells.get((level, level))) is not None
    }
    if not found:
        return None
    what = "mean over seeds, 95 % interval" if sweep.seeds > 1 else "one seed, 95 % interval over rows"
    title = f"Macro-F1 by grouping level, {sweep.split}, {sweep.seeds} seed{'s' if sweep.seeds > 1 else ''}"
    return save_figure(draw_levels(found, label=what, title=title), path)
