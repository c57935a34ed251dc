"""What the integer labels of a file stand for: its own names, names beside it, names that are asked for, phonemes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Int

from demega_jax.errors import UserError, warn
from demega_jax.phonemes import PHONEMES

CLASSES_FILE = "classes.json"  # a list of names, in the folder of a file or up to two above it
SHOWN = 5  # names that a message lists


class Labels(NamedTuple):
    """classes: names.  ids [N]: positions in them.  assumed: nothing says that they are phonemes."""

    classes: tuple[str, ...]
    ids: Int[np.ndarray, " N"]
    assumed: bool


def map_labels(path: Path, file: h5py.File, labels: Int[np.ndarray, " N"], classes: Sequence[str] | None) -> Labels:
    """What the labels of a file stand for.

    A file's own names (its attribute `classes`, else `classes.json` beside it) are mapped to those asked for. Without
    names of its own, ids stand for the classes that are asked for, or are assumed to stand for the 39 phonemes.
    """
    own = _own_names(path, file) or _names_beside(path)
    names = own or tuple(classes or PHONEMES)
    if own is None and names != PHONEMES:
        warn(f"{path}: no attribute `classes`; its ids are taken as positions in {_listed(names)}")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        raise UserError(
            path, f"label {labels[wrong[0]]} in row {wrong[0]}", f"0 to {len(names) - 1} ({len(names)} classes)",
            f"set model.classes to the names that the labels stand for, or list them in {CLASSES_FILE} beside the file",
        )  # fmt: skip
    assumed = own is None and classes is None
    if classes is None or own is None or tuple(classes) == own:
        return Labels(names, labels.astype(np.int32), assumed)
    place = {name: i for i, name in enumerate(classes)}
    used = sorted({own[i] for i in np.unique(labels)} - set(place))
    if used:
        raise UserError(
            path, f"class {used[0]}", f"one of the {len(place)} classes {_listed(list(place))}",
            "use data of the same classes, or set model.classes",
        )  # fmt: skip
    return Labels(tuple(classes), np.array([place.get(name, -1) for name in own], np.int32)[labels], False)


def warn_of_absent_classes(path: Path, labels: Labels) -> None:
    """One line for the classes that a split has no row of, and where nothing says what its ids stand for."""
    absent = np.flatnonzero(np.bincount(labels.ids, minlength=len(labels.classes)) == 0)
    if not len(absent):
        return
    said = f"no row of {len(absent)} of {len(labels.classes)} classes ({' '.join(labels.classes[i] for i in absent)})"
    if labels.assumed:
        there = len(labels.classes) - len(absent)
        said += (
            f"; there is no attribute `classes` and no {CLASSES_FILE}, so its {there} different ids are taken for "
            f"phonemes, in the order {_listed(PHONEMES)}; if they stand for anything else, name the classes in "
            f"{CLASSES_FILE} or model.classes"
        )
    warn(f"{path}: {said}")


def _listed(names: Sequence[str]) -> str:
    return " ".join(names[:SHOWN]) + (" .." if len(names) > SHOWN else "")


def _names_beside(path: Path) -> tuple[str, ...] | None:
    """The names in the nearest `classes.json`; None where there is none. UserError: it holds no list of names."""
    found = next((folder / CLASSES_FILE for folder in path.parents[:3] if (folder / CLASSES_FILE).is_file()), None)
    if found is None:
        return None
    try:
        names = json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        names = None
    if not _are_names(names):
        raise UserError(
            found, "no list of different names", 'a JSON list such as ["left", "right"], in the order of the ids',
            "write it again, or remove it",
        )  # fmt: skip
    return tuple(names)


def _are_names(names: object) -> bool:
    """Whether these are different, non-empty names."""
    if not isinstance(names, list | tuple) or not names:
        return False
    return all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names)


def _own_names(path: Path, file: h5py.File) -> tuple[str, ...] | None:
    raw = file.attrs.get("classes")
    if raw is None:
        return None
    names = np.atleast_1d(raw).ravel().tolist()
    own = tuple(name.decode(errors="replace") if isinstance(name, bytes) else name for name in names)
    if not _are_names(own):
        raise UserError(path, "an attribute `classes` that does not list different names", "a name for each class",
                        "write the attribute again, or delete it: without it ids stand for model.classes")  # fmt: skip
    return own
