"""The page that ties the report of an evaluation together. Its figures are within it."""

import dataclasses
from collections.abc import Sequence

from demega_jax.evaluation.baseline import MEANING, always
from demega_jax.evaluation.ensemble_report import EnsembleReport
from demega_jax.evaluation.report import html
from demega_jax.evaluation.report.html import Picture
from demega_jax.evaluation.report.intervals import ScoreIntervals
from demega_jax.evaluation.report.page_tables import class_rows, model_rows, score_rows
from demega_jax.metrics import Scores

METHOD = (
    "All scores are computed from counts over the whole split. Macro-F1 and balanced accuracy are means over the "
    "classes that occur in it. Balanced accuracy at 10 counts a row as right whose class is among the 10 of the "
    "largest probabilities; of equal ones the class that is listed first is the larger. Intervals hold the middle 95 % "
    "of 2,000 bootstrap samples of the rows (percentile intervals, Efron 1979): they say how much the score depends on "
    "the rows that were drawn, not on the training's seed. For a class of few rows they are too narrow. Chance is 1 / "
    "number of classes that occur; at 10 it is 10 / number of all classes, for accuracy the share of the most frequent "
    "class, and for phonetic features the accuracy of always saying the more frequent value. ECE is the expected "
    "calibration error (Naeini et al. 2015, in the form of Guo et al. 2017) with 15 bins of equal width. Phonetic "
    "features are those of Chomsky and Halle (1968) and Hayes (2009)."
)
SCORE_COLUMNS = ("score", "value", "95 % interval", "chance")
CLASS_COLUMNS = ("class", "n", "F1", "95 % interval", "precision", "recall", "seen as")


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """What a page shows. facts: short phrases below the title.  method: of the ensemble.  config: YAML.

    baseline: the scores without any brain data, where they are known.
    """

    title: str
    facts: Sequence[str]
    scores: Scores
    intervals: ScoreIntervals
    ensemble: EnsembleReport | None
    method: str
    pictures: Sequence[Picture]
    config: str
    baseline: Scores | None = None


def page_of(content: Content) -> str:
    """The page as HTML."""
    scores, intervals, ensemble = content.scores, content.intervals, content.ensemble
    columns = SCORE_COLUMNS if content.baseline is None else (*SCORE_COLUMNS, "no brain data")
    sections = [html.section("Scores", html.table(columns, score_rows(scores, intervals, content.baseline)))]
    if content.baseline is not None:
        sections.append(html.note(f"No brain data: {MEANING}, first {always(content.baseline)}."))
    if ensemble is not None:
        head, chosen = ("model or ensemble", "macro-F1", "95 % interval"), f"ensemble: {content.method}"
        sections.append(html.section("Models and ensembles", html.table(head, model_rows(ensemble), chosen)))
    sections += [
        html.section("Figures", html.figures(content.pictures)),
        html.section("Each class", html.table(CLASS_COLUMNS, class_rows(scores, intervals))),
    ]
    return html.page(content.title, content.facts, sections, METHOD, content.config)
