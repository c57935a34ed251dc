"""The folder `report/` of a sweep: the heat map, macro-F1 by level, and the page that holds them and the tables."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from demega_jax import __version__
from demega_jax.config.load import to_yaml
from demega_jax.errors import counted
from demega_jax.evaluation.report import html
from demega_jax.evaluation.report.figure import new_figure
from demega_jax.evaluation.report.folder import write_folder
from demega_jax.evaluation.report.html import Picture
from demega_jax.evaluation.report.levels import draw_levels
from demega_jax.evaluation.sweep.matrix import LEVEL_COLUMNS, Cells, level_rows, matrix_row
from demega_jax.evaluation.sweep.plan import Sweep

CAPTIONS = {
    "matrix": "Mean macro-F1 over seeds of models that were trained at one grouping level and tested at another. Grey: "
    "not finished.",
    "levels": "Macro-F1 of models tested at the level that they were trained at. Rows of a higher level are averages "
    "of more windows, so they hold less noise.",
}
ALTS = {
    "matrix": "Heat map of macro-F1 by level of training and of testing. The first table has its numbers.",
    "levels": "Curve of macro-F1 by grouping level, with intervals. The second table has its numbers.",
}
METHOD = (
    "Macro-F1 is the mean over the classes that occur in the split. Intervals are 95 % intervals of the mean over "
    "seeds (Student's t); with one seed they are bootstrap intervals over rows (percentile intervals, Efron 1979). "
    "The ensemble is the mean of the seeds' probabilities. Times are of the training run with all seeds side by side, "
    "medians of finished steps, on the machine that trained it."
)


def write_sweep_report(sweep: Sweep, cells: Cells) -> Path:
    """Write the figures and the page of the finished cells; returns the page."""
    figures = {"matrix": draw_matrix(sweep, cells)}
    curve = draw_by_level(sweep, cells)
    if curve is not None:
        figures["levels"] = curve

    def page(pictures: Sequence[Picture]) -> str:
        done, planned = len(cells), len(sweep.levels) ** 2
        facts = [
            f"{sweep.split} split",
            counted(len(sweep.levels), "level"),
            counted(sweep.seeds, "seed"),
            f"{done} of {planned} cells finished",
            f"demega-jax {__version__}",
        ]
        head = ("trained at", *(f"tested at {level}" for level in sweep.levels))
        rows = [matrix_row(sweep, cells, level, sweep.levels) for level in sweep.levels]
        sections = [
            html.section("Macro-F1, mean and standard deviation over seeds", html.table(head, rows)),
            html.section("Each level, tested at itself", html.table(LEVEL_COLUMNS, level_rows(sweep, cells))),
            html.section("Figures", html.figures(pictures)),
        ]
        return html.page(f"Sweep {sweep.folder}", facts, sections, METHOD, to_yaml(sweep.config))

    of = f"{sweep.folder} on {sweep.split}"
    return write_folder(sweep.folder / "report", figures, ALTS, CAPTIONS, page, of=of, known=CAPTIONS)


def draw_matrix(sweep: Sweep, cells: Cells) -> Figure:
    """The heat map of mean macro-F1; cells that are missing stay grey."""
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
    return figure


def draw_by_level(sweep: Sweep, cells: Cells) -> Figure | None:
    """Macro-F1 over K of models tested at the level that they were trained at; None: no such cell is finished."""
    own = {level: cell for level in sweep.levels if (cell := cells.get((level, level))) is not None}
    if not own:
        return None
    what = "mean over seeds, 95 % interval" if sweep.seeds > 1 else "one seed, 95 % interval over rows"
    title = f"Macro-F1 by grouping level, {sweep.split}, {sweep.seeds} seed{'s' if sweep.seeds > 1 else ''}"
    found = {level: (cell.mean, cell.low, cell.high) for level, cell in own.items()}
    chances = {cell.chance for cell in own.values()}
    return draw_levels(found, label=what, title=title, chance=chances.pop() if len(chances) == 1 else None)
