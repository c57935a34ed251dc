"""The confusion matrix as a chart."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from demega_jax.evaluation.report.figure import new_figure, plain
from demega_jax.metrics import Scores
from demega_jax.phonemes import manner_groups


def draw_confusion(scores: Scores) -> Figure:
    """The confusion matrix, each row divided by its support, in the order of phonetic kinds.

    Classes without rows stay grey.
    """
    groups = manner_groups(scores.classes)
    order = np.concatenate([positions for _, positions in groups])
    support = scores.support[:, None]
    shares = np.where(support > 0, scores.confusion / np.maximum(support, 1), np.nan)[np.ix_(order, order)]
    count = len(scores.classes)
    side = float(np.clip(0.21 * count, 4, 24))
    figure = new_figure(side + 1.6, side + 0.6)
    axes = figure.subplots()
    axes.set_facecolor("#cccccc")
    # A square-root scale, because wrong predictions are a few per cent where right ones are tens.
    scale = PowerNorm(0.5, vmin=0, vmax=1)
    # Colours are made before the picture is enlarged, which is much faster than after it.
    image = axes.imshow(shares, cmap="cividis", norm=scale, interpolation="nearest", interpolation_stage="rgba")
    names = [plain(scores.classes[index]) for index in order]
    axes.set_xticks(range(count), names, rotation=90, fontsize=9)
    axes.set_yticks(range(count), names, fontsize=9)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("true", fontsize=11)
    if len(groups) > 1:
        _mark_groups(axes, [(name, len(positions)) for name, positions in groups])
    axes.set_title(f"Confusion matrix, n = {scores.rows:,} rows, macro-F1 {scores.macro_f1:.3f}", fontsize=12)
    percent = PercentFormatter(1, decimals=0, symbol=" %")
    ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
    figure.colorbar(
        image, ax=axes, shrink=0.8, label="share of the rows of the true class", format=percent, ticks=ticks
    )
    return figure


def _mark_groups(axes: Axes, groups: list[tuple[str, int]]) -> None:
    """Lines between groups, and their names above."""
    ends = np.cumsum([size for _, size in groups]) - 0.5
    for end in ends[:-1]:
        axes.axvline(end, color="white", linewidth=0.8)
        axes.axhline(end, color="white", linewidth=0.8)
    middles = [end - size / 2 for end, (_, size) in zip(ends, groups, strict=True)]
    above = axes.secondary_xaxis("top")
    above.set_xticks(middles, [name for name, _ in groups], fontsize=8)
    above.tick_params(length=0)
    above.spines["top"].set_visible(False)
