"""Pseudo-labels: windows without labels, with the classes that a model predicts for them, as more rows to train on.

Lee, 2013, ICML workshop "Challenges in representation learning": each window has the class of its largest probability;
windows whose largest probability is below a threshold are left out. Soft pseudo-labels are all the probabilities of a
window, which the class loss takes as its target (Hinton et al., 2015, arXiv:1503.02531, at temperature 1).
"""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.config import DataConfig
from demega_jax.data.acquisition import check_same_acquisition
from demega_jax.data.arrays import SUFFIXES, open_array
from demega_jax.data.changed import SampledSplit
from demega_jax.data.combined import CombinedSplit, combine
from demega_jax.data.grouped import open_grouped
from demega_jax.data.split import Split, facts
from demega_jax.data.unreadable import why_unreadable
from demega_jax.errors import UserError, counted, warn
from demega_jax.names import straight
from demega_jax.phonemes import PHONEMES
from demega_jax.reading import open_text

ROW = ("segment_idx", "row")  # the first column of a submission, and of `demega-jax predict`
SUM_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PseudoLabelled(SampledSplit):
    """Windows of a split with pseudo-labels. source: all windows.  chosen [N]: the rows of them that are used."""

    def describe(self) -> str:
        """How many windows are used, and how many there are of each class."""
        counts = self.class_counts()
        each = ", ".join(f"{name} {count}" for name, count in zip(self.classes, counts, strict=True) if count)
        return f"{self.rows} of {self.source.rows} pseudo-labelled windows of {self.path}: {each}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class WithPseudoLabels(CombinedSplit):
    """The rows of train, and after them those with pseudo-labels. target [n, V]: of the latter, if they are soft."""

    target: Float[np.ndarray, "n V"] | None = None

    def describe(self) -> str:
        """One line about all rows, and about those with pseudo-labels."""
        soft = ", soft" if self.has_targets else ""
        return f"{super().describe()}, with {self.parts[-1].describe()}{soft}"

    def read_row_arrays(self) -> dict[str, Float[np.ndarray, "N V"]]:
        """The targets of rows with soft pseudo-labels, after zeros for the labelled rows."""
        assert self.target is not None
        labelled = np.zeros((self.rows - len(self.target), len(self.classes)))
        return {"target": np.concatenate([labelled, self.target]).astype(np.float32)}


def read_predictions(path: Path, classes: Sequence[str]) -> Float[np.ndarray, "N V"]:
    """Probabilities [N, V] of a submission, or of a CSV file of `demega-jax predict`, in the order of `classes`.

    UserError: columns or rows are missing, repeated or out of order; a value is not a probability.
    """
    try:
        with open_text(path, "utf-8-sig") as file:
            header, *lines = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        came = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
        unread = UserError(path, came, "a CSV file of predictions", "correct the path")
        raise why_unreadable(path, error) or unread from None
    places = _columns(path, header, classes)
    p = np.empty((len(lines), len(classes)))
    for number, line in enumerate(lines):
        if not line or line[0] != str(number):
            came = f"row {line[0] if line else ''!r} in line {number + 2}"
            raise UserError(path, came, f"row {number}, as rows are in order from 0", "make the file again")
        try:
            p[number] = [float(line[place]) for place in places]
        except (ValueError, IndexError):
            came = f"line {number + 2} lacks a number"
            raise UserError(path, came, f"{len(classes)} probabilities", "make the file again") from None
    wrong = np.flatnonzero(~(np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (abs(p.sum(1) - 1) < SUM_TOLERANCE)))
    if len(wrong):
        came = f"values in line {wrong[0] + 2} that are no probabilities"
        raise UserError(path, came, "values of at least 0 with the sum 1", "make the file again")
    return p


def _columns(path: Path, header: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The column of each class. A submission numbers the phonemes, `predict` names them."""
    names = [f"p_{name}" for name in classes]
    if header and header[0] == ROW[0] and set(classes) <= set(PHONEMES):
        names = [f"phoneme_{PHONEMES.index(name) + 1}" for name in classes]
    names, header = [straight(name) for name in names], [straight(name) for name in header]
    lacking = [name for name in names if header.count(name) != 1]
    if not header or header[0] not in ROW or lacking:
        known = header and header[0] in ROW
        came = f"no column {lacking[0]}" if known else f"the first column {header[0] if header else ''!r}"
        wanted = f"{ROW[0]}, phoneme_1 .. or {ROW[1]}, predicted, p_{classes[0]} .."
        raise UserError(path, came, wanted, "make the file with `demega-jax predict` or `demega-jax submit`")
    return [header.index(name) for name in names]


def with_pseudo_labels(train: Split, config: DataConfig) -> WithPseudoLabels:
    """The rows of train with those of `data.pseudo` added. UserError: rows and predictions do not fit together."""
    pseudo = config.pseudo
    assert pseudo.windows is not None and pseudo.predictions is not None  # checked by the configuration
    windows, predictions = Path(pseudo.windows), Path(pseudo.predictions)
    source = _open(windows, train)
    p = read_predictions(predictions, train.classes)
    if len(p) != source.rows:
        came = f"{counted(len(p), 'row')} of predictions for {counted(source.rows, 'window')} of {windows}"
        raise UserError(predictions, came, "one row for each window", "give the predictions of these windows")
    chosen = np.flatnonzero(p.max(axis=1) >= pseudo.threshold)
    if not len(chosen):
        came = f"no window has a probability of {pseudo.threshold} or more (the largest is {p.max():.3f})"
        raise UserError("data.pseudo.threshold", came, "a threshold that some reach", "lower data.pseudo.threshold")
    labels = p[chosen].argmax(axis=1).astype(np.int32)
    known = facts(source) | {"name": train.name, "level": train.level, "labels": labels}
    if windows.suffix in SUFFIXES:  # files of arrays have no mark
        known["simulated"] = train.simulated
    rows = PseudoLabelled(**known, source=source, chosen=chosen)
    absent = [name for name, count in zip(rows.classes, rows.class_counts(), strict=True) if not count]
    if absent:
        warn(f"{predictions}: no pseudo-label for {len(absent)} of {len(rows.classes)} classes ({' '.join(absent)})")
    target = p[chosen] / p[chosen].sum(axis=1, keepdims=True) if pseudo.soft else None
    together = vars(combine([train, rows], train.path)) | {"has_targets": pseudo.soft}
    return WithPseudoLabels(**together, target=target)


def _open(path: Path, train: Split) -> Split:
    """The windows, with the shape of those of train. UserError: train is stored in another way, or the windows follow
    other events, begin elsewhere or are of other sensors."""
    if train.normalization is not None or train.has_statistics or train.dtype != np.float32:
        came = f"{train.path} is stored as {train.dtype}, normalised by {train.normalization or 'statistics beside it'}"
        raise UserError("data.pseudo", came, "grouped files in float32", "train on the grouped files, not on shards")
    if not path.is_file():
        raise UserError("data.pseudo.windows", f"{path}: no such file", "windows without labels", "correct the path")
    if path.suffix in SUFFIXES:
        windows = open_array(path, train.classes, train.window)
        if not windows.rows:
            raise UserError("data.pseudo.windows", f"{path} holds no window", "at least one", "leave data.pseudo out")
        return windows
    found = open_grouped(path, classes=train.classes, expect_shape=train.window)
    check_same_acquisition(path, found.acquisition, train.acquisition, train.path)
    return found
