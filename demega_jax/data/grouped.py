"""Grouped files in the hub's format: finding them, opening them, and refusing what is not sound.

data [N, C, T], labels [N], optionally group_indices and attributes. Shapes are trusted over attributes.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int

from demega_jax.errors import UserError, warn
from demega_jax.phonemes import PHONEMES

SPLITS = ("train", "validation", "test")
OPTIONAL = ("n_groups", "n_channels", "n_timepoints", "grouped_samples")
FLOATS = ("float16", "float32", "float64")


@dataclasses.dataclass(frozen=True, eq=False)
class GroupedSplit:
    """A grouped file that was found sound. labels [N] are positions in `classes`."""

    path: Path
    name: str
    level: int | None
    rows: int
    sensors: int
    time_points: int
    classes: tuple[str, ...]
    labels: Int[np.ndarray, " N"]
    reference_macro_f1: float | None

    def class_counts(self) -> Int[np.ndarray, " V"]:
        """Rows of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def nbytes(self) -> int:
        """Size of the rows in float32."""
        return self.rows * self.sensors * self.time_points * 4


def find_levels(data: Path) -> dict[int, Path]:
    """Folders of grouping levels: D/grouped_K, D/data/grouped_K, or D itself if it is one."""
    found: dict[int, Path] = {}
    candidates = [data, *sorted(data.glob("grouped_*")), *sorted((data / "data").glob("grouped_*"))]
    for folder in candidates:
        match = re.fullmatch(r"grouped_(\d+)", folder.resolve().name)
        if match and folder.is_dir():
            found.setdefault(int(match[1]), folder)
    return found


def find_split(data: Path, level: int | None, split: str) -> Path:
    """The file of a split. Level None: the only level there is. Raises `UserError` naming what is there."""
    data = Path(data)
    if not data.is_dir():
        raise UserError(data, "no such folder", "the folder that holds grouped_K", "give --data DIR")
    levels = find_levels(data)
    there = ", ".join(map(str, sorted(levels))) or "none"
    if not levels:
        raise UserError(data, "no grouped_K folder", "grouped_K or data/grouped_K in it", "give another --data DIR")
    if level is None and len(levels) > 1:
        raise UserError(data, f"levels {there}", "one level", "choose one with --level K")
    chosen = level if level is not None else next(iter(levels))
    if chosen not in levels:
        raise UserError(data, f"no level {chosen}", f"a level that is there: {there}", "choose it with --level K")
    path = levels[chosen] / f"{split}_grouped.h5"
    if not path.is_file():
        files = ", ".join(sorted(p.name for p in levels[chosen].glob("*.h5"))) or "no .h5 file"
        raise UserError(path, "no such file", f"the {split} split", f"the folder has {files}")
    return path


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; `UserError` for what is none, or is cut."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        cut = "truncated" in str(error)
        came = "the file is truncated" if cut else "not a readable HDF5 file"
        raise UserError(path, came, "a whole HDF5 file", "copy or download it again") from None
    with file:
        yield file


def open_grouped(
    path: Path, *, classes: Sequence[str] | None = None, expect_shape: tuple[int, int] | None = None
) -> GroupedSplit:
    """Open and check a grouped file.

    classes: names that the ids of the result stand for; by default the file's own (attribute `classes`), else the
    39 phonemes in their fixed order.  expect_shape: (sensors, time points) that the file must have.
    Raises: `UserError` naming the file, and the row where one is to blame.
    """
    path = Path(path)
    with open_file(path) as file:
        data, raw_labels = _datasets(path, file)
        rows, sensors, time_points = data.shape
        if expect_shape is not None and (sensors, time_points) != tuple(expect_shape):
            raise UserError(
                path, f"windows of {sensors} sensors x {time_points} time points",
                f"{expect_shape[0]} x {expect_shape[1]}, as the model and its training data",
                "use data of the same shape, or train another model",
            )  # fmt: skip
        _check_storage(path, data)
        names, labels = _labels(path, file, raw_labels, classes)
        name = path.name.removesuffix("_grouped.h5")
        level = _level(path, file)
        _check_attributes(path, file, data.shape)
        reference = file.attrs.get("reference_macro_f1")
    split = GroupedSplit(
        path, name, level, rows, sensors, time_points, names, labels, None if reference is None else float(reference)
    )
    absent = [names[i] for i in np.flatnonzero(split.class_counts() == 0)]
    if absent:
        warn(f"{path}: no row of {len(absent)} of {len(names)} classes ({' '.join(absent)})")
    return split


