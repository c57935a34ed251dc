"""The folder `report/` of a training run: figures, scores and the page, from what an evaluation found."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from demega_jax import __version__
from demega_jax.config import Config
from demega_jax.config.load import to_yaml
from demega_jax.data.split import LabelledRows
from demega_jax.errors import UserError, counted, warn
from demega_jax.evaluation.ensemble_report import EnsembleReport
from demega_jax.evaluation.report.confusion import draw_confusion
from demega_jax.evaluation.report.curves import draw_training
from demega_jax.evaluation.report.f1 import draw_f1
from demega_jax.evaluation.report.features import draw_features
from demega_jax.evaluation.report.folder import write_folder
from demega_jax.evaluation.report.html import Picture
from demega_jax.evaluation.report.intervals import ScoreIntervals, score_intervals
from demega_jax.evaluation.report.page import Content, page_of
from demega_jax.evaluation.report.reliability import draw_reliability
from demega_jax.evaluation.report.saliency import draw_saliency
from demega_jax.evaluation.saliency import MOST_ROWS
from demega_jax.metrics import Scores
from demega_jax.names import PUBLISHED_RATE
from demega_jax.training.members import read_log
from demega_jax.training.run import RunFolder

CAPTIONS = {
    "f1": "F1 of each class. The line on each bar is its 95 % interval; the short black mark is the class's share of "
    "the rows, which is the F1 of guessing every class as often as it occurs.",
    "confusion": "What each class was taken for: shares of the rows of the true class, so that each line adds up to "
    "100 %. The scale of colours is that of a square root, so that rare mistakes can be seen. Grey: no rows.",
    "training_curve": "Losses, validation scores and learning rate by step of training. The vertical line is the step "
    "with the best macro-F1, whose checkpoint is evaluated.",
    "reliability": "How often predictions are right, by the probability that the model gives them. Bars below the "
    "dashed line: the model is too sure of itself. Below: how many rows have which confidence.",
    "ipa_features": "Share of rows for which a phonetic feature is right. The black mark is the accuracy of always "
    "saying the feature's more frequent value.",
    "saliency": "How much the log probability of the true class changes with the normalised window: the mean of the "
    "absolute gradient (Simonyan et al. 2014). Gradiometers: root mean square of the two at each place. The maps show "
    "the head from above, with the nose upwards.",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """What an evaluation of a training run found.

    name: the path of its folder, as it was given.  steps: of its checkpoints.  method: of the ensemble, if any.
    saliency: as `saliency_of` gives it, where it was asked for.  baseline: the scores without any brain data.
    """

    name: str
    config: Config
    steps: Sequence[int]
    split: LabelledRows
    scores: Scores
    ensemble: EnsembleReport | None = None
    method: str = "mean"
    saliency: Float[np.ndarray, "C T"] | None = None
    baseline: Scores | None = None


def write_report(found: Evaluated, formats: Sequence[str] = ("png",)) -> Path:
    """Write the figures and the page of a report to `report/` anew; returns the page.

    formats: of the figures, among `PICTURES`. Those of an earlier report in other formats are removed.
    UserError: the folder cannot be written.
    """
    folder, intervals = RunFolder(Path(found.name)), score_intervals(found.scores.confusion, found.scores.right_at_10)
    figures = dict(draw_all(folder, found, intervals))

    def page(pictures: Sequence[Picture]) -> str:
        title = f"{found.name} on {found.split.name}"
        known = (title, facts(found), found.scores, intervals, found.ensemble, found.method)
        return page_of(Content(*known, pictures, to_yaml(found.config), found.baseline))

    alts = {name: alt_of(name, found.scores) for name in figures}
    of = f"{found.name} on {', '.join(facts(found)[:2])}"
    return write_folder(folder.report, figures, alts, CAPTIONS, page, of=of, formats=formats, known=CAPTIONS)


def draw_all(folder: RunFolder, found: Evaluated, intervals: ScoreIntervals) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of everything that can be drawn, in the order of the page."""
    scores = found.scores
    lines = metrics_lines(folder, found.config)
    if lines:
        reference = scores.reference_macro_f1 if found.split.name == "validation" else None
        options = {"chance": scores.chance, "reference": reference}
        yield "training_curve", draw_training(lines, found.name, monitor=found.config.train.monitor, **options)
    yield from draw_scores(scores, intervals)
    if found.saliency is not None:
        data, rows = found.config.data, min(MOST_ROWS, found.split.rows)
        measured = found.split.acquisition
        rate = measured.sampling_rate or data.augment.sample_rate or PUBLISHED_RATE
        tmin = data.regroup.tmin if measured.tmin is None else measured.tmin
        yield "saliency", draw_saliency(found.saliency, rows, rate, tmin, measured)


def draw_scores(scores: Scores, intervals: ScoreIntervals) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of everything that scores alone show."""
    yield "f1", draw_f1(scores, intervals.f1)
    yield "confusion", draw_confusion(scores)
    if scores.calibration is not None:
        yield "reliability", draw_reliability(scores.calibration)
    features = draw_features(scores)
    if features is not None:
        yield "ipa_features", features


def metrics_lines(folder: RunFolder, config: Config) -> list[list[dict[str, Any]]]:
    """The metrics of each member that has a metrics.jsonl. Warns of one whose lines are not those that were written."""
    found = []
    for member in folder.members(config):
        try:
            if member.metrics.is_file():
                found.append(read_log(member))
        except UserError as error:
            warn(f"no training curve of it is drawn: {error}")
    return found


def facts(found: Evaluated) -> list[str]:
    """What the scores are of, in short phrases."""
    split, steps = found.split, found.steps
    sensors = f"{counted(split.sensors, 'sensor')} x {counted(split.time_points, 'time point')}"
    which = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} models, steps {', '.join(map(str, steps))}"
    listed = [
        f"{split.name} split" + (", simulated data" if split.simulated else ""),
        "several levels, or an unknown one" if split.level is None else f"level {split.level}",
        counted(found.scores.rows, "row"),
        f"{len(split.classes)} classes",
        sensors,
        which,
        f"demega-jax {__version__}",
    ]
    return listed


def alt_of(name: str, scores: Scores) -> str:
    """What a figure shows, for those who do not see it."""
    ece = f", ECE {scores.calibration.ece:.3f}" if scores.calibration is not None else ""
    texts: Mapping[str, str] = {
        "f1": f"Bars: F1 of each class; macro-F1 {scores.macro_f1:.3f}, chance {scores.chance:.3f}. "
        "The table below has the numbers.",
        "confusion": f"Confusion matrix; accuracy {scores.accuracy:.3f}.",
        "training_curve": "Losses, validation scores and learning rate by training step.",
        "reliability": f"Reliability diagram: accuracy by confidence{ece}.",
        "ipa_features": "Bars: accuracy of each phonetic feature.",
        "saliency": "Curves: mean absolute gradient by time after onset; maps of it over the head where there are any.",
    }
    return texts[name]
