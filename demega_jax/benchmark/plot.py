"""The figures of a benchmark as a chart: times by level, and the roofline."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from demega_jax.benchmark.tables import Figures, batch, varying
from demega_jax.evaluation.report.figure import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, new_figure, save_figure
from demega_jax.files import output

# Where an axis of times has marks: what people say of a clock.
CLOCK = (
    [t * u for u in (1e-6, 1e-3) for t in (1, 2, 5, 10, 20, 50, 100, 200, 500)]
    + [t * u for u in (1, 60) for t in (1, 2, 5, 10, 30)]
    + [3600 * t for t in (1, 2, 5, 10, 24, 48, 120)]
)
COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "#000000", "#F0E442")
MARKERS = "osD^vP*X"
ALPHA = 0.5  # of the dots of single steps
SPREAD = 0.06  # their distance from the median, and their width, in levels
NEAR, WIDE = 0.05, 0.4  # decades: points of a roofline that lie nearer are named together; the width of a name


class Series(NamedTuple):
    """Cases that differ by level alone, and how they are drawn."""

    name: str
    cases: Sequence[Figures]
    color: str
    marker: str


def plot_result(result: Figures, png: Path) -> Path:
    """Step and epoch time by level on the left, the cases below the machine's roofline on the right; returns `png`."""
    figure = new_figure(12.5, 5.6)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    left, right = halves
    step, epoch = left.subplots(2, 1, sharex=True)
    roofline = right.subplots()
    hardware, data = result["hardware"], "simulated data" if result["data"] == "simulated" else "real data"
    cpu = f"{hardware['processor']}, {hardware['cores']} cores"
    device = cpu if hardware["platform"] == "cpu" else f"{hardware['devices']} x {hardware['device']}"
    versions = f"jax {result['versions']['jax']}, {result['date'][:10]}"
    counts = sorted({len(case["step_seconds"]["all"]) for case in result["cases"]})
    steps = f"n = {counts[0]} steps" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]} steps"
    figure.suptitle(f"Training step, {batch(result)}, {data}\n{device}, {versions}, {steps} a case", fontsize=11)
    series = _series(result["cases"])
    _times(step, series, lambda case: case["step_seconds"]["median"], "step time", every_step=True)
    _times(epoch, series, lambda case: case["epoch"]["seconds"], "epoch time")
    epoch.set_xlabel("grouping level K")
    _roofline(roofline, result["cases"], series)
    handles, names = step.get_legend_handles_labels()
    # One for both sides, outside: it covers no point, wherever points lie.
    handles.append(Line2D([], [], color=GREY, marker=".", markersize=5, linestyle="none", alpha=ALPHA))
    names.append("a measured step; line: medians")
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), frameon=False, fontsize=9)
    return save_figure(figure, png, write=output)


def _series(cases: Sequence[Figures]) -> list[Series]:
    """The series of the cases, each named by what tells it from the others."""
    names = varying(cases)
    found: dict[str, list[Figures]] = {}
    for case in cases:
        parts = [f"{case[name]} dev." if name == "devices" else str(case[name]) for name in names]
        found.setdefault(", ".join(parts) or f"{case['feed']}, {case['precision']}", []).append(case)
    looks = zip(itertools.cycle(COLORS), itertools.cycle(MARKERS), strict=False)
    return [Series(name, group, *look) for (name, group), look in zip(found.items(), looks, strict=False)]


def _times(
    axes: Axes, series: Sequence[Series], of: Callable[[Figures], float], label: str, *, every_step: bool = False
) -> None:
    """A line a series over the levels, which stand at equal distances. every_step: a dot for each measured step too.

    The axis of steps does not begin at 0, where their spread could not be seen.
    """
    levels = sorted({case["level"] for each in series for case in each.cases})
    for name, cases, color, marker in series:
        place = [levels.index(case["level"]) for case in cases]
        values = [of(case) for case in cases]
        axes.plot(place, values, color=color, marker=marker, markersize=6, linewidth=1.4, label=name)
        for at, case in zip(place, cases, strict=True) if every_step else ():
            seconds = case["step_seconds"]["all"]
            beside = at + SPREAD * (1 + np.arange(len(seconds)) / len(seconds))  # in their order, right of the median
            axes.plot(beside, seconds, color=color, marker=".", markersize=3, linestyle="none", alpha=ALPHA, zorder=1)
    if not every_step:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(CLOCK))
        axes.yaxis.set_minor_locator(NullLocator())
        low, high = axes.get_ylim()  # with room for two marks at least, however near each other the values are
        axes.set_ylim(low / 1.5, high * 1.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value)))
    axes.set_xticks(range(len(levels)), [str(level) for level in levels])
    axes.margins(x=0.15)
    axes.set_ylabel(label)
    _finish(axes)


def _clock(value: float) -> str:
    """2 ms, 1.5 s, 20 min, 2 h."""
    for unit, size in (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} us" if value > 0 else "0"


