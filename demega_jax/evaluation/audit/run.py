"""An audit: the model on inputs without a brain response, probes on what these inputs keep, and the prior alone."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from demega_jax.data.changed import changed, check_raw, sampled
from demega_jax.data.split import Split
from demega_jax.errors import UserError
from demega_jax.evaluation.audit.controls import (
    Keep,
    Typical,
    change_of,
    keep_moments,
    keep_noise_level,
    scramble_phases,
)
from demega_jax.evaluation.audit.lines import Line, judged, judged_accuracy
from demega_jax.evaluation.audit.probe import Probe, features_of

Predict = Callable[[Split], Int[np.ndarray, " N"]]
Tell = Callable[[str], object]


@dataclasses.dataclass(frozen=True)
class Audit:
    """The lines of an audit. rows: that were scored, of `all_rows`.  train_rows: that the probes learnt from."""

    lines: tuple[Line, ...]
    rows: int
    all_rows: int
    train_rows: int
    classes: tuple[str, ...]
    most_frequent: str

    @property
    def chance(self) -> float:
        """1 / number of classes among the rows."""
        return self.lines[0].chance

    def line(self, kind: str, control: str) -> Line:
        """The line of a control."""
        (found,) = [line for line in self.lines if (line.kind, line.control) == (kind, control)]
        return found

    def to_json(self) -> dict[str, Any]:
        """The audit in plain Python types."""
        lines = [
            dataclasses.asdict(line)
            | {"standard_errors": line.errors if np.isfinite(line.errors) else None, "verdict": line.verdict}
            for line in self.lines
        ]
        return {
            "rows": self.rows,
            "all_rows": self.all_rows,
            "train_rows": self.train_rows,
            "chance": self.chance,
            "most_frequent": self.most_frequent,
            "lines": lines,
        }


def audit(predict: Predict, train: Split, split: Split, *, rows: int, seed: int = 0, tell: Tell = print) -> Audit:
    """Audit a model on at most `rows` rows of a split; probes learn from as many rows of train.

    predict: the class that the model predicts for each row of a split.  tell: called with what is being done.
    Both splits are read a few rows at a time. UserError: rows that are stored normalised, or without a label.
    """
    for each in (train, split):
        check_raw(each)
        if not each.labelled:
            wanted, way_out = "a label for every row", "use data with labels"
            raise UserError(each.path, "rows without a label", wanted, way_out)
    learned, scored = sampled(train, rows, seed), sampled(split, rows, seed + 1)
    tell("what windows have in common")
    typical = Typical.of(learned)
    lines = [
        *_of_model(predict, scored, typical, seed, tell),
        *_of_probes(learned, scored, seed, tell),
        *_of_prior(learned.class_counts(), scored.labels, seed),
    ]
    frequent = split.classes[int(learned.class_counts().argmax())]
    return Audit(tuple(lines), scored.rows, split.rows, learned.rows, split.classes, frequent)


def _of_model(predict: Predict, split: Split, typical: Typical, seed: int, tell: Tell) -> Iterator[Line]:
    """The trained model: does it use what should not be there?"""
    count = len(split.classes)
    tell("the model on windows as they are")
    predicted = predict(split)
    yield judged("model", "windows", split.labels, predicted, count)
    permuted = np.random.default_rng((seed, 3)).permutation(split.labels)
    yield judged("model", "labels", permuted, predicted, count)
    controls: dict[str, Keep] = {
        "phases": scramble_phases,
        "moments": keep_moments(typical),
        "level": keep_noise_level(typical),
    }
    for number, (name, keep) in enumerate(controls.items()):
        tell(f"the model on the control {name}")
        without = changed(split, change_of(keep, (seed, number)))
        yield judged("model", name, split.labels, predict(without), count)


def _of_probes(train: Split, split: Split, seed: int, tell: Tell) -> Iterator[Line]:
    """Probes that learn from the features of a control alone: is the class in the data at all?"""
    tell("features of the train rows")
    known = features_of(train)
    tell("features of the scored rows")
    asked, count = features_of(split), len(split.classes)
    tell("probes")
    rng = np.random.default_rng((seed, 4))  # labels are permuted within each split
    blind = Probe.fit(known["moments"], rng.permutation(train.labels)).predict(asked["moments"])
    yield judged("probe", "labels", rng.permutation(split.labels), blind, count)
    for name, features in known.items():
        yield judged("probe", name, split.labels, Probe.fit(features, train.labels).predict(asked[name]), count)


def _of_prior(train_counts: Int[np.ndarray, " V"], labels: Int[np.ndarray, " N"], seed: int) -> Iterator[Line]:
    """Answers that need no window.

    With guesses drawn by probabilities q_c, where p_c is the share of class c, the expected F1 of a class is about
    2 p_c q_c / (p_c + q_c). Their mean is largest for q = p, and then is 1 / number of classes: no constant or random
    answer has a macro-F1 above chance. Accuracy is another matter: there the most frequent class is the best answer.
    """
    count, frequent = len(train_counts), int(train_counts.argmax())
    yield judged("prior", "frequent", labels, np.full(len(labels), frequent), count)
    drawn = np.random.default_rng((seed, 5)).choice(count, len(labels), p=train_counts / train_counts.sum())
    yield judged("prior", "drawn", labels, drawn, count)
    yield judged_accuracy(labels, frequent)
