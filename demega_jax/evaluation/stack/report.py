"""What base models, ensembles and stacks score on the same rows: as a table, as text and as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.evaluation.ensemble import combine
from demega_jax.evaluation.ensemble_report import Score
from demega_jax.evaluation.predict import Predictions
from demega_jax.evaluation.stack.crossfit import Features, Fitted, Kind, side_by_side

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class StackReport:
    """Scores on a split. bases, ensembles, stacks: by name.  rows: of the split.  note: how to read the stacks' scores.

    chosen: the kind of stacker that predicts, which was the better one on held-out rows.
    """

    split: str
    rows: int
    level: int | None
    bases: dict[str, Score]
    ensembles: dict[str, Score]
    stacks: dict[str, Score]
    chosen: Kind
    fitted: str
    note: str

    def to_json(self) -> dict[str, Any]:
        """The report in plain Python types."""
        return {"format": FORMAT} | dataclasses.asdict(self)


def report_of(
    split: str, level: int | None, found: Predictions, fitted: Mapping[Kind, Fitted], chosen: Kind, how: str,
    learnt: bool,
) -> StackReport:  # fmt: skip
    """The report on a split. learnt: whether these are the rows that stackers learnt from, or chose by.

    There, the scores are of held-out predictions where there are any.
    """
    x, labels = side_by_side(found.logits), found.labels
    stacks: dict[str, Score] = {}
    for kind, each in fitted.items():
        p = each.held_out if learnt and each.held_out is not None else each.predict(x)
        stacks[kind] = Score.of(labels, p)
    held_out = all(each.held_out is not None for each in fitted.values())
    seen = "the stackers learnt from these rows, or chose by them, so their scores are too good"
    note = ("each row is scored by stackers that have not seen it" if held_out else seen) if learnt else ""
    return StackReport(
        split=split, rows=len(labels), level=level,
        bases={name: Score.of(labels, p) for name, p in zip(found.names, found.plain, strict=True)},
        ensembles={method: Score.of(labels, combine(found, method)) for method in ("mean", "logits", "vote")},
        stacks=stacks, chosen=chosen, fitted=how, note=note,
    )  # fmt: skip


def choose(found: Features, fitted: Mapping[Kind, Fitted]) -> Kind:
    """The kind of stacker with the higher macro-F1 on validation: of held-out predictions where there are any."""
    scores = {
        kind: Score.of(found.labels, each.predict(found.x) if each.held_out is None else each.held_out).macro_f1
        for kind, each in fitted.items()
    }
    return max(scores, key=lambda kind: scores[kind])


def print_report(report: StackReport, console: Console) -> None:
    """Print the table of a split."""
    at = "" if report.level is None else f" at level {report.level}"
    console.print(Text(f"{report.split}{at}, {report.rows:,} rows", style="bold"))
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("macro-F1", justify="right", style="bold", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    kinds = (("", report.bases), ("ensemble: ", report.ensembles), ("stack: ", report.stacks))
    for prefix, scores in kinds:
        for place, (name, score) in enumerate(scores.items(), start=1):
            last = place == len(scores) and prefix != "stack: "
            style = "green" if prefix == "stack: " and name == report.chosen else None
            table.add_row(
                Text(prefix + name), f"{score.macro_f1:.4f}", str(score.interval), end_section=last, style=style
            )
    console.print(table)
    console.print(f"The stackers were fitted {report.fitted}.", style="dim", highlight=False)
    if report.note:
        console.print(f"On {report.split} {report.note}.", style="dim", highlight=False)
