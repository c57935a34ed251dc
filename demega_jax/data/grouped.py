"""Grouped files in the hub's format: finding them, opening them, and refusing what is not sound.

data [N, C, T], labels [N], optionally group_indices and attributes. Shapes are trusted over attributes.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from demega_jax.data.hdf5 import check_storage, open_file
from demega_jax.data.labels import map_labels, warn_of_absent_classes
from demega_jax.data.rows import Hdf5Rows, OffsetRows, row_offsets, why_slow
from demega_jax.data.split import RowReader, Split
from demega_jax.errors import UserError, warn

OPTIONAL = ("n_groups", "n_channels", "n_timepoints", "grouped_samples")
FLOATS = ("float16", "float32", "float64")
LISTED = 8  # names of what is there that a message lists


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GroupedFile(Split):
    """A grouped file that was found sound; `path` is that file."""

    @functools.cached_property
    def slow_reason(self) -> str:
        """Why single rows can be read through HDF5 only, which is slow; empty where that is not so."""
        with open_file(self.path) as file:
            return why_slow(file, file["data"])

    def reader(self) -> RowReader:
        """Rows by their offset in the file, or through HDF5 where they have none."""
        if self.slow_reason:
            return Hdf5Rows(self)
        with open_file(self.path) as file:
            return OffsetRows(self, row_offsets(file["data"]), file["data"].dtype)


def find_levels(data: Path) -> dict[int, Path]:
    """Folders of grouping levels: D/grouped_K, D/data/grouped_K, or D itself if it is one."""
    found: dict[int, Path] = {}
    candidates = [data, *sorted(data.glob("grouped_*")), *sorted((data / "data").glob("grouped_*"))]
    for folder in candidates:
        level = _folder_level(folder)
        if level is not None and folder.is_dir():
            found.setdefault(level, folder)
    return found


def _folder_level(folder: Path) -> int | None:
    """K of a folder named grouped_K. Links are not followed: a link has the name, its target may have any other."""
    match = re.fullmatch(r"grouped_(\d+)", os.path.basename(os.path.abspath(folder)))
    return int(match[1]) if match else None


def find_level(data: Path, level: int | None) -> Path:
    """The folder of a level. Level None: the only one there is. Raises `UserError` naming what is there."""
    data = Path(data)
    if not data.is_dir():
        came = "a file" if data.exists() else "no such folder"
        raise UserError(data, came, "the folder that holds grouped_K", "give --data DIR")
    levels = find_levels(data)
    there = ", ".join(map(str, sorted(levels))) or "none"
    if not levels:
        names = sorted(entry.name for entry in data.iterdir())
        holds = ", ".join(names[:LISTED]) + (", .." if len(names) > LISTED else "") if names else "nothing"
        raise UserError(
            data, f"no grouped_K folder (it holds {holds})", "grouped_K or data/grouped_K in it",
            "give another --data DIR",
        )  # fmt: skip
    if level is None and len(levels) > 1:
        raise UserError(data, f"levels {there}", "one level", "choose one with --level K")
    chosen = level if level is not None else next(iter(levels))
    if chosen not in levels:
        raise UserError(data, f"no level {chosen}", f"a level that is there: {there}", "choose it with --level K")
    return levels[chosen]


def find_split(data: Path, level: int | None, split: str) -> Path:
    """The file of a split, of a level as `find_level` finds it. Raises `UserError` naming what is there."""
    folder = find_level(data, level)
    path = folder / f"{split}_grouped.h5"
    if not path.is_file():
        files = ", ".join(sorted(p.name for p in folder.glob("*.h5"))) or "no .h5 file"
        raise UserError(path, "no such file", f"the {split} split", f"the folder has {files}")
    return path


def open_grouped(
    path: Path, *, classes: Sequence[str] | None = None, expect_shape: tuple[int, int | None] | None = None
) -> GroupedFile:
    """Open and check a grouped file.

    classes: names that the ids of the result stand for; by default the file's own (attribute `classes`), else the
    39 phonemes in their fixed order.  expect_shape: (sensors, time points) that the file must have; None for any time
    length.
    Raises: `UserError` naming the file, and the row where one is to blame.
    """
    path = Path(path)
    with open_file(path) as file:
        data, raw_labels = _datasets(path, file)
        _, sensors, time_points = data.shape
        check_window(path, sensors, time_points, expect_shape)
        labels = map_labels(path, file, raw_labels, classes)
        name = path.name.removesuffix("_grouped.h5")
        level = _level(path, file)
        _check_attributes(path, file, data.shape)
        reference = _number(file.attrs.get("reference_macro_f1"))
        simulated = bool(file.attrs.get("simulated", False))
    split = GroupedFile(
        path=path, name=name, level=level, sensors=sensors, time_points=time_points, classes=labels.classes,
        labels=labels.ids, reference_macro_f1=reference, simulated=simulated,
    )  # fmt: skip
    warn_of_absent_classes(path, labels)
    return split


def check_window(path: Path, sensors: int, time_points: int, expect_shape: tuple[int, int | None] | None) -> None:
    """UserError: windows of another shape than (sensors, time points; None for any length)."""
    wanted = (sensors, time_points) if expect_shape is None else (expect_shape[0], expect_shape[1] or time_points)
    if (sensors, time_points) != wanted:
        raise UserError(
            path, f"windows of {sensors} sensors x {time_points} time points",
            f"{wanted[0]} x {wanted[1]}, as the model and its training data",
            "use data of the same shape, or train another model",
        )  # fmt: skip


def _datasets(path: Path, file: h5py.File) -> tuple[h5py.Dataset, np.ndarray]:
    for name in ("data", "labels"):
        try:
            found = file[name] if name in file else None
        except KeyError as error:  # h5py's word for a header that cannot be read
            came = f"truncated or damaged: {error.args[0]}"
            raise UserError(path, came, "a whole HDF5 file", "copy or download it again") from None
        if not isinstance(found, h5py.Dataset):
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
    check_storage(path, data)
    check_storage(path, labels)
    return data, labels[:]


def _level(path: Path, file: h5py.File) -> int | None:
    """K by the file, else by its folder's name."""
    stated = _number(file.attrs.get("grouped_samples"))
    return int(stated) if stated is not None and stated == stated // 1 else _folder_level(path.parent)


def _number(value: object) -> float | None:
    """An attribute as a number; None for what is absent or no number."""
    array = np.asarray(value)
    return float(array.item()) if array.size == 1 and array.dtype.kind in "iufb" else None


def _check_attributes(path: Path, file: h5py.File, shape: tuple[int, ...]) -> None:
    """One line for optional attributes that are absent or contradict the shapes, which are trusted."""
    absent = [name for name in OPTIONAL if name not in file.attrs]
    absent += [] if "group_indices" in file else ["group_indices"]
    true = dict(zip(OPTIONAL, (*shape, _folder_level(path.parent)), strict=True))
    wrong = [
        f"{name}={file.attrs[name]} (the {'folder' if name == 'grouped_samples' else 'data'} says {value})"
        for name, value in true.items()
        if value is not None and name in file.attrs and _number(file.attrs[name]) != value
    ]
    parts = [f"without {', '.join(absent)}"] if absent else []
    parts += [f"with {', '.join(wrong)}"] if wrong else []
    if parts:
        warn(f"{path}: {' and '.join(parts)}; going on by the shapes of the data")
