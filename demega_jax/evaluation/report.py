"""Tables of scores on the terminal, and charts as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.files import atomic_write
from demega_jax.metrics import Scores
from demega_jax.training.writers import read_metrics

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
DPI = 120
TWO_COLUMNS_FROM = 16  # classes; fewer stay in one column


def print_scores(scores: Scores, *, title: str, console: Console | None = None) -> None:
    """Print a summary and a table of the classes. 39 phonemes fit a terminal of 80 x 50."""
    console = console or Console()
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(_summary_table(scores))
    console.print(_class_table(scores))
    console.print(Text("seen as: most frequent wrong prediction, and its share of the rows of the class", style="dim"))
    if scores.ipa_feature_accuracy:
        console.print(Text("Accuracy of the IPA features", style="bold"))
        features = [f"{name} {value:.3f}" for name, value in scores.ipa_feature_accuracy.items()]
        console.print(Columns(features, padding=(0, 3)), highlight=False)


def _summary_table(scores: Scores) -> Table:
    """Names and values of the scores, two on a line."""
    reference = scores.reference_macro_f1
    pairs = [
        ("macro-F1", f"{scores.macro_f1:.4f}"),
        ("balanced accuracy", f"{scores.balanced_accuracy:.4f}"),
        ("accuracy", f"{scores.accuracy:.4f}"),
        ("chance", f"{scores.chance:.4f}"),
        ("rows", f"{scores.rows:,}"),
    ]
    if scores.loss is not None:
        pairs.append(("loss", f"{scores.loss:.4f}"))
    if reference is not None:
        pairs.append(("reference macro-F1", f"{reference:.4f} ({scores.macro_f1 - reference:+.4f})"))
    if scores.ipa_accuracy is not None:
        pairs.append(("IPA accuracy", f"{scores.ipa_accuracy:.4f}"))
    table = Table(show_header=False, box=None, padding=(0, 1))
    for _ in range(2):
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(style="bold", no_wrap=True, justify="right")
    for start in range(0, len(pairs), 2):
        table.add_row(*(cell for pair in pairs[start : start + 2] for cell in pair))
    return table


def _class_table(scores: Scores) -> Table:
    """A line for each class, or for two classes. A class without rows has dashes."""
    rows = [_class_cells(scores, index) for index in range(len(scores.classes))]
    blocks = 2 if len(rows) >= TWO_COLUMNS_FROM else 1
    length = -(-len(rows) // blocks)
    # In 80 columns two blocks leave no room for padding beside the dividers of the box, of one space.
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for block in range(blocks):
        if block:
            table.add_column("")
        table.add_column("phoneme", style="bold", no_wrap=True, max_width=8)
        table.add_column("rows", justify="right", no_wrap=True)
        table.add_column("F1", justify="right", no_wrap=True, style="green")
        table.add_column("prec", justify="right", no_wrap=True)
        table.add_column("rec", justify="right", no_wrap=True)
        table.add_column("seen as", no_wrap=True, max_width=9)
    for line in range(length):
        cells = rows[line]
        if blocks == 2:
            cells = [*cells, "", *(rows[line + length] if line + length < len(rows) else [])]
        table.add_row(*cells)
    return table


def _class_cells(scores: Scores, index: int) -> list[str]:
    """Name, support, F1, precision, recall and most frequent wrong prediction of a class."""
    name, support = scores.classes[index], int(scores.support[index])
    if not support:
        return [name, "0", "-", "-", "-", ""]
    wrong = scores.confusion[index].copy()
    wrong[index] = 0
    most = int(wrong.argmax())
    seen_as = f"{scores.classes[most]} {wrong[most] / support:.0%}" if wrong[most] else ""
    shares = (scores.f1[index], scores.precision[index], scores.recall[index])
    return [name, str(support), *(f"{share:.2f}" for share in shares), seen_as]


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


def new_figure(width: float, height: float) -> Figure:
    """A figure without pyplot, hence without global state and display."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, png: Path) -> Path:
    """Write a figure by an atomic write; returns its path. UserError: it cannot be written."""
    with atomic_write(png) as aside:
        figure.savefig(aside, format="png")
    return png
