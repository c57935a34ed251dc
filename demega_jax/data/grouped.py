"""Grouped files in the hub's format: finding, opening and checking them.

A file has data [N, C, T], labels [N], and optionally group_indices, attributes and the checksums `row_crc32` [N] of
checksums.py. If attributes contradict the shapes of the data, the shapes are used.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from demega_jax.data.acquisition import read_acquisition
from demega_jax.data.checksums import Checks, check_labels, row_checks
from demega_jax.data.folder import folder_level
from demega_jax.data.hdf5 import check_storage, find_dataset, flag, open_file
from demega_jax.data.labels import map_labels, warn_of_absent_classes
from demega_jax.data.rows import Hdf5Rows, OffsetRows, row_offsets, why_slow
from demega_jax.data.split import RowReader, Split, WindowShape
from demega_jax.errors import UserError, counted, warn

OPTIONAL = ("n_groups", "n_channels", "n_timepoints", "grouped_samples")
FLOATS = ("float16", "float32", "float64")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GroupedFile(Split):
    """A grouped file that was checked when it was opened; `path` is that file."""

    @functools.cached_property
    def slow_reason(self) -> str:
        """Why single rows can only be read through HDF5, which is slow; empty if they can be read directly."""
        with open_file(self.path) as file:
            return why_slow(file, file["data"])

    @functools.cached_property
    def checks(self) -> Checks | None:
        """The checksums of the rows, which all readers share; None: the file has none."""
        with open_file(self.path) as file:
            return row_checks(self.path, file)

    def reader(self) -> RowReader:
        """Rows by their offset in the file; through HDF5 if they have no offset. A row's first reader compares it."""
        if self.slow_reason:
            return Hdf5Rows(self, self.checks)
        with open_file(self.path) as file:
            return OffsetRows(self, row_offsets(file["data"]), file["data"].dtype, [(self.path, 0)], self.checks)


def open_grouped(
    path: Path, *, classes: Sequence[str] | None = None, expect_shape: WindowShape | None = None
) -> GroupedFile:
    """Open and check a grouped file.

    classes: names that the ids of the result stand for; by default those of the file (its attribute `classes`), or
    else the 39 phonemes in their fixed order.  expect_shape: (sensors, time points) that the file must have; time
    points None: any number.
    UserError: the file is not sound; the error names the file, and the row if it is about one.
    """
    with open_file(path) as file:
        data, raw_labels = _datasets(path, file)
        _, sensors, time_points = data.shape
        check_window(path, sensors, time_points, expect_shape)
        labels = map_labels(path, file, raw_labels, classes)
        check_labels(path, file, raw_labels)
        _check_attributes(path, file, data.shape)
        split = GroupedFile(
            path=path,
            name=path.name.removesuffix("_grouped.h5"),
            level=_level(path, file),
            sensors=sensors,
            time_points=time_points,
            classes=labels.classes,
            labels=labels.ids,
            reference_macro_f1=_number(file.attrs.get("reference_macro_f1")),
            simulated=flag(file.attrs, "simulated"),
            acquisition=read_acquisition(path, file, sensors),
        )
    warn_of_absent_classes(path, labels)
    return split


def check_window(path: Path, sensors: int, time_points: int, expect_shape: WindowShape | None) -> None:
    """UserError: windows have another shape than is expected."""
    wanted = (sensors, time_points) if expect_shape is None else (expect_shape[0], expect_shape[1] or time_points)
    if (sensors, time_points) != wanted:
        came = f"windows of {sensors} sensors x {time_points} time points"
        way_out = "use data of the same shape, or train another model"
        raise UserError(path, came, f"{wanted[0]} x {wanted[1]}, as in the model and its training data", way_out)


def _datasets(path: Path, file: h5py.File) -> tuple[h5py.Dataset, np.ndarray]:
    for name in ("data", "labels"):
        if find_dataset(path, file, name) is None:
            wanted = "the datasets `data` and `labels`"
            raise UserError(path, f"no dataset `{name}`", wanted, "give the path of a grouped file")
    data, labels = file["data"], file["labels"]
    if data.ndim != 3:
        wanted = "rank 3: [groups, sensors, time points]"
        raise UserError(path, f"`data` of rank {data.ndim}", wanted, "make the file again with `demega-jax group`")
    if data.dtype.name not in FLOATS:
        way_out = "convert `data` to one of these types"
        raise UserError(path, f"`data` of type {data.dtype}", " or ".join(FLOATS), way_out)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        came = f"`labels` of type {labels.dtype} and rank {labels.ndim}"
        raise UserError(path, came, "integers of rank 1: [groups]", "convert `labels` to such integers")
    if len(labels) != len(data):
        came = f"{counted(len(data), 'row')} of data and {counted(len(labels), 'label')}"
        raise UserError(path, came, "one label for each row", "download or make the file again")
    if 0 in data.shape:
        came = f"an empty split, as `data` has shape {data.shape}"
        raise UserError(path, came, "at least one row", "make the file again with `demega-jax group`")
    check_storage(path, data)
    check_storage(path, labels)
    return data, labels[:]


def _level(path: Path, file: h5py.File) -> int | None:
    """K as the file states it, or else as its folder is named."""
    stated = _number(file.attrs.get("grouped_samples"))
    return int(stated) if stated is not None and stated.is_integer() else folder_level(path.parent)


def _number(value: object) -> float | None:
    """An attribute as a number; None if it is absent or no number."""
    array = np.asarray(value)
    return float(array.item()) if array.size == 1 and array.dtype.kind in "iufb" else None


def _check_attributes(path: Path, file: h5py.File, shape: tuple[int, ...]) -> None:
    """Warn of optional attributes that are absent or contradict the shapes."""
    absent = [name for name in OPTIONAL if name not in file.attrs]
    absent += [] if "group_indices" in file else ["group_indices"]
    true = dict(zip(OPTIONAL, (*shape, folder_level(path.parent)), strict=True))
    wrong = [
        f"{name}={file.attrs[name]} (the {'folder' if name == 'grouped_samples' else 'data'} says {value})"
        for name, value in true.items()
        if value is not None and name in file.attrs and _number(file.attrs[name]) != value
    ]
    parts = [f"without {', '.join(absent)}"] if absent else []
    parts += [f"with {', '.join(wrong)}"] if wrong else []
    if parts:
        warn(f"{path}: {' and '.join(parts)}; the shapes of the data are used instead")
