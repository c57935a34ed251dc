"""Losses, scores and learning rate over the steps of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from demega_jax.evaluation.report.figure import BLUE, GREEN, GREY, ORANGE, RED, bare, new_figure, plain, save_figure
from demega_jax.names import Monitor
from demega_jax.training.monitor import best_validation
from demega_jax.training.writers import read_metrics

Lines = Sequence[Mapping[str, Any]]


def plot_training_curve(
    metrics_jsonl: Path,
    path: Path,
    *,
    title: str,
    monitor: Monitor = "macro_f1",
    chance: float | None,
    reference: float | None,
) -> Path:
    """Write the curves of a training run, finished or not, as the ending of `path` says; returns `path`.

    monitor, chance, reference: as for `draw_training`.  UserError: there is no such file, or it cannot be written.
    """
    lines = [read_metrics(metrics_jsonl)]
    return save_figure(draw_training(lines, title, monitor=monitor, chance=chance, reference=reference), path)


def draw_training(
    members: Sequence[Lines],
    title: str,
    *,
    monitor: Monitor = "macro_f1",
    chance: float | None,
    reference: float | None,
) -> Figure:
    """Losses, validation scores and learning rate over the steps of training, of one model or of several members.

    members: the lines of each one's metrics.jsonl.  monitor: the score whose best validation is marked.  chance,
    reference: macro-F1 to draw lines at.
    """
    figure = new_figure(10, 4.5)
    losses, shares, rates = figure.subplots(1, 3, sharex=True)
    many = f"\n{len(members)} members, a line each" if len(members) > 1 else ""
    figure.suptitle(f"Training of {plain(title)}{many}", fontsize=13)
    for number, lines in enumerate(members):
        train = [line for line in lines if line.get("split") == "train"]
        validation = [line for line in lines if line.get("split") == "validation"]
        named = number == 0
        _curve(losses, train, "loss", "train, total" if named else None, BLUE)
        _curve(losses, train, "class_loss", "train, class loss" if named else None, ORANGE)
        _curve(losses, validation, "loss", "validation, class loss" if named else None, GREEN)
        _curve(shares, validation, "macro_f1", "macro-F1" if named else None, BLUE)
        _curve(shares, validation, "balanced_accuracy", "balanced accuracy" if named else None, ORANGE)
        _curve(rates, train, "learning_rate", "learning rate" if named else None, BLUE)
        if monitor == "balanced_accuracy_at_10":
            _curve(shares, validation, monitor, "balanced accuracy at 10" if named else None, GREEN)
        _mark_best(losses, shares, validation, monitor, named=named, alone=len(members) == 1)
    losses.set_ylabel("loss (nats)")
    shares.set_ylabel("validation score (0 to 1)")
    rates.set_ylabel("learning rate")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    if reference is not None:
        shares.axhline(reference, color=RED, linestyle="-.", linewidth=1.2, label=f"reference macro-F1 {reference:.3f}")
    if chance is not None:
        shares.axhline(chance, color=GREY, linestyle=":", linewidth=1.5, label=f"chance {chance:.3f}")
    last = max((line["step"] for lines in members for line in lines), default=1)
    losses.set_xlim(0, 1.03 * last or 1)
    for axes in (losses, shares, rates):
        axes.set_ylim(bottom=0)
        _finish(axes)
    return figure


def _curve(axes: Axes, lines: Lines, key: str, label: str | None, color: str) -> None:
    """Draw `key` over steps, with gaps where it is null. Few points get markers, as one alone would not be seen."""
    points = [(line["step"], line[key]) for line in lines if key in line]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    axes.plot(
        steps,
        [np.nan if value is None else value for value in values],
        label=label,
        color=color,
        linewidth=1.6,
        marker="o" if len(points) <= 40 else None,
        markersize=4,
    )


def _mark_best(losses: Axes, shares: Axes, validation: Lines, monitor: Monitor, *, named: bool, alone: bool) -> None:
    """Mark the step of the best validation, as training chooses it."""
    best = best_validation(monitor, validation)
    if best is None:
        return
    for axes in (losses, shares):
        axes.axvline(best["step"], color=GREY, linewidth=0.8, alpha=0.6, zorder=0)
    label = f"best {best[monitor]:.3f} at step {best['step']}" if alone else "best of each member"
    (losses if monitor == "loss" else shares).plot(
        best["step"],
        best[monitor],
        marker="*",
        markersize=12,
        color=RED,
        linestyle="none",
        zorder=3,
        label=label if named else None,
    )


def _finish(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    bare(axes)
    if axes.get_legend_handles_labels()[0]:
        # Below the axes it never covers a curve.
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=9)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no values yet", ha="center", va="center", color=GREY, transform=axes.transAxes)