def _intensity(case: Figures) -> float:
    """FLOP of products for each byte that the compiler counts."""
    return case["flops"] / case["compiled"]["bytes_accessed"]


def _roofline(axes: Axes, cases: Sequence[Figures], series: Sequence[Series]) -> None:
    """Achieved FLOP/s over FLOP a byte, with a roof for each precision and number of devices: the lesser of the peak of
    products and what the bandwidth of copies allows. Cases whose bytes the compiler does not give are left out."""
    known = [case for case in cases if case["compiled"]["bytes_accessed"]]
    roofs = {(case["peak_flops_per_second"], case["copy_bytes_per_second"]): case for case in cases}
    highest, lowest = max(peak for peak, _ in roofs), min(bandwidth for _, bandwidth in roofs)
    scale, unit = (1e12, "TFLOP/s") if highest >= 1e12 else (1e9, "GFLOP/s")
    places = [peak / bandwidth for peak, bandwidth in roofs] + [_intensity(case) for case in known]
    left, right = min(places) / 6, max(places) * 6
    for peak, bandwidth in roofs:
        x = np.array([left, peak / bandwidth, right])
        axes.plot(x, np.minimum(peak, x * bandwidth) / scale, color=GREY, linewidth=1.6, zorder=1)
    _name_roofs(axes, {peak: case for (peak, _), case in roofs.items()}, right, scale, unit)
    _write(axes, f"copies: {lowest / 1e9:.3g} GB/s", (left, left * lowest / scale), (14, 2), "left", "top", GREY)
    for each in series:
        _points(axes, each, [case for case in each.cases if case in known], known, scale)
    axes.set_xscale("log")
    axes.set_yscale("log")
    some_missing = "" if len(known) == len(cases) else ";\ncases without such a count are left out"
    axes.set_xlabel(f"FLOP a byte (bytes as the compiler counts them{some_missing})")
    axes.set_ylabel(unit)
    axes.set_ylim(min(case["flops_per_second"] for case in cases) / scale / 5, 2 * highest / scale)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    _finish(axes)


def _points(axes: Axes, look: Series, cases: Sequence[Figures], known: Sequence[Figures], scale: float) -> None:
    """The cases of a series on the roofline by level, and how much of the peak of products the best of them reaches.

    known: those of all series. A level is written right of its point, or below where another point is there.
    """
    if not cases:
        return
    x, y = [_intensity(case) for case in cases], [case["flops_per_second"] / scale for case in cases]
    axes.plot(x, y, marker=look.marker, color=look.color, linestyle="none", markersize=8, zorder=3)
    for group in _neighbours(cases):
        name = "K " + ", ".join(map(str, sorted(case["level"] for case in group)))
        middle = group[len(group) // 2]
        place = (max(_intensity(case) for case in group), middle["flops_per_second"] / scale)
        apart = [_apart(middle, other) for other in known if other not in group]
        if any(0 < right < WIDE and abs(up) < NEAR for right, up in apart):
            _write(axes, name, place, (0, -7), "center", "top", look.color)
        else:
            _write(axes, name, place, (9, 0), "left", "center", look.color)
    best = max(cases, key=lambda case: case["share_of_peak"])
    at = (_intensity(best), best["flops_per_second"] / scale)
    _write(axes, f"{best['share_of_peak']:.0%} of products", at, (-9, 0), "right", "center", look.color)


def _apart(one: Figures, other: Figures) -> tuple[float, float]:
    """How far another point is to the right and up, in decades."""
    right = np.log10(_intensity(other) / _intensity(one))
    return float(right), float(np.log10(other["flops_per_second"] / one["flops_per_second"]))


def _neighbours(cases: Sequence[Figures]) -> list[list[Figures]]:
    """The cases in groups whose points lie one upon another, each from the slowest to the fastest."""
    groups: list[list[Figures]] = []
    for case in sorted(cases, key=lambda case: case["flops_per_second"]):
        near = [group for group in groups if max(map(abs, _apart(group[-1], case))) < NEAR]
        if near:
            near[0].append(case)
        else:
            groups.append([case])
    return groups


def _name_roofs(axes: Axes, peaks: Mapping[float, Figures], at: float, scale: float, unit: str) -> None:
    """What each horizontal line is: above it, or below where another is close above."""
    several, before = "devices" in varying([*peaks.values()]), float("inf")
    for peak in sorted(peaks, reverse=True):
        case = peaks[peak]
        devices = f", {case['devices']} dev." if several else ""
        text = f"{case['precision']} products{devices}: {peak / scale:.3g} {unit}"
        offset, va = ((0, -4), "top") if before < 1.5 * peak else ((0, 3), "bottom")
        _write(axes, text, (at, peak / scale), offset, "right", va, GREY)
        before = peak


def _write(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], ha: str, va: str, color: str
) -> None:
    """Write a text so many points from a place."""
    axes.annotate(text, at, offset, textcoords="offset points", ha=ha, va=va, fontsize=9, color=color)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