def _datasets(path: Path, file: h5py.File) -> tuple[h5py.Dataset, np.ndarray]:
    for name in ("data", "labels"):
        if not isinstance(file.get(name), h5py.Dataset):
            raise UserError(path, f"no dataset `{name}`", "`data` and `labels`", "this is no grouped file")
    data, labels = file["data"], file["labels"]
    if data.ndim != 3:
        raise UserError(path, f"`data` of rank {data.ndim}", "[groups, sensors, time points]", "regroup the recordings")
    if data.dtype.name not in FLOATS:
        raise UserError(path, f"`data` of type {data.dtype}", " or ".join(FLOATS), "convert it")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(path, f"`labels` {labels.dtype} of rank {labels.ndim}", "integers [groups]", "convert them")
    if len(labels) != len(data):
        raise UserError(
            path, f"{len(data)} rows of data and {len(labels)} labels", "as many of each", "download it again"
        )
    if 0 in data.shape:
        raise UserError(path, f"an empty split: `data` is {data.shape}", "at least one row", "regroup the recordings")
    return data, labels[:]


def _check_storage(path: Path, data: h5py.Dataset) -> None:
    """Every chunk was written and ends within the file: a file cut at its end can still be opened."""
    size = path.stat().st_size
    if data.chunks is None:
        offset = data.id.get_offset()
        whole = offset is None or offset + data.size * data.dtype.itemsize <= size
        if not whole:
            raise UserError(path, "the file ends within its rows", "a whole file", "copy or download it again")
        return
    expected = int(np.prod([-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True)]))
    stored = [data.id.get_chunk_info(i) for i in range(data.id.get_num_chunks())]
    cut = [c.chunk_offset[0] for c in stored if c.byte_offset + c.size > size]
    if cut or len(stored) < expected:
        row = min(cut) if cut else min(set(range(0, len(data), data.chunks[0])) - {c.chunk_offset[0] for c in stored})
        raise UserError(path, f"row {row} and others are missing: the file is truncated", "a whole file",
                        "copy or download it again")  # fmt: skip


def _labels(
    path: Path, file: h5py.File, labels: np.ndarray, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """(class names, ids into them). A file's own names are mapped to those asked for."""
    raw = file.attrs.get("classes")
    own = None if raw is None else tuple(n.decode() if isinstance(n, bytes) else str(n) for n in np.atleast_1d(raw))
    names = own or tuple(classes or PHONEMES)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        raise UserError(
            path, f"label {labels[wrong[0]]} in row {wrong[0]}", f"0 to {len(names) - 1} ({len(names)} classes)",
            "set model.classes to the names that the labels stand for",
        )  # fmt: skip
    if classes is None or own is None or tuple(classes) == own:
        return names, labels.astype(np.int32)
    place = {name: i for i, name in enumerate(classes)}
    used = sorted({own[i] for i in np.unique(labels)} - set(place))
    if used:
        raise UserError(
            path, f"class {used[0]}", f"one of the {len(place)} classes {' '.join(list(place)[:5])} ..",
            "use data of the same classes, or set model.classes",
        )  # fmt: skip
    return tuple(classes), np.array([place.get(name, -1) for name in own], np.int32)[labels]


def _level(path: Path, file: h5py.File) -> int | None:
    match = re.fullmatch(r"grouped_(\d+)", path.resolve().parent.name)
    if "grouped_samples" in file.attrs:
        return int(file.attrs["grouped_samples"])
    return int(match[1]) if match else None


def _check_attributes(path: Path, file: h5py.File, shape: tuple[int, ...]) -> None:
    """One line for optional attributes that are absent or contradict the shapes, which are trusted."""
    absent = [name for name in OPTIONAL if name not in file.attrs]
    absent += [] if "group_indices" in file else ["group_indices"]
    stated = dict(zip(OPTIONAL, shape, strict=False))
    wrong = [f"{name}={file.attrs[name]} (is {n})" for name, n in stated.items() if file.attrs.get(name, n) != n]
    parts = [f"without {', '.join(absent)}"] if absent else []
    parts += [f"with {', '.join(wrong)}"] if wrong else []
    if parts:
        warn(f"{path}: {' and '.join(parts)}; going on by the shapes of the data")
