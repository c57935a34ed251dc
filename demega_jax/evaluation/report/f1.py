"""F1 of each class against chance, as bars."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from demega_jax.evaluation.report.figure import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, bare, new_figure, plain
from demega_jax.metrics import Scores
from demega_jax.phonemes import MANNERS, manner_groups

COLORS = dict(zip(MANNERS, (BLUE, SKY, GREEN, ORANGE, PURPLE), strict=True))
GAP = 0.6  # between groups, in bars


def draw_f1(scores: Scores, intervals: Float[np.ndarray, "V 2"]) -> Figure:
    """A bar for the F1 of each class, from the top in the order of phonetic kinds. intervals: low and high of each.

    Chance is 1 / number of classes with rows. Beside it each class has a mark at its share of the rows, which is the
    F1 of guessing every class as often as it occurs.
    """
    groups = manner_groups(scores.classes)
    height = float(np.clip(0.19 * len(scores.classes) + 1.9, 3, 24))
    figure = new_figure(5.6, height)
    axes = figure.subplots()
    place, marks = 0.0, []
    for name, positions in groups:
        for index in positions:
            _bar(axes, place, scores, index, intervals[index], COLORS.get(name, BLUE))
            marks.append((place, index))
            place += 1
        place += GAP
    _label(axes, marks, scores)
    axes.axvline(scores.chance, color="black", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 (0 to 1)")
    axes.set_title(f"F1 of each class, n = {scores.rows:,} rows, macro-F1 {scores.macro_f1:.3f}", fontsize=11, pad=14)
    _legend(figure, axes, scores, [name for name, _ in groups])
    return figure


def _bar(axes: Axes, place: float, scores: Scores, index: int, interval: Float[np.ndarray, " 2"], color: str) -> None:
    """The bar of a class with its interval and the mark of its share; nothing for a class without rows."""
    if not scores.support[index]:
        return
    axes.barh(place, scores.f1[index], height=0.78, color=color)
    axes.plot(interval, [place, place], color="#333333", linewidth=1, solid_capstyle="butt")
    share = scores.support[index] / scores.rows
    axes.plot([share, share], [place - 0.39, place + 0.39], color="black", linewidth=1.6, solid_capstyle="butt")


def _label(axes: Axes, marks: list[tuple[float, int]], scores: Scores) -> None:
    """Names on the left, numbers of rows on the right."""
    places = [place for place, _ in marks]
    axes.set_yticks(places, [plain(scores.classes[index]) for _, index in marks], fontsize=8.5)
    axes.set_ylim(places[-1] + 0.7, -0.7)
    axes.tick_params(axis="y", length=0)
    bare(axes)
    axes.grid(axis="y", visible=False)
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [f"{scores.support[index]:,}" for _, index in marks], fontsize=7.5, color=GREY)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    axes.annotate(
        "n", (1, 1), (7, 0), xycoords="axes fraction", textcoords="offset points", color=GREY, fontsize=9, va="bottom"
    )


def _legend(figure: Figure, axes: Axes, scores: Scores, names: list[str]) -> None:
    kinds = [Patch(color=COLORS[name], label=name) for name in names if name in COLORS]
    (chance,) = axes.plot([], [], color="black", linestyle="--", linewidth=1)
    (share,) = axes.plot([], [], color="black", linestyle="none", marker="|", markersize=9, markeredgewidth=1.6)
    (interval,) = axes.plot([], [], color="#333333", linewidth=1)
    present = int((scores.support > 0).sum())
    chance.set_label(f"chance, 1/{present} = {scores.chance:.3f}")
    share.set_label("share of rows: F1 of guessing by frequency")
    interval.set_label("95 % interval, bootstrap over rows")
    handles = [*kinds, chance, share, interval]
    columns = 2 if kinds else 1  # two columns of long texts would reach below the stamp at the right edge
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
