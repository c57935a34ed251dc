"""What base models, ensembles and stacks score on the same rows: as a table, as text and as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.errors import counted
from demega_jax.evaluation.ensemble import combine
from demega_jax.evaluation.ensemble_report import Score, scores_of_probabilities
from demega_jax.evaluation.predict import Predictions
from demega_jax.evaluation.stack.crossfit import Features, Fitted, Kind, side_by_side
from demega_jax.evaluation.stack.stages import StackPlan
from demega_jax.metrics import Scores

Probabilities = Float[np.ndarray, "N V"]
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

    @property
    def chosen_row(self) -> str:
        """The name of the stack that predicts, in the table."""
        return f"stack: {self.chosen}"

    def to_json(self) -> dict[str, Any]:
        """The report in plain Python types."""
        return {"format": FORMAT} | dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Stacked:
    """The reports on validation and on the split that was asked for, and the chosen stack's scores on the last one."""

    reports: list[StackReport]
    scores: Scores


def stacked(plan: StackPlan, found: Mapping[str, Predictions], fitted: Mapping[Kind, Fitted], chosen: Kind) -> Stacked:
    """What base models, ensembles and stacks score on each split. found: what the base models say, by split."""
    reports = []
    for split, base in found.items():
        p = _predict(base, fitted, learnt=split == "validation")
        reports.append(_report_of(plan, split, base, fitted, chosen, p))
    return Stacked(reports, scores_of_probabilities(base.labels, p[chosen], base.classes))


def _predict(found: Predictions, fitted: Mapping[Kind, Fitted], *, learnt: bool) -> dict[Kind, Probabilities]:
    """The probabilities of each kind of stacker. learnt: whether stackers learnt from these rows, or chose by them.

    There, they are held-out predictions where there are any.
    """
    x = side_by_side(found.logits)
    return {
        kind: each.held_out if learnt and each.held_out is not None else each.predict(x)
        for kind, each in fitted.items()
    }


def _report_of(
    plan: StackPlan,
    split: str,
    found: Predictions,
    fitted: Mapping[Kind, Fitted],
    chosen: Kind,
    p: Mapping[Kind, Probabilities],
) -> StackReport:
    """The report on a split. p: of each kind of stacker."""
    labels, note = found.labels, ""
    if split == "validation":
        held_out = all(each.held_out is not None for each in fitted.values())
        seen = "the stackers learnt from these rows, or chose by them, so their scores are too good"
        note = "each row is scored by stackers that have not seen it" if held_out else seen
    return StackReport(
        split=split,
        rows=len(labels),
        level=plan.level,
        bases={name: Score.of(labels, p) for name, p in zip(found.names, found.plain, strict=True)},
        ensembles={method: Score.of(labels, combine(found, method)) for method in ("mean", "logits", "vote")},
        stacks={kind: Score.of(labels, each) for kind, each in p.items()},
        chosen=chosen,
        fitted=plan.fitted,
        note=note,
    )


def choose(found: Features, fitted: Mapping[Kind, Fitted]) -> Kind:
    """The kind of stacker with the higher macro-F1 on validation: of held-out predictions where there are any."""
    scores = {
        kind: Score.of(found.labels, each.predict(found.x) if each.held_out is None else each.held_out).macro_f1
        for kind, each in fitted.items()
    }
    return max(scores, key=lambda kind: scores[kind])


def score_rows(report: StackReport) -> list[list[tuple[str, str, str]]]:
    """(name, macro-F1, interval) of base models, of ensembles and of stacks."""
    kinds = (("", report.bases), ("ensemble: ", report.ensembles), ("stack: ", report.stacks))
    return [
        [(prefix + name, f"{score.macro_f1:.4f}", str(score.interval)) for name, score in scores.items()]
        for prefix, scores in kinds
    ]


def print_report(report: StackReport, console: Console) -> None:
    """Print the table of a split."""
    at = "" if report.level is None else f" at level {report.level}"
    console.print(Text(f"{report.split}{at}, {counted(report.rows, 'row')}", style="bold"))
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("macro-F1", justify="right", style="bold", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for rows in score_rows(report):
        for name, macro_f1, interval in rows:
            table.add_row(Text(name), macro_f1, interval, style="green" if name == report.chosen_row else None)
        table.add_section()
    console.print(table)
    console.print(f"The stackers were fitted {report.fitted}.", style="dim", highlight=False)
    if report.note:
        console.print(f"On {report.split} {report.note}.", style="dim", highlight=False)
