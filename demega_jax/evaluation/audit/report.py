"""The table of an audit on the terminal, in 80 columns, and what its lines mean."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.evaluation.audit.lines import Line
from demega_jax.evaluation.audit.run import Audit

HEADS = {"model": "the model on", "probe": "a probe that learns from", "prior": "without a window"}
NAMES = {
    "windows": "windows as they are",
    "labels": "permuted labels",
    "phases": "scrambled phases",
    "moments": "mean and deviation",
    "level": "noise level (K)",
    "frequent": "always {}",
    "drawn": "drawn by frequency",
    "accuracy": "accuracy of always {}",
}
PROBED = {"phases": "amplitude spectra"}  # what a probe learns from, where that is another name


def print_audit(audit: Audit, title: str, console: Console) -> None:
    """Print the table, and a sentence for each control that is above chance."""
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(
        f"{audit.rows:,} of {audit.all_rows:,} rows; probes learnt from {audit.train_rows:,} rows of train; "
        f"chance {audit.chance:.4f}",
        style="dim",
        highlight=False,
    )
    console.print(_table(audit))
    notes = _above(audit)
    for names, meaning in notes:
        console.print(Text.assemble((f"{names}: ", "yellow"), meaning, "."))
    if not notes:
        console.print("Every control is at chance.", style="green", highlight=False)


def audit_line(audit: Audit, title: str) -> str:
    """The result in a line: the score, chance, and the controls that are above chance."""
    score, above = audit.line("model", "windows"), _above(audit)
    found = "; ".join(f"{names}: {meaning}" for names, meaning in above) or "every control is at chance"
    return f"{title}: macro-F1 {score.score:.4f}, chance {audit.chance:.4f}; {found}"


def _above(audit: Audit) -> list[tuple[str, str]]:
    """(names, meaning) of the controls that are above chance, or not clearly at it."""
    notes: dict[tuple[str, str], list[str]] = {}
    for line in audit.lines:
        if line.meaning and line.control != "windows":
            notes.setdefault((line.kind, line.meaning), []).append(name_of(line, audit))
    found = []
    for (kind, meaning), names in notes.items():
        who = "" if kind == "prior" else f"{kind}, "
        found.append((f"{who}{', '.join(names)}", meaning))
    return found


def name_of(line: Line, audit: Audit) -> str:
    """The name of the control of a line."""
    names = NAMES | PROBED if line.kind == "probe" else NAMES
    return names[line.control].format(audit.most_frequent)


def _table(audit: Audit) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("macro-F1 of", max_width=25, overflow="fold")
    table.add_column("score", justify="right", no_wrap=True, style="bold")
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("permuted labels", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    before = None
    for line in audit.lines:
        if line.kind != before:
            table.add_row(Text(HEADS[line.kind], style="cyan"))
        before = line.kind
        chance = f"{line.permuted:.3f} +- {line.error:.3f}"
        style = "" if not line.meaning else "green" if line.control == "windows" else "yellow"
        verdict = Text(line.word, style=style)
        table.add_row(Text(f"  {name_of(line, audit)}"), f"{line.score:.3f}", str(line.interval), chance, verdict)
    return table
