"""Labels of windows as positions in a list of class names."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from demega_jax.data.labels import are_names
from demega_jax.errors import UserError, listed, shortened
from demega_jax.names import straight


def class_ids(
    labels: ArrayLike, classes: Sequence[str] | None, known: Sequence[str] | None = None
) -> tuple[Int[np.ndarray, " N"], tuple[str, ...]]:
    """Labels as positions in the names of the classes, and these names.

    labels [N]: names, or whole numbers, which are positions in `classes` where that is given, and names otherwise.
    known: the classes of files that the rows join, where `classes` is not given; None: the different labels, sorted.
    UserError: labels of another kind or shape, or outside the classes; names that are not different.
    """
    given = _labels(labels)
    if classes is not None and not are_names(tuple(classes)):
        raise UserError("classes", f"{listed(classes)}", "a list of different names", "name each class once")
    if classes is not None and given.dtype.kind in "iu":
        wrong = np.flatnonzero((given < 0) | (given >= len(classes)))
        if len(wrong):
            came = f"label {given[wrong[0]]} in row {wrong[0]}"
            wanted = f"0 to {len(classes) - 1}, as there are {len(classes)} classes"
            raise UserError("labels", came, wanted, "correct the labels, or name more classes")
        return given.astype(np.int64), tuple(classes)
    different, ids = np.unique(given, return_inverse=True)
    names = tuple(str(name) for name in different.tolist())
    all_names = tuple(classes or known or names)
    if not are_names(all_names):
        came, wanted = f"two of {listed(all_names, 8)} differ by their apostrophe only", "one spelling of each class"
        raise UserError("labels", came, wanted, "correct the labels")
    place = {straight(name): number for number, name in enumerate(all_names)}
    absent = [name for name in names if straight(name) not in place]
    if absent:
        row = int(np.flatnonzero(ids == names.index(absent[0]))[0])
        came = f"label {shortened(absent[0])!r} in row {row}"
        wanted = f"one of the {len(all_names)} classes {listed(all_names)}"
        raise UserError("labels", came, wanted, "correct the labels, or name all classes")
    return np.array([place[straight(name)] for name in names], np.int64)[ids], all_names


def _labels(labels: ArrayLike) -> np.ndarray:
    """The labels as an array [N] of integers or text. UserError: they are something else."""
    found = np.asarray(labels)
    if found.dtype.kind in "OS":
        found = np.array([each.decode() if isinstance(each, bytes) else each for each in found.ravel().tolist()])
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iuU":
        came = f"an array of type {found.dtype} and shape {list(found.shape)}"
        wanted = "a whole number or a name for each window, in one list"
        raise UserError("labels", came, wanted, "convert the labels, for example with labels.astype(int)")
    if found.dtype.kind == "U" and not all(found.tolist()):
        raise UserError("labels", f"an empty name in row {found.tolist().index('')}", "a name", "correct the labels")
    return found
