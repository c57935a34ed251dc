"""Ensembles: one prediction from the predictions of several models for the same rows."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from demega_jax.errors import UserError
from demega_jax.evaluation.predict import Predictions
from demega_jax.names import same_names

Method = Literal["mean", "logits", "vote", "weighted"]
METHODS: tuple[Method, ...] = ("mean", "logits", "vote", "weighted")
MOST_UPDATES, TOLERANCE = 1000, 1e-7  # of the weights, which are fitted by expectation maximisation
LEAST = 1e-30  # a probability in a logarithm or a denominator


def combine(
    found: Predictions, method: Method, weights: Float[np.ndarray, " M"] | None = None
) -> Float[np.ndarray, "N V"]:
    """The probabilities of an ensemble, which sum to 1 in each row.

    mean: of probabilities.  logits: the softmax of the mean of logits (of log-probabilities with test-time
    augmentation).  vote: the shares of votes; of classes with as many votes, the one with the larger mean probability
    is ahead.  weighted: a weighted mean of probabilities. weights [M]: for `weighted`, of `fit_weights`.
    """
    p = found.probabilities
    if method == "mean":
        return p.mean(axis=0)
    if method == "weighted":
        if weights is None:
            raise ValueError("no weights for the method `weighted`")
        return np.einsum("m,mnv->nv", weights, p).astype(p.dtype)
    if method == "logits":
        logits = found.logits if found.tta is None else np.log(np.maximum(p, LEAST))
        mean = logits.mean(axis=0)
        odds = np.exp(mean - mean.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)
    votes = np.eye(p.shape[-1], dtype=p.dtype)[p.argmax(axis=-1)].sum(axis=0)
    return (votes + p.mean(axis=0)) / (len(p) + 1)  # the mean is below one vote, so it only decides between equal ones


def fit_weights(probabilities: Float[np.ndarray, "M N V"], labels: Int[np.ndarray, " N"]) -> Float[np.ndarray, " M"]:
    """Weights of models, not below 0 and with the sum 1, which give the labels the highest likelihood.

    Every class counts the same, as in macro-F1. The likelihood of a mixture is concave in its weights, so expectation
    maximisation (Dempster et al., 1977) finds the best ones. Fit them on validation, never on the rows to be scored.
    """
    of_label = probabilities[:, np.arange(len(labels)), labels].astype(np.float64)
    counts = np.bincount(labels)
    share = 1 / counts[labels] / np.count_nonzero(counts)  # sums to 1 over rows
    weights = np.full(len(probabilities), 1 / len(probabilities))
    for _ in range(MOST_UPDATES):
        joint = weights[:, None] * of_label
        new = (joint / np.maximum(joint.sum(axis=0), LEAST)) @ share
        new /= new.sum()
        if np.abs(new - weights).max() < TOLERANCE:
            return new
        weights = new
    return weights


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """How much models differ. pairs: mean share of rows on which two models predict different classes.

    unanimous: share of rows on which all predict the same.  oracle: share of rows on which at least one is right.
    """

    pairs: float
    unanimous: float
    oracle: float


def disagreement(found: Predictions) -> Disagreement:
    """How much the models of predictions differ. With one model, nothing differs."""
    predicted = found.probabilities.argmax(axis=-1)
    pairs = [float((a != b).mean()) for a, b in itertools.combinations(predicted, 2)]
    return Disagreement(
        pairs=float(np.mean(pairs)) if pairs else 0.0,
        unanimous=float((predicted == predicted[0]).all(axis=0).mean()),
        oracle=float((predicted == found.labels).any(axis=0).mean()),
    )


def check_same(models: Sequence[tuple[str, tuple[str, ...], tuple[int, int | None]]]) -> None:
    """UserError: models (name, classes, window) that cannot be averaged, as classes or windows differ."""
    name, classes, window = models[0]
    for other, other_classes, other_window in models[1:]:
        if not same_names(other_classes, classes):
            different = sorted(set(classes) ^ set(other_classes))
            came = f"other classes than {name}" + (f" ({different[0]})" if different else ", or in another order")
            raise UserError(other, came, "the same classes in the same order in all runs", "leave one of them out")
        if other_window[0] != window[0] or None not in (window[1], other_window[1]) and other_window[1] != window[1]:
            came = f"windows of {other_window[0]} x {other_window[1]}, and {name} has {window[0]} x {window[1]}"
            raise UserError(other, came, "the same windows in all runs", "leave one of them out")
