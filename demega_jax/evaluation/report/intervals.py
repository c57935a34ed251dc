"""Bootstrap intervals of all scores that a confusion matrix gives."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from demega_jax.evaluation.statistics import SEED, Interval, draw_counts, macro_f1_of


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreIntervals:
    """The 95 % intervals of scores if the rows had been drawn anew. f1 [V, 2]: low and high of each class.

    balanced_accuracy_at_10: None where that score is not known.
    """

    macro_f1: Interval
    balanced_accuracy: Interval
    accuracy: Interval
    f1: Float[np.ndarray, "V 2"]
    balanced_accuracy_at_10: Interval | None = None


def score_intervals(
    confusion: Int[np.ndarray, "V V"], right_at_10: Int[np.ndarray, " V"] | None = None, seed: int = SEED
) -> ScoreIntervals:
    """Percentile intervals (Efron, 1979) over rows, from the same bootstrap samples as in `bootstrap_macro_f1`.

    right_at_10 [V]: rows of each class that are right at 10; they are drawn in samples of their own. A class that a
    sample has no rows of does not count there. For a class of few rows the interval is too narrow.
    """
    classes = len(confusion)
    drawn = draw_counts(confusion.ravel(), seed).reshape(-1, classes, classes)
    support, right = drawn.sum(axis=2), np.diagonal(drawn, axis1=1, axis2=2)
    f1 = np.where(support > 0, 2 * right / np.maximum(support + drawn.sum(axis=1), 1), np.nan)
    return ScoreIntervals(
        macro_f1=Interval.of(macro_f1_of(drawn)),
        balanced_accuracy=Interval.of(_mean_share(right, support)),
        accuracy=Interval.of(right.sum(axis=1) / confusion.sum()),
        f1=np.array([_interval_of_class(of_class[np.isfinite(of_class)]) for of_class in f1.T]),
        balanced_accuracy_at_10=None
        if right_at_10 is None
        else _interval_at_10(right_at_10, confusion.sum(axis=1), seed),
    )


def _interval_at_10(right: Int[np.ndarray, " V"], support: Int[np.ndarray, " V"], seed: int) -> Interval:
    """The interval of balanced accuracy at 10, from rows of each class that are right and that are not."""
    drawn = draw_counts(np.stack([right, support - right], axis=1).ravel(), seed).reshape(-1, len(right), 2)
    return Interval.of(_mean_share(drawn[..., 0], drawn.sum(axis=2)))


def _mean_share(right: Int[np.ndarray, "S V"], support: Int[np.ndarray, "S V"]) -> Float[np.ndarray, " S"]:
    """The mean over the classes present of right rows / rows."""
    return (right / np.maximum(support, 1)).sum(axis=1) / (support > 0).sum(axis=1)


def _interval_of_class(samples: Float[np.ndarray, " S"]) -> tuple[float, float]:
    """Low and high of the samples that have rows of a class; 0 and 0 where none has."""
    found = Interval.of(samples) if len(samples) else Interval(0.0, 0.0)
    return found.low, found.high


def wilson(right: Int[np.ndarray, " B"], rows: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B 2"]:
    """The 95 % score interval of a share (Wilson, 1927): low and high. For 0 rows it is 0 to 1."""
    z = 1.959964
    n = np.maximum(rows, 1)
    share = right / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    found = np.clip(np.stack([middle - half, middle + half], axis=1), 0, 1)
    return np.where(rows[:, None] > 0, found, [0.0, 1.0])
