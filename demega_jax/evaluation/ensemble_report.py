"""What each model of an ensemble scores alone, what each way to combine them scores, and how much they differ."""

import dataclasses
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.evaluation.ensemble import METHODS, Disagreement, combine, disagreement
from demega_jax.evaluation.predict import Predictions
from demega_jax.evaluation.statistics import Interval, bootstrap_macro_f1
from demega_jax.metrics import Scores, calibration_of, confusion_matrix, right_at_10_of, scores


@dataclasses.dataclass(frozen=True)
class Score:
    """A macro-F1 with its bootstrap interval over rows."""

    macro_f1: float
    interval: Interval

    @classmethod
    def of(cls, labels: Int[np.ndarray, " N"], p: Float[np.ndarray, "N V"]) -> "Score":
        """The score of probabilities."""
        found = scores_of_probabilities(labels, p, tuple(map(str, range(p.shape[-1]))))
        return cls(found.macro_f1, bootstrap_macro_f1(found.confusion))


@dataclasses.dataclass(frozen=True)
class EnsembleReport:
    """models: the score of each by its name.  ensembles: the score of each method.  method: the one that is asked for.

    without_tta: the score of that method without test-time augmentation.
    """

    models: dict[str, Score]
    ensembles: dict[str, Score]
    method: str
    disagreement: Disagreement
    without_tta: Score | None

    @property
    def mean(self) -> float:
        """The mean macro-F1 of the models."""
        return float(np.mean([score.macro_f1 for score in self.models.values()]))

    @property
    def deviation(self) -> float:
        """The standard deviation of the models' macro-F1 (of a sample); 0 for one model."""
        found = [score.macro_f1 for score in self.models.values()]
        return float(np.std(found, ddof=1)) if len(found) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report in plain Python types."""
        return dataclasses.asdict(self) | {"mean": self.mean, "standard_deviation": self.deviation}


class Combine(Protocol):
    """A way to combine models."""

    @property
    def method(self) -> str:
        """Its name."""
        ...

    def __call__(self, found: Predictions) -> Float[np.ndarray, "N V"]:
        """The probabilities of the ensemble."""
        ...


def report_of(found: Predictions, combination: Combine) -> EnsembleReport:
    """The report of predictions for rows that all have labels."""
    labels = found.labels
    methods: dict[str, Score] = {
        method: Score.of(labels, combine(found, method)) for method in METHODS if method != "weighted"
    }
    if combination.method not in methods:
        methods[combination.method] = Score.of(labels, combination(found))
    without = dataclasses.replace(found, tta=None)
    return EnsembleReport(
        models={name: Score.of(labels, p) for name, p in zip(found.names, found.probabilities, strict=True)},
        ensembles=methods,
        method=combination.method,
        disagreement=disagreement(found),
        without_tta=None if found.tta is None else Score.of(labels, combination(without)),
    )


def scores_of_probabilities(
    labels: Int[np.ndarray, " N"],
    p: Float[np.ndarray, "N V"],
    classes: tuple[str, ...],
    reference_macro_f1: float | None = None,
) -> Scores:
    """The scores of probabilities. The loss is not known, as it is that of one model's logits."""
    confusion = confusion_matrix(labels, p.argmax(axis=-1), len(classes))
    return scores(
        confusion,
        classes,
        right_at_10=right_at_10_of(p, labels),
        reference_macro_f1=reference_macro_f1,
        calibration=calibration_of(p, labels),
    )


def print_ensemble(report: EnsembleReport, console: Console) -> None:
    """Print the table of models and methods. The method that is asked for is green."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title_justify="left")
    table.add_column("model or ensemble", overflow="fold")
    table.add_column("macro-F1", justify="right", style="bold", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for name, score in report.models.items():
        table.add_row(Text(name), f"{score.macro_f1:.4f}", str(score.interval))
    if len(report.models) > 1:
        table.add_row("mean of models", f"{report.mean:.4f}", f"sd {report.deviation:.4f}", end_section=True)
        for name, score in report.ensembles.items():
            style = "green" if name == report.method else None
            table.add_row(f"ensemble: {name}", f"{score.macro_f1:.4f}", str(score.interval), style=style)
    if report.without_tta is not None:
        table.add_row("without --tta", f"{report.without_tta.macro_f1:.4f}", str(report.without_tta.interval))
    console.print(table)
    if len(report.models) > 1:
        differ = report.disagreement
        console.print(
            f"Two models differ on {differ.pairs:.1%} of rows; all agree on {differ.unanimous:.1%}; "
            f"at least one is right on {differ.oracle:.1%}.",
            style="dim",
            highlight=False,
        )
