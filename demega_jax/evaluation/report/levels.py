"""A score against the grouping level K."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from demega_jax.evaluation.report.figure import BLUE, GREY, RED, bare, new_figure

ScoreAt = Mapping[int, tuple[float, float, float]]


def draw_levels(
    found: ScoreAt,
    *,
    label: str = "mean over seeds, 95 % interval",
    chance: float | None = None,
    references: Mapping[int, float] | None = None,
    title: str = "Macro-F1 by grouping level",
) -> Figure:
    """Macro-F1 over K, on a logarithmic axis. found: (mean, low, high) of each level.

    label: what mean, low and high are.  chance: 1 / number of classes.  references: the best possible of each level.
    ValueError: no level.
    """
    if not found:
        raise ValueError("no level to draw")
    levels = sorted(found)
    mean, low, high = np.array([found[level] for level in levels]).T
    figure = new_figure(5, 3.8)
    axes = figure.subplots()
    errors = [np.maximum(mean - low, 0), np.maximum(high - mean, 0)]
    axes.errorbar(levels, mean, errors, color=BLUE, marker="o", markersize=5, linewidth=1.6, capsize=4, label=label)
    if references:
        known = sorted(references)
        axes.plot(
            known,
            [references[level] for level in known],
            color=RED,
            linestyle="-.",
            marker="s",
            markersize=4,
            label="reference macro-F1",
        )
    if chance is not None:
        axes.axhline(chance, color=GREY, linestyle="--", linewidth=1.2, label=f"chance {chance:.3f}")
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(levels, [str(level) for level in levels])
    axes.set_xlim(levels[0] / 1.3, levels[-1] * 1.3)
    axes.set_ylim(0, min(1.0, max(1.15 * float(high.max()), 0.1)) if not references else 1)
    axes.set_xlabel("grouping level K, windows in a group")
    axes.set_ylabel("macro-F1")
    axes.set_title(title, fontsize=11)
    bare(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure
