"""The reliability diagram: how often predictions are right, by how probable the model says they are."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from demega_jax.evaluation.report.figure import BLUE, GREY, RED, bare, new_figure
from demega_jax.evaluation.report.intervals import wilson
from demega_jax.metrics import Calibration


def draw_reliability(calibration: Calibration) -> Figure:
    """Accuracy by confidence, with the gap to perfect calibration, above the share of rows in each bin.

    After DeGroot and Fienberg (1983) and Niculescu-Mizil and Caruana (2005); ECE as `Calibration` says.
    """
    figure = new_figure(5, 6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins, rows = len(calibration.rows), int(calibration.rows.sum())
    edges = np.linspace(0, 1, bins + 1)
    _accuracy(above, calibration, (edges[:-1] + edges[1:]) / 2)
    above.set_title(f"Reliability, n = {rows:,} rows in {bins} bins\nECE {calibration.ece:.3f}", fontsize=11)
    below.bar((edges[:-1] + edges[1:]) / 2, calibration.rows / rows, width=0.94 / bins, color=GREY)
    mean = calibration.confidence.sum() / rows
    accuracy = calibration.right.sum() / rows
    below.axvline(mean, color=RED, linewidth=1.4, label=f"mean confidence {mean:.3f}")
    below.axvline(accuracy, color=BLUE, linewidth=1.4, linestyle="--", label=f"accuracy {accuracy:.3f}")
    below.set_xlabel("confidence, probability of the predicted class")
    below.set_ylabel("share of rows")
    below.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    below.set_xlim(0, 1)
    bare(above)
    bare(below)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def _accuracy(axes: Axes, calibration: Calibration, middles: Float[np.ndarray, " B"]) -> None:
    """Bars of accuracy with intervals, and what lies between them and the mean confidence."""
    there = calibration.rows > 0
    rows, right, middle = calibration.rows[there], calibration.right[there], middles[there]
    share, said = right / rows, calibration.confidence[there] / rows
    width = 0.94 / len(middles)
    axes.bar(middle, share, width=width, color=BLUE, label="accuracy of the bin")
    axes.bar(
        middle,
        said - share,
        bottom=share,
        width=width,
        facecolor="none",
        edgecolor=RED,
        hatch="////",
        linewidth=1,
        label="gap to the mean confidence",
    )
    low, high = wilson(right, rows).T
    axes.vlines(middle, low, high, color="black", linewidth=1.2, label="95 % interval (Wilson)")
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1.2, zorder=3, label="perfect calibration")
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy")
