"""Scores of a split, from integer counts over all of its rows. They are never averages over batches."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int


class Scores:
    """The scores of a split, from its counts of (label, prediction). All are shares from 0 to 1 but the loss (nats).

    macro_f1, balanced_accuracy: means of F1 and of recall over the classes present in the labels.
    chance: 1 / number of classes present.  classes: the V names.  confusion: the counts [V, V].  rows: their sum.
    f1, precision, recall, support: of each class [V]; a quotient by 0 is 0, as in scikit-learn.
    ipa_accuracy, ipa_feature_accuracy: of the IPA feature head, for all features together and for each by name.
    reference_macro_f1: the macro-F1 to compare with, if it is known.
    ValueError: no rows, or counts that do not fit the classes.
    """

    def __init__(
        self,
        confusion: Int[np.ndarray, "V V"],
        classes: Sequence[str],
        *,
        loss: float | None = None,
        ipa_accuracy: float | None = None,
        ipa_feature_accuracy: Mapping[str, float] | None = None,
        reference_macro_f1: float | None = None,
    ):
        self.confusion, self.classes = np.asarray(confusion).astype(np.int64), tuple(classes)
        if self.confusion.shape != (len(classes), len(classes)):
            raise ValueError(f"confusion has shape {self.confusion.shape} for {len(classes)} classes")
        self.support, predicted, right = self.confusion.sum(1), self.confusion.sum(0), self.confusion.diagonal()
        self.rows = int(self.support.sum())
        if self.rows == 0:
            raise ValueError("no rows to score")
        self.precision, self.recall = _divide(right, predicted), _divide(right, self.support)
        self.f1 = _divide(2 * right, self.support + predicted)
        present = self.support > 0
        self.macro_f1 = float(self.f1[present].mean())
        self.balanced_accuracy = float(self.recall[present].mean())
        self.accuracy = int(right.sum()) / self.rows
        self.chance = 1 / int(present.sum())
        self.loss, self.ipa_accuracy, self.ipa_feature_accuracy = loss, ipa_accuracy, ipa_feature_accuracy
        self.reference_macro_f1 = reference_macro_f1

    def summary(self) -> dict[str, float]:
        """The values of a validation line in metrics.jsonl. loss is there only where it is known."""
        loss = {} if self.loss is None else {"loss": self.loss}
        return loss | {name: getattr(self, name) for name in ("macro_f1", "balanced_accuracy", "accuracy")}

    def to_json(self) -> dict[str, Any]:
        """All scores in plain Python types. None where there is no value, or it is not finite."""
        features = self.ipa_feature_accuracy
        by_class = [values.tolist() for values in (self.f1, self.precision, self.recall, self.support)]
        return {
            "loss": _finite(self.loss),
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
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
        }


def macro_f1(labels: Int[np.ndarray, " N"], predictions: Int[np.ndarray, " N"]) -> float:
    """The mean F1 over the classes present in the labels."""
    classes = int(max(labels.max(), predictions.max())) + 1
    confusion = np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)
    return Scores(confusion, [str(number) for number in range(classes)]).macro_f1


def _divide(numerator: Int[np.ndarray, " V"], denominator: Int[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
    """The quotient in float64; 0 where the denominator is 0."""
    return numerator / np.maximum(denominator, 1)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
