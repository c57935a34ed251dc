"""Fits stackers so that no row is scored by one that has seen it."""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from demega_jax.config import StackConfig
from demega_jax.evaluation.stack.folds import check_rows, inner_split, row_folds
from demega_jax.evaluation.stack.linear import train_linear
from demega_jax.evaluation.stack.mlp import train_mlp

Kind = Literal["mlp", "linear"]
KINDS: tuple[Kind, ...] = ("mlp", "linear")


class Stacker(Protocol):
    """A trained stacker."""

    def predict(self, x: Float[np.ndarray, "N I"]) -> Float[np.ndarray, "N V"]:
        """Probabilities of the classes from the logits of the base models, side by side."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it has learned, as arrays."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """What stackers learn from. x [N, n V]: logits of the n base models, side by side.  labels [N].  classes: V."""

    x: Float[np.ndarray, "N I"]
    labels: Int[np.ndarray, " N"]
    classes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """The stackers of one kind, whose probabilities are averaged. held_out [N, V]: probabilities of the rows that were
    learnt from, each by stackers that have not seen it; None: there are none.
    """

    stackers: tuple[Stacker, ...]
    held_out: Float[np.ndarray, "N V"] | None

    def predict(self, x: Float[np.ndarray, "N I"]) -> Float[np.ndarray, "N V"]:
        """Probabilities of other rows."""
        return np.mean([stacker.predict(x) for stacker in self.stackers], axis=0)


def _train(
    kind: Kind, found: Features, learn: Int[np.ndarray, " n"], choose: Int[np.ndarray, " m"], config: StackConfig
) -> Stacker:
    if kind == "mlp":
        return train_mlp(found.x, found.labels, learn, choose, found.classes, config)
    return train_linear(found.x, found.labels, learn, choose, found.classes)


def cross_fit(kind: Kind, found: Features, config: StackConfig, say: Callable[[str], None]) -> Fitted:
    """A stacker for each fold, which learns from the other folds and predicts the rows of its own.

    Within the other folds, one part is held out to choose the penalty, or the epoch and the seeds, by. UserError: too
    few rows for the folds.
    """
    check_rows(found.labels, config.folds, "stack.folds")
    fold_of = row_folds(found.labels, config.folds, config.seed)
    held_out = np.zeros((len(found.x), found.classes))
    stackers: list[Stacker] = []
    for fold in range(config.folds):
        learn, choose = inner_split(found.labels, np.flatnonzero(fold_of != fold), config.folds, config.seed)
        say(f"{kind} stacker, fold {fold + 1} of {config.folds}")
        stackers.append(_train(kind, found, learn, choose, config))
        rows = fold_of == fold
        held_out[rows] = stackers[-1].predict(found.x[rows])
    return Fitted(tuple(stackers), held_out)


def fit_in_sample(kind: Kind, found: Features, config: StackConfig) -> Fitted:
    """A stacker that learns from all rows and chooses by the same ones: its score on them is too good."""
    rows = np.arange(len(found.labels))
    return Fitted((_train(kind, found, rows, rows, config),), None)


def fit_out_of_fold(kind: Kind, learn: Features, choose: Features, config: StackConfig) -> Fitted:
    """A stacker that learns from out-of-fold logits of train, and chooses by logits of validation."""
    both = Features(np.concatenate([learn.x, choose.x]), np.concatenate([learn.labels, choose.labels]), learn.classes)
    first = np.arange(len(learn.labels))
    stacker = _train(kind, both, first, np.arange(len(learn.labels), len(both.labels)), config)
    return Fitted((stacker,), None)


def side_by_side(logits: Float[np.ndarray, "n N V"]) -> Float[np.ndarray, "N I"]:
    """Logits of the n base models next to each other, [N, n V]."""
    return np.concatenate(list(logits), axis=-1)
