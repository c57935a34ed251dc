"""The names of classes that the integer labels of a file stand for."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Int

from demega_jax.data.split import UNKNOWN
from demega_jax.errors import UserError, listed, warn
from demega_jax.names import all_different, straight
from demega_jax.phonemes import PHONEMES
from demega_jax.reading import read_json

CLASSES_FILE = "classes.json"  # a list of names, in the folder of a file or up to two above it


class Labels(NamedTuple):
    """Labels of rows. classes: names.  ids [N]: positions in them.  assumed: nothing says that they are phonemes."""

    classes: tuple[str, ...]
    ids: Int[np.ndarray, " N"]
    assumed: bool


def map_labels(path: Path, file: h5py.File, labels: Int[np.ndarray, " N"], classes: Sequence[str] | None) -> Labels:
    """What the labels of a file stand for. classes: names that are asked for.

    A file's own names (its attribute `classes`, or else `classes.json` beside it) are mapped to those asked for. If it
    has no names, ids stand for the classes that are asked for, or are assumed to stand for the 39 phonemes.
    """
    own = own_names(path, file) or _names_beside(path)
    names = own or tuple(classes or PHONEMES)
    if own is None and names != PHONEMES:
        warn(f"{path}: there is no attribute `classes`, so its ids are taken as positions in {listed(names)}")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        came, wanted = f"label {labels[wrong[0]]} in row {wrong[0]}", f"0 to {len(names) - 1} ({len(names)} classes)"
        way_out = f"set model.classes to the names of the labels, or list them in {CLASSES_FILE} beside the file"
        raise UserError(path, came, wanted, way_out)
    assumed = own is None and classes is None
    if classes is None or own is None or tuple(classes) == own:
        return Labels(names, labels.astype(np.int32), assumed)
    return Labels(tuple(classes), translate(path, labels, own, classes), False)


def translate(
    path: Path, labels: Int[np.ndarray, " N"], own: Sequence[str], classes: Sequence[str]
) -> Int[np.ndarray, " N"]:
    """Labels that stand for the names `own` as positions in `classes`. UserError: a class that is used is not there."""
    place = {straight(name): number for number, name in enumerate(classes)}
    unknown = sorted(own[i] for i in np.unique(labels[labels != UNKNOWN]) if straight(own[i]) not in place)
    if unknown:
        wanted = f"one of the {len(classes)} classes {listed(classes)}"
        raise UserError(path, f"class {unknown[0]}", wanted, "use data of the same classes, or set model.classes")
    table = [*(place.get(straight(name), UNKNOWN) for name in own), UNKNOWN]  # the last one is for rows without a label
    return np.array(table, np.int32)[labels]


def warn_of_absent_classes(path: Path, labels: Labels) -> None:
    """Warn of classes without a row, and say so if the file does not say what its ids stand for."""
    absent = [labels.classes[i] for i in np.flatnonzero(np.bincount(labels.ids, minlength=len(labels.classes)) == 0)]
    if not absent:
        return
    said = f"no row of {len(absent)} of {len(labels.classes)} classes ({' '.join(absent)})"
    if labels.assumed:
        there = len(labels.classes) - len(absent)
        said += (
            f"; there is no attribute `classes` and no {CLASSES_FILE}, so its {there} different ids are taken for "
            f"phonemes, in the order {listed(PHONEMES)}; if they stand for anything else, name the classes in "
            f"{CLASSES_FILE} or model.classes"
        )
    warn(f"{path}: {said}")


def _names_beside(path: Path) -> tuple[str, ...] | None:
    """The names in the nearest `classes.json`; None: there is no such file. UserError: it holds no list of names."""
    found = next((folder / CLASSES_FILE for folder in path.parents[:3] if (folder / CLASSES_FILE).is_file()), None)
    if found is None:
        return None
    try:
        names = read_json(found)
    except (OSError, ValueError):
        names = None
    if not are_names(names):
        wanted = 'a JSON list such as ["left", "right"], by id'
        raise UserError(found, "it holds no list of different names", wanted, "correct the file, or remove it")
    return tuple(names)


def are_names(names: object) -> bool:
    """Whether these are different, non-empty names, whatever the form of their apostrophes."""
    if not isinstance(names, list | tuple) or not names:
        return False
    return all(isinstance(name, str) and name for name in names) and all_different(names)


def own_names(path: Path, file: h5py.File) -> tuple[str, ...] | None:
    """The classes that a file names itself; None: it does not. UserError: they are no different names."""
    raw = file.attrs.get("classes")
    if raw is None:
        return None
    names = np.atleast_1d(raw).ravel().tolist()
    own = tuple(name.decode(errors="replace") if isinstance(name, bytes) else name for name in names)
    if not are_names(own):
        came, wanted = "an attribute `classes` that does not list different names", "a different name for each class"
        raise UserError(path, came, wanted, "correct the attribute, or delete it and set model.classes")
    return own
