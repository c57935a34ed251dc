"""The confusion matrix as a chart."""

from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm

from demega_jax.evaluation.report.figure import new_figure, save_figure
from demega_jax.metrics import Scores


def plot_confusion(scores: Scores, png: Path) -> Path:
    """Draw the confusion matrix, each row divided by its support. Classes without rows stay grey; returns `png`."""
    support = scores.support[:, None]
    shares = np.where(support > 0, scores.confusion / np.maximum(support, 1), np.nan)
    count = len(scores.classes)
    side = float(np.clip(0.21 * count, 4, 24))
    figure = new_figure(side + 1.6, side + 0.6)
    axes = figure.subplots()
    axes.set_facecolor("#cccccc")
    # A square-root scale, because wrong predictions are a few per cent where right ones are tens.
    image = axes.imshow(shares, cmap="cividis", norm=PowerNorm(0.5, vmin=0), interpolation="nearest")
    axes.set_xticks(range(count), scores.classes, rotation=90, fontsize=9)
    axes.set_yticks(range(count), scores.classes, fontsize=9)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("true", fontsize=11)
    axes.set_title(f"Confusion matrix ({scores.rows:,} rows, macro-F1 {scores.macro_f1:.3f})", fontsize=12)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class's rows")
    return save_figure(figure, png)
