"""The rows of the tables of a report's page, as text."""

from collections.abc import Iterator

import numpy as np

from demega_jax.evaluation.ensemble_report import EnsembleReport
from demega_jax.evaluation.report.features import features_of_predictions, majority
from demega_jax.evaluation.report.intervals import ScoreIntervals
from demega_jax.evaluation.report.tables import class_cells
from demega_jax.metrics import TOP, Scores
from demega_jax.phonemes import manner_groups

NONE = "\N{EN DASH}"


def score_rows(scores: Scores, intervals: ScoreIntervals, baseline: Scores | None = None) -> Iterator[tuple[str, ...]]:
    """(name, value, interval, chance) of each score that is known; and what the baseline scores, where there is one."""
    if baseline is None:
        yield from _scores(scores, intervals)
        return
    without = {
        "macro-F1": baseline.macro_f1,
        "balanced accuracy": baseline.balanced_accuracy,
        "balanced accuracy at 10": baseline.balanced_accuracy_at_10,
        "accuracy": baseline.accuracy,
    }
    for row in _scores(scores, intervals):
        value = without.get(row[0])
        yield *row, NONE if value is None else f"{value:.4f}"


def _scores(scores: Scores, intervals: ScoreIntervals) -> Iterator[tuple[str, str, str, str]]:
    chance = f"{scores.chance:.4f}"
    most = f"{scores.support.max() / scores.rows:.4f}"
    yield "macro-F1", f"{scores.macro_f1:.4f}", str(intervals.macro_f1), chance
    yield "balanced accuracy", f"{scores.balanced_accuracy:.4f}", str(intervals.balanced_accuracy), chance
    if scores.balanced_accuracy_at_10 is not None:
        any_order = f"{TOP / len(scores.classes):.4f}"
        interval = str(intervals.balanced_accuracy_at_10)
        yield "balanced accuracy at 10", f"{scores.balanced_accuracy_at_10:.4f}", interval, any_order
    yield "accuracy", f"{scores.accuracy:.4f}", str(intervals.accuracy), most
    if scores.calibration is not None:
        yield "ECE, expected calibration error", f"{scores.calibration.ece:.4f}", NONE, NONE
    if scores.loss is not None:
        yield "class loss (nats)", f"{scores.loss:.4f}", NONE, NONE
    predicted = features_of_predictions(scores)
    frequent = f"{majority(scores).mean():.4f}" if predicted else NONE
    if predicted:
        yield "phonetic features of the predicted phoneme", f"{np.mean(list(predicted.values())):.4f}", NONE, frequent
    if scores.ipa_accuracy is not None:
        yield "IPA feature head", f"{scores.ipa_accuracy:.4f}", NONE, frequent
    if scores.reference_macro_f1 is not None:
        yield "reference macro-F1 (best possible)", f"{scores.reference_macro_f1:.4f}", NONE, NONE


def class_rows(scores: Scores, intervals: ScoreIntervals) -> Iterator[tuple[str, ...]]:
    """(name, rows, F1, interval, precision, recall, most frequent wrong prediction) of each class."""
    for _, positions in manner_groups(scores.classes):
        for index in positions:
            name, rows, f1, precision, recall, seen_as = class_cells(scores, index)
            low, high = intervals.f1[index]
            interval = f"{low:.2f} .. {high:.2f}" if scores.support[index] else NONE
            yield name, rows, f1, interval, precision, recall, seen_as


def model_rows(ensemble: EnsembleReport) -> Iterator[tuple[str, str, str]]:
    """(name, macro-F1, interval) of each model and each way to combine them."""
    for name, score in ensemble.models.items():
        yield name, f"{score.macro_f1:.4f}", str(score.interval)
    if len(ensemble.models) > 1:
        yield "mean of models", f"{ensemble.mean:.4f}", f"sd {ensemble.deviation:.4f}"
        for method, score in ensemble.ensembles.items():
            yield f"ensemble: {method}", f"{score.macro_f1:.4f}", str(score.interval)
    if ensemble.without_tta is not None:
        yield "without --tta", f"{ensemble.without_tta.macro_f1:.4f}", str(ensemble.without_tta.interval)
