"""The modelled step of each target as a chart: the parts of the model, side by side."""

from pathlib import Path

from demega_jax.benchmark.tables import Figures
from demega_jax.evaluation.report.figure import bare, new_figure, save_figure
from demega_jax.files import output

COLORS = ("#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7", "#999999")


def plot_targets(result: Figures, path: Path) -> Path:
    """Horizontal bars of modelled milliseconds by part of the model, with the floor of each; returns `path`."""
    cases = result["targets"]
    totals: dict[str, float] = {}
    for case in cases:
        for name, part in case["parts"].items():
            totals[name] = totals.get(name, 0.0) + part["ms"]
    shown = sorted(totals, key=lambda name: -totals[name])[: len(COLORS) - 1]
    figure = new_figure(9, 2.2 + 0.45 * len(cases))
    axes = figure.subplots()
    names = [f"{c['target']}, K {c['level']}, {c['feed']}, {c['devices']} x {c['precision']}" for c in cases]
    left = [0.0] * len(cases)
    for name, color in zip([*shown, "other parts"], COLORS, strict=False):
        widths = [_milliseconds(case, name, shown) for case in cases]
        axes.barh(names, widths, left=left, color=color, label=name, edgecolor="white", linewidth=0.5)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    floors = [case["floor_ms"] for case in cases]
    axes.scatter(floors, names, color="black", marker="|", s=140, zorder=3, label="floor: products alone")
    for place, total in enumerate(left):
        axes.text(total, place, f" {total:.1f}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(left))
    axes.set_xlabel("modelled milliseconds of a step (not measured)")
    versions = f"jax {result['versions']['jax']}, {result['date'][:10]}"
    what = f"Training step of {cases[0]['batch_size']} rows on devices that are not here"
    figure.suptitle(f"{what}\nmodelled from the compiled program, K: grouping level; {versions}", fontsize=11)
    bare(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return save_figure(figure, path, write=output)


def _milliseconds(case: Figures, name: str, shown: list[str]) -> float:
    """Of a part of the model, or of all those that are not shown."""
    parts = {other: part["ms"] for other, part in case["parts"].items()}
    return parts.get(name, 0.0) if name in shown else sum(ms for other, ms in parts.items() if other not in shown)
