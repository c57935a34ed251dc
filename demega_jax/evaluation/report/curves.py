"""Losses, scores and learning rate over the steps of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from demega_jax.evaluation.report.figure import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save_figure
from demega_jax.training.writers import read_metrics


def plot_training_curve(
    metrics_jsonl: Path, png: Path, *, title: str, chance: float | None, reference: float | None
) -> Path:
    """Draw losses, and macro-F1 and balanced accuracy of validation, over the steps of training; returns `png`.

    metrics_jsonl: of a training run, finished or not.  chance, reference: macro-F1 to draw lines at.
    UserError: there is no such file.
    """
    lines = read_metrics(metrics_jsonl)
    train = [line for line in lines if line.get("split") == "train"]
    validation = [line for line in lines if line.get("split") == "validation"]
    figure = new_figure(10, 4.5)
    losses, shares = figure.subplots(1, 2, sharex=True)
    figure.suptitle(title, fontsize=13)
    _curve(losses, train, "loss", "train, total", BLUE)
    _curve(losses, train, "class_loss", "train, class loss", ORANGE)
    _curve(losses, validation, "loss", "validation, class loss", GREEN)
    losses.set_ylabel("loss (nats)")
    _curve(shares, validation, "macro_f1", "macro-F1", BLUE)
    _curve(shares, validation, "balanced_accuracy", "balanced accuracy", ORANGE)
    shares.set_ylabel("validation score")
    if reference is not None:
        shares.axhline(reference, color=RED, linestyle="-.", linewidth=1.2, label=f"reference macro-F1 {reference:.3f}")
    if chance is not None:
        shares.axhline(chance, color=GREY, linestyle=":", linewidth=1.5, label=f"chance {chance:.3f}")
    _mark_best(losses, shares, validation)
    shares.set_ylim(bottom=0)
    shares.set_xlim(0, 1.03 * max((line["step"] for line in lines), default=1) or 1)
    for axes in (losses, shares):
        _finish(axes)
    return save_figure(figure, png)


def _curve(axes: Axes, lines: Sequence[Mapping[str, Any]], key: str, label: str, color: str) -> None:
    """Draw `key` over steps, with gaps where it is null. Few points get markers, as one alone would not be seen."""
    points = [(line["step"], line[key]) for line in lines if key in line]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    axes.plot(
        steps, [np.nan if value is None else value for value in values], label=label, color=color, linewidth=1.6,
        marker="o" if len(points) <= 40 else None, markersize=4,
    )  # fmt: skip


def _mark_best(losses: Axes, shares: Axes, validation: Sequence[Mapping[str, Any]]) -> None:
    """Mark the step with the highest macro-F1; of equal ones the first, as in training."""
    scored = [line for line in validation if line.get("macro_f1") is not None]
    if not scored:
        return
    best = max(scored, key=lambda line: line["macro_f1"])
    for axes in (losses, shares):
        axes.axvline(best["step"], color=GREY, linewidth=0.8, alpha=0.6, zorder=0)
    shares.plot(
        best["step"], best["macro_f1"], marker="*", markersize=12, color=RED, linestyle="none", zorder=3,
        label=f"best {best['macro_f1']:.3f} at step {best['step']}",
    )  # fmt: skip


def _finish(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        # Below the axes it never covers a curve.
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=9)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no values yet", ha="center", va="center", color=GREY, transform=axes.transAxes)
