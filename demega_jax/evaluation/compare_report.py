"""The table of a comparison on the terminal, in 80 columns, and what follows from it in words."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.errors import counted
from demega_jax.evaluation.compare import Comparison, SeedComparison, Side
from demega_jax.evaluation.statistics import SAMPLES, PairedDifference

ALPHA = 0.05  # a smaller p is called a difference


def print_comparison(found: Comparison, title: str, console: Console) -> None:
    """Print the models of both sides, the two ensembles, and the tests over rows and over seeds."""
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(_table(found))
    console.print(f"Over {counted(found.count, 'row')} (paired bootstrap): {_rows(found.rows)}", highlight=False)
    if found.seeds is None:
        console.print("Over seeds: nothing to compare, as one side has a single model.", highlight=False)
    else:
        console.print(f"Over seeds ({_which(found.seeds)}): {_seeds(found.seeds)}", highlight=False)


def comparison_line(found: Comparison, title: str) -> str:
    """The result in a line: the difference of the two ensembles over rows, and what follows from it."""
    rows = found.rows
    return f"{title}: A - B {rows.difference:+.4f} (95 % interval over rows: {rows.interval}); {_rows(rows)}"


def _table(found: Comparison) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("side", no_wrap=True)
    table.add_column("model or ensemble", overflow="fold")
    table.add_column("seed", justify="right", no_wrap=True)
    table.add_column("macro-F1", justify="right", style="bold", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for name, side in zip("AB", found.sides, strict=True):
        _add(table, name, side)
        table.add_section()
    rows = found.rows
    table.add_row("A - B", "ensembles", "", f"{rows.difference:+.4f}", str(rows.interval), style="green")
    return table


def _add(table: Table, name: str, side: Side) -> None:
    for model in side.models:
        score = model.score
        table.add_row(name, Text(model.name), str(model.seed), f"{score.macro_f1:.4f}", str(score.interval))
    if side.deviation is not None:
        count, whole = len(side.models), side.ensemble
        table.add_row(name, f"mean of {count} models", "", f"{side.mean:.4f}", f"sd {side.deviation:.4f}")
        table.add_row(name, f"ensemble of {count} models", "", f"{whole.macro_f1:.4f}", str(whole.interval))


def _rows(found: PairedDifference) -> str:
    if found.p < ALPHA:
        better, other = ("A", "B") if found.difference > 0 else ("B", "A")
        return f"{better} is better than {other}, {_p(found.p)}."
    return f"no difference is shown, {_p(found.p)}."


def _p(p: float) -> str:
    """A p of bootstrap samples, in which a share below 2 / SAMPLES cannot be seen."""
    return f"p = {p:.3g}" if p else f"p < {2 / SAMPLES:g}"


def _which(seeds: SeedComparison) -> str:
    one, other = seeds.sizes
    if seeds.deviation is not None:
        return f"{seeds.test}, {one} pairs with the same seed"
    return f"{seeds.test}, {one} and {other} models, not paired as their seeds differ"


def _seeds(seeds: SeedComparison) -> str:
    sd = "" if seeds.deviation is None else f" (sd {seeds.deviation:.4f})"
    found = f"mean difference {seeds.difference:+.4f}{sd}, p = {seeds.p:.3g}."
    if seeds.least_p >= ALPHA:
        return f"{found} With so few seeds no p can be below {seeds.least_p:.3g}."
    return found
