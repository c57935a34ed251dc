"""How certain a score is: bootstrap intervals over rows, and comparisons of two classifiers on the same rows."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

SAMPLES = 2000  # bootstrap samples
LEVEL = 0.95  # of an interval
SEED = 0


@dataclasses.dataclass(frozen=True)
class Interval:
    """The percentiles of bootstrap samples between which the middle 95 % lie."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} .. {self.high:.3f}"

    @classmethod
    def of(cls, samples: Float[np.ndarray, " S"]) -> "Interval":
        """The percentile interval (Efron, 1979) of samples."""
        low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        return cls(low, high)


def macro_f1_of(confusion: Int[np.ndarray, "*S V V"]) -> Float[np.ndarray, "*S"]:
    """The macro-F1 over the classes present in the labels, of counts of (label, prediction)."""
    support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    return np.where(support > 0, f1, 0).sum(axis=-1) / np.maximum((support > 0).sum(axis=-1), 1)


def bootstrap_macro_f1(confusion: Int[np.ndarray, "V V"], seed: int = SEED) -> Interval:
    """The interval of macro-F1 if the rows had been drawn anew."""
    classes = len(confusion)
    drawn = draw_counts(confusion.ravel(), seed)
    return Interval.of(macro_f1_of(drawn.reshape(-1, classes, classes)))


def draw_counts(counts: Int[np.ndarray, " K"], seed: int) -> Int[np.ndarray, "S K"]:
    """The counts of bootstrap samples of as many rows as `counts` has.

    Drawing N rows with replacement draws the N cells in which they are counted, such as those of a confusion matrix, so
    the counts are drawn from a multinomial distribution, and no rows are needed.
    """
    rows = counts.sum()
    found = np.flatnonzero(counts)
    drawn = np.zeros((SAMPLES, len(counts)), np.int64)
    drawn[:, found] = np.random.default_rng(seed).multinomial(rows, counts[found] / rows, SAMPLES)
    return drawn


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Macro-F1 of one classifier less that of another on the same rows, with its interval.

    p: share of bootstrap samples (twice the smaller side) in which the sign is the other one.
    """

    difference: float
    interval: Interval
    p: float


def compare_macro_f1(
    labels: Int[np.ndarray, " N"], one: Int[np.ndarray, " N"], other: Int[np.ndarray, " N"], seed: int = SEED
) -> PairedDifference:
    """The difference of macro-F1 between two classifiers by a paired bootstrap over rows.

    labels, one, other: the label of each row and the two predictions.
    """
    classes = int(max(labels.max(), one.max(), other.max())) + 1
    cells, counts = np.unique(np.stack([labels, one, other]), axis=1, return_counts=True)
    label, first, second = cells
    drawn = draw_counts(counts, seed)

    def scores(predicted: Int[np.ndarray, " K"], weights: Int[np.ndarray, "S K"]) -> Float[np.ndarray, " S"]:
        confusion = np.zeros((len(weights), classes * classes), np.int64)
        order = np.argsort(label * classes + predicted, kind="stable")
        place, starts = np.unique((label * classes + predicted)[order], return_index=True)
        confusion[:, place] = np.add.reduceat(weights[:, order], starts, axis=1)
        return macro_f1_of(confusion.reshape(-1, classes, classes))

    whole = counts[None]
    difference = float((scores(first, whole) - scores(second, whole))[0])
    samples = scores(first, drawn) - scores(second, drawn)
    p = 2 * min(float((samples <= 0).mean()), float((samples >= 0).mean()))
    return PairedDifference(difference, Interval.of(samples), min(1.0, p))
