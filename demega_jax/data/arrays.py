"""Windows from arrays: of Python, of .npy and .npz files, and of the holdout's .pt files."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.lib.npyio import NpzFile
from numpy.typing import ArrayLike

from demega_jax.data.combined import ArraySplit
from demega_jax.data.grouped import check_window
from demega_jax.data.labels import translate
from demega_jax.data.rows import check_finite
from demega_jax.data.split import UNKNOWN, WindowShape
from demega_jax.data.unreadable import why_unreadable
from demega_jax.errors import UserError, install, listed
from demega_jax.reading import open_plain

SUFFIXES = (".npy", ".npz", ".pt")
WINDOWS, LABELS, CLASSES = ("x", "data"), ("labels", "y"), "classes"  # names of arrays in an .npz file
CHECKED = 256  # rows that are checked at once


def array_split(x: ArrayLike, classes: Sequence[str], window: WindowShape, where: str = "input") -> ArraySplit:
    """Windows in memory, without labels, as a split.

    window: (sensors, time points; None: any number). There may be no window at all, also as an empty list. UserError:
    another shape, or values that are not finite.
    """
    sensors, time_points = window
    wanted = f"an array of shape [windows, {sensors}, {time_points or 'time points'}]"
    try:
        if np.ma.is_masked(x):
            raise ValueError("some of its values are masked")
        array = np.asarray(x)
        if array.shape == (0,):
            array = np.empty((0, sensors, time_points or 1), np.float32)
        if array.dtype.kind not in "fiu":
            raise ValueError(f"values of type {array.dtype}")
    except (ValueError, TypeError, RuntimeError, OSError) as error:  # of an h5py dataset or another library's array
        came = " ".join(str(error).split())
        raise UserError(where, f"no array of numbers ({came})", wanted, "give one array of float32") from None
    return _split(Path(where), array, classes, window, None)


def open_array(path: Path, classes: Sequence[str], window: WindowShape) -> ArraySplit:
    """The windows of a .npy, .npz or .pt file, with labels where an .npz file has them.

    classes: the names that labels stand for.  window: as for `array_split`. UserError: also for a file that cannot be
    read, or whose labels do not fit.
    """
    if path.suffix == ".npz":
        x, labels = _from_npz(path, classes)
        return _split(path, x, classes, window, labels)
    return _split(path, _from_npy(path) if path.suffix == ".npy" else _from_pt(path), classes, window, None)


def _split(
    path: Path, x: np.ndarray, classes: Sequence[str], window: WindowShape, labels: np.ndarray | None
) -> ArraySplit:
    sensors, time_points = window
    shape = f"[windows, {sensors}, {time_points or 'time points'}]"
    if x.ndim != 3:
        hint = "; one window needs an axis in front, such as x[None]" if x.shape == (sensors, time_points) else ""
        came = f"an array of shape {list(x.shape)}{hint}"
        raise UserError(path, came, f"shape {shape}", "give windows of this shape")
    check_window(path, x.shape[1], x.shape[2], window)
    if x.dtype.kind != "f":
        x = x.astype(np.float32)
    for first in range(0, len(x), CHECKED):
        with np.errstate(over="ignore"):  # gives an infinity, which the check finds
            part = np.asarray(x[first : first + CHECKED], np.float32)
        check_finite(path, np.arange(first, first + len(part)), part)
    ids = np.full(len(x), UNKNOWN, np.int32) if labels is None else labels
    return ArraySplit(
        path=path,
        name=path.stem,
        level=None,
        sensors=x.shape[1],
        time_points=x.shape[2],
        classes=tuple(classes),
        labels=ids,
        x=x,
    )


def _from_npy(path: Path) -> np.ndarray:
    try:
        open_plain(path).close()  # only to be sure that it is one
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error, "a .npy file of numbers") from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. UserError: it cannot be read."""
    with opened_npz(path) as file:
        return {name: file[name] for name in file.files}


@contextlib.contextmanager
def opened_npz(path: Path) -> Iterator[NpzFile]:
    """An .npz file, whose arrays are read one by one. UserError: it, or an array that is asked for, cannot be read.

    An array of Python objects counts as one that cannot be read: it is never unpickled.
    """
    try:
        with open_plain(path) as plain, np.load(plain, allow_pickle=False) as file:
            yield file
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        AttributeError,
        NotImplementedError,
    ) as error:
        raise _unreadable(path, error, "an .npz file of numbers") from None


def _from_npz(path: Path, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """The windows, and the labels as positions in `classes`; None where there are none."""
    found = read_npz(path)
    names = [name for name in WINDOWS if name in found]
    if not names:
        came = f"the arrays {listed(found) or 'none'}"
        raise UserError(path, came, f"an array named {' or '.join(WINDOWS)}", "name the array of the windows x")
    labels = next((found[name] for name in LABELS if name in found), None)
    if labels is None:
        return found[names[0]], None
    own = tuple(found[CLASSES].tolist()) if CLASSES in found else tuple(classes)
    if labels.shape != (len(found[names[0]]),) or labels.dtype.kind not in "iu":
        came = f"labels of type {labels.dtype} and shape {list(labels.shape)}"
        raise UserError(path, came, "one whole number for each window", "correct the labels, or leave them out")
    wrong = np.flatnonzero((labels < UNKNOWN) | (labels >= len(own)))
    if len(wrong):
        came = f"label {labels[wrong[0]]} of window {wrong[0]}"
        raise UserError(path, came, f"0 to {len(own) - 1}, or -1 for none", "correct the labels, or leave them out")
    return found[names[0]], translate(path, labels, own, classes)


def _from_pt(path: Path) -> Float[np.ndarray, "N C T"]:
    """The windows of a torch file with one tensor [N, C, T], or a sequence of [C, T]; no code in it is run."""
    try:
        import torch
    except ImportError:
        raise UserError(path, "PyTorch is not installed", "PyTorch, to read .pt files", install("torch")) from None
    import pickle

    wanted = "one tensor [windows, sensors, time points], or a list of tensors [sensors, time points]"
    try:
        open_plain(path).close()  # only to be sure that it is one
        found = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(found, list | tuple):
            found = torch.stack(list(found))
        return found.detach().to(torch.float32).numpy()
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise _unreadable(path, error, wanted) from None


def _unreadable(path: Path, error: Exception, wanted: str) -> UserError:
    if why := why_unreadable(path, error):
        return why
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(path, f"it cannot be read ({reason})", wanted, "copy or download it again, or give another file")
