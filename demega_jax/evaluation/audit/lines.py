"""A line of an audit: a score on a control, what labels without meaning give, and what follows from both."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from demega_jax.evaluation.statistics import SEED, Interval, bootstrap_macro_f1, macro_f1_of
from demega_jax.metrics import confusion_matrix

PERMUTATIONS = 500
# Standard errors up to which a score is at chance, and from which on it is above: an audit has a dozen lines, and one
# line in 40 is more than 2 standard errors above chance without a cause, one in 700 more than 3.
AT_CHANCE, ABOVE = 2.0, 3.0

Kind = Literal["model", "probe", "prior"]
RESPONSE = "a leak, or strong responses: see whether it stays at a low level"
# What a score above chance means, by kind and control.
MEANS = {
    ("model", "windows"): "the model tells classes apart",
    ("model", "labels"): "the scores are computed wrongly, since these labels have no meaning",
    ("model", "phases"): "part of the model's score needs no more than amplitude spectra",
    ("model", "moments"): "part of the model's score needs no more than the mean and deviation of each sensor",
    ("model", "level"): "part of the model's score comes from how many windows were averaged",
    ("probe", "labels"): "the probe is computed wrongly, since these labels have no meaning",
    ("probe", "phases"): f"they tell classes apart; {RESPONSE}",
    ("probe", "moments"): f"they tell classes apart; {RESPONSE}",
    ("probe", "level"): "it tells classes apart, and so does the number of averaged windows",
    ("prior", "frequent"): "one answer for every row scores more than chance",
    ("prior", "drawn"): "answers drawn without a window score more than chance",
    ("prior", "accuracy"): "counts how frequent classes are, as macro-F1 does not",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """kind: what was scored.  control: on which input; `windows` is the input itself.

    measure: macro-F1 or accuracy.  score: with its bootstrap `interval` over rows.  chance: 1 / number of classes.
    permuted: the mean score with permuted labels, and `error` their standard deviation, which is the standard error of
    a score at chance.  For an accuracy that is not compared with permuted labels, they are chance and its error.
    """

    kind: Kind
    control: str
    measure: str
    score: float
    interval: Interval
    chance: float
    permuted: float
    error: float

    @property
    def errors(self) -> float:
        """How many standard errors the score lies above that of permuted labels; 0 where both are always equal."""
        difference = self.score - self.permuted
        if abs(difference) < 1e-12:
            return 0.0
        return difference / self.error if self.error > 0 else float(np.copysign(np.inf, difference))

    @property
    def word(self) -> str:
        """The verdict in short: at chance, unclear, or above chance."""
        return "at chance" if self.errors <= AT_CHANCE else "unclear" if self.errors <= ABOVE else "above chance"

    @property
    def meaning(self) -> str:
        """What follows from the verdict, in words; nothing where it is chance."""
        if self.word == "at chance":
            return ""
        if self.word == "unclear":
            return f"{self.errors:.1f} standard errors above chance; try another --seed or --split, or more --rows"
        return MEANS[self.kind, self.control]

    @property
    def verdict(self) -> str:
        """The verdict and what follows from it."""
        return f"{self.word}: {self.meaning}" if self.meaning else self.word


def judged(
    kind: Kind,
    control: str,
    labels: Int[np.ndarray, " N"],
    predicted: Int[np.ndarray, " N"],
    classes: int,
    seed: int = SEED,
) -> Line:
    """The line of predictions in macro-F1, compared with permutations of the labels (Fisher, 1935)."""
    confusion = confusion_matrix(labels, predicted, classes)
    permuted = permuted_macro_f1(labels, predicted, classes, seed)
    return Line(
        kind,
        control,
        "macro-F1",
        float(macro_f1_of(confusion)),
        bootstrap_macro_f1(confusion, seed),
        1 / len(np.unique(labels)),
        float(permuted.mean()),
        float(permuted.std()),
    )


def permuted_macro_f1(
    labels: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"], classes: int, seed: int = SEED
) -> Float[np.ndarray, " P"]:
    """The macro-F1 of the same predictions for permuted labels, many times."""
    rng = np.random.default_rng((seed, 1))
    counts = [confusion_matrix(rng.permutation(labels), predicted, classes) for _ in range(PERMUTATIONS)]
    return macro_f1_of(np.stack(counts))


def judged_accuracy(labels: Int[np.ndarray, " N"], answer: int, seed: int = SEED) -> Line:
    """The line of one answer for every row, in accuracy. It is compared with classes that are equally frequent."""
    rows, right = len(labels), int((labels == answer).sum())
    chance = 1 / len(np.unique(labels))
    drawn = np.random.default_rng((seed, 2)).binomial(rows, right / rows, 2000) / rows
    error = float(np.sqrt(chance * (1 - chance) / rows))
    return Line("prior", "accuracy", "accuracy", right / rows, Interval.of(drawn), chance, chance, error)
