"""Scores of a split, from integer counts over all of its rows. They are never averages over batches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

BINS = 15  # of confidence, as in Guo et al. (2017)
TOP = 10  # classes of a row that balanced accuracy at 10 looks at


@dataclass(frozen=True, eq=False)
class Calibration:
    """How often predictions are right, by their confidence: the probability of the class that is predicted.

    Bins of equal width, B of them: bin b holds confidences above b / B, and up to (b + 1) / B.
    rows, right [B]: rows of each bin, and those that are predicted right.  confidence [B]: the sum of the confidences.
    """

    rows: Int[np.ndarray, " B"]
    right: Int[np.ndarray, " B"]
    confidence: Float[np.ndarray, " B"]

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean over rows of |accuracy - mean confidence| of the row's bin.

        Naeini et al. (AAAI 2015), in the form of Guo et al. (ICML 2017), equation 3.
        """
        return float(np.abs(self.right - self.confidence).sum() / self.rows.sum())

    def to_json(self) -> dict[str, Any]:
        """The error and its bins in plain Python types."""
        bins = {"rows": self.rows.tolist(), "right": self.right.tolist(), "confidence": self.confidence.tolist()}
        return {"ece": self.ece} | bins


def calibration_of(p: Float[np.ndarray, "N V"], labels: Int[np.ndarray, " N"]) -> Calibration:
    """The calibration of probabilities."""
    confidence, right = p.max(axis=-1), p.argmax(axis=-1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    rows, of_right = np.bincount(place, minlength=BINS), np.bincount(place[right], minlength=BINS)
    return Calibration(rows, of_right, np.bincount(place, weights=confidence, minlength=BINS))


def right_at_10_of(p: Float[np.ndarray, "N V"], labels: Int[np.ndarray, " N"]) -> Int[np.ndarray, " V"]:
    """Rows of each class whose label is among the 10 classes of the largest probabilities.

    Of equal probabilities the class that is listed first is the larger one, so that the first of the 10 is `argmax`.
    """
    rank = np.argsort(-p, axis=-1, kind="stable")[:, :TOP]
    return np.bincount(labels[(rank == labels[:, None]).any(axis=-1)], minlength=p.shape[-1])


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a split. All are shares from 0 to 1 but `loss` (nats) and `support` (rows).

    macro_f1, balanced_accuracy: means of F1 and of recall over the classes present in the labels.
    right_at_10: rows of each class [V] whose label is among the 10 largest probabilities, if they are known.
    chance: 1 / number of classes present.  classes: the V names.  confusion: counts [V, V] of (label, prediction).
    f1, precision, recall, support: of each class [V]; a quotient by 0 is 0, as in scikit-learn.
    ipa_accuracy, ipa_feature_accuracy: of the IPA feature head, for all features together and for each by name.
    reference_macro_f1: the macro-F1 to compare with, if it is known.
    calibration: whether the probabilities mean what they say, if they are known.
    """

    macro_f1: float
    balanced_accuracy: float
    accuracy: float
    chance: float
    f1: Float[np.ndarray, " V"]
    precision: Float[np.ndarray, " V"]
    recall: Float[np.ndarray, " V"]
    support: Int[np.ndarray, " V"]
    confusion: Int[np.ndarray, "V V"]
    classes: tuple[str, ...]
    right_at_10: Int[np.ndarray, " V"] | None = None
    loss: float | None = None
    ipa_accuracy: float | None = None
    ipa_feature_accuracy: Mapping[str, float] | None = None
    reference_macro_f1: float | None = None
    calibration: Calibration | None = None

    @property
    def rows(self) -> int:
        """Rows counted."""
        return int(self.support.sum())

    @property
    def balanced_accuracy_at_10(self) -> float | None:
        """The mean over the classes present of the share of their rows whose label is among the 10 largest
        probabilities. None where it is not known, or where there are 10 classes or fewer, as it would always be 1."""
        if self.right_at_10 is None or len(self.classes) <= TOP:
            return None
        return float(_divide(self.right_at_10, self.support)[self.support > 0].mean())

    def summary(self) -> dict[str, float]:
        """The values of a validation line in metrics.jsonl. loss and the score at 10 are there only where known."""
        values = {
            "loss": self.loss,
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "balanced_accuracy_at_10": self.balanced_accuracy_at_10,
            "accuracy": self.accuracy,
        }
        return {name: value for name, value in values.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """All scores in plain Python types. None where there is no value, or it is not finite."""
        features = self.ipa_feature_accuracy
        by_class = [values.tolist() for values in (self.f1, self.precision, self.recall, self.support)]
        return {
            "loss": _finite(self.loss),
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "balanced_accuracy_at_10": self.balanced_accuracy_at_10,
            "accuracy": self.accuracy,
            "chance": self.chance,
            "rows": self.rows,
            "reference_macro_f1": _finite(self.reference_macro_f1),
            "ipa_accuracy": _finite(self.ipa_accuracy),
            "ipa_feature_accuracy": None if features is None else {k: _finite(v) for k, v in features.items()},
            "classes": list(self.classes),
            "per_phoneme": {
                name: {"f1": f1, "precision": precision, "recall": recall, "support": support}
                for name, f1, precision, recall, support in zip(self.classes, *by_class, strict=True)
            },
            "confusion": self.confusion.tolist(),
            "right_at_10": None if self.right_at_10 is None else self.right_at_10.tolist(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
        }


def scores(
    confusion: Int[np.ndarray, "V V"],
    classes: Sequence[str],
    *,
    right_at_10: Int[np.ndarray, " V"] | None = None,
    loss: float | None = None,
    ipa_accuracy: float | None = None,
    ipa_feature_accuracy: Mapping[str, float] | None = None,
    reference_macro_f1: float | None = None,
    calibration: Calibration | None = None,
) -> Scores:
    """The scores of a split from its counts of (label, prediction), and of labels among the 10 largest probabilities.

    Equal to scikit-learn's `f1_score(average="macro", labels=classes present)` and `balanced_accuracy_score`.
    ValueError: no rows, or counts that do not fit the classes.
    """
    counts = np.asarray(confusion).astype(np.int64)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"confusion has shape {counts.shape} for {len(classes)} classes")
    support, predicted, right = counts.sum(axis=1), counts.sum(axis=0), np.diagonal(counts)
    rows = int(support.sum())
    if rows == 0:
        raise ValueError("no rows to score")
    present = support > 0
    recall = _divide(right, support)
    f1 = _divide(2 * right, support + predicted)
    return Scores(
        macro_f1=float(f1[present].mean()),
        balanced_accuracy=float(recall[present].mean()),
        accuracy=int(right.sum()) / rows,
        chance=1 / int(present.sum()),
        f1=f1,
        precision=_divide(right, predicted),
        recall=recall,
        support=support,
        confusion=counts,
        classes=tuple(classes),
        right_at_10=right_at_10,
        loss=loss,
        ipa_accuracy=ipa_accuracy,
        ipa_feature_accuracy=ipa_feature_accuracy,
        reference_macro_f1=reference_macro_f1,
        calibration=calibration,
    )


def confusion_matrix(
    labels: Int[np.ndarray, " N"], predictions: Int[np.ndarray, " N"], classes: int
) -> Int[np.ndarray, "V V"]:
    """Counts of (label, prediction)."""
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def macro_f1(labels: Int[np.ndarray, " N"], predictions: Int[np.ndarray, " N"]) -> float:
    """The mean F1 over the classes present in the labels."""
    classes = int(max(labels.max(), predictions.max())) + 1
    return scores(confusion_matrix(labels, predictions, classes), [str(n) for n in range(classes)]).macro_f1


def _divide(numerator: Int[np.ndarray, " V"], denominator: Int[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
    """The quotient in float64; 0 where the denominator is 0."""
    return numerator / np.maximum(denominator, 1)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
