"""The folder `report/` of a stack: figures of the stack that predicts, and the page that holds them and the tables."""

from collections.abc import Sequence
from pathlib import Path

from demega_jax import __version__
from demega_jax.config.load import to_yaml
from demega_jax.errors import counted
from demega_jax.evaluation.report import html
from demega_jax.evaluation.report.folder import write_folder
from demega_jax.evaluation.report.html import Picture
from demega_jax.evaluation.report.intervals import score_intervals
from demega_jax.evaluation.report.page import CLASS_COLUMNS
from demega_jax.evaluation.report.page_tables import class_rows
from demega_jax.evaluation.report.page_tables import score_rows as scores_of
from demega_jax.evaluation.report.write import CAPTIONS, alt_of, draw_scores
from demega_jax.evaluation.stack.report import StackReport, score_rows
from demega_jax.evaluation.stack.stages import StackPlan
from demega_jax.metrics import Scores

METHOD = (
    "Stacked generalisation (Wolpert 1992): the base models' logits for the same rows are the input of a second model, "
    "an MLP or a regularised linear one. The one with the higher macro-F1 on held-out rows of validation predicts. "
    "Intervals hold the middle 95 % of 2,000 bootstrap samples of the rows (percentile intervals, Efron 1979). Chance "
    "is 1 / number of classes that occur."
)


def write_stack_report(plan: StackPlan, reports: Sequence[StackReport], scores: Scores) -> Path:
    """Write the figures and the page; returns the page. scores: of the stack that predicts, on the last split."""
    last, intervals = reports[-1], score_intervals(scores.confusion, scores.right_at_10)
    figures = dict(draw_scores(scores, intervals))

    def page(pictures: Sequence[Picture]) -> str:
        at = [] if plan.level is None else [f"level {plan.level}"]
        facts = [
            *at,
            f"{len(last.bases)} base models",
            f"{counted(scores.rows, 'row')} of {last.split}",
            f"demega-jax {__version__}",
        ]
        sections = [_splits(report) for report in reports]
        what = f"{last.chosen_row} on {last.split}"
        head = ("score", "value", "95 % interval", "chance")
        sections += [
            html.section(f"Scores of {what}", html.table(head, scores_of(scores, intervals))),
            html.section(f"Figures of {what}", html.figures(pictures)),
            html.section(f"Each class, {what}", html.table(CLASS_COLUMNS, class_rows(scores, intervals))),
        ]
        return html.page(f"Stack {plan.folder}", facts, sections, METHOD, to_yaml(plan.config))

    alts = {name: alt_of(name, scores) for name in figures}
    of = f"{last.chosen_row} of {plan.folder} on {last.split}"
    return write_folder(plan.folder / "report", figures, alts, CAPTIONS, page, of=of, known=CAPTIONS)


def _splits(report: StackReport) -> str:
    """The table of a split, with how to read it."""
    rows = [row for kind in score_rows(report) for row in kind]
    table = html.table(("model", "macro-F1", "95 % interval"), rows, report.chosen_row)
    notes = [html.note(f"The stackers were fitted {report.fitted}.")]
    if report.note:
        notes.append(html.note(f"On {report.split} {report.note}."))
    return html.section(f"On {report.split}, {counted(report.rows, 'row')}", table, *notes)
