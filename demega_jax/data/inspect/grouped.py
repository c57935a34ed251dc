"""Inspection of grouped files: shapes, classes, order, amplitudes, and which windows they average."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.checksums import check_groups
from demega_jax.data.folder import LISTED
from demega_jax.data.grouped import open_grouped
from demega_jax.data.hdf5 import open_file
from demega_jax.data.inspect.amplitude import Amplitude, measure
from demega_jax.data.inspect.report import Report
from demega_jax.data.split import Split
from demega_jax.data.spread import check_spread
from demega_jax.errors import UserError, listed, warn

SAMPLE_BLOCKS, BLOCK_ROWS = 16, 32  # the amplitudes are measured on 16 blocks of 32 rows
DEFAULT_NORM = "median_iqr"  # the default of `model.input_norm`


@dataclasses.dataclass(frozen=True)
class WindowNumbers:
    """What `group_indices` holds. total: window numbers.  distinct: different numbers, between first and last.

    short, long: groups of fewer, or more, windows than the level.
    """

    total: int
    distinct: int
    first: int
    last: int
    short: int
    long: int


@dataclasses.dataclass(frozen=True)
class ShardFacts:
    """How a split is divided into shards. checksums: "verified" or "do not agree".

    source: the grouped file it was made from.  saturated: values that were cut to the largest of the stored type.
    """

    files: int
    rows_each: int
    block_rows: int
    checksums: str
    normalization: str
    permuted: bool
    saturated: int
    source: str
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupedFacts:
    """A sound grouped file, or a split of shards. counts: rows of each class, in the order of `classes`.

    own_classes: whether the file names its classes.  measured: sampling rate and sensors in words; events: which ones
    the windows follow; empty: not known.
    simulated: None where the data do not say so.  checksums: of a grouped file, "verified", "do not agree", "not
    compared" (as another problem was found) or "none"; those of shards are in `shards`.
    """

    split: str
    level: int | None
    rows: int
    sensors: int
    time_points: int
    dtype: str
    storage: str
    nbytes: int
    classes: tuple[str, ...]
    own_classes: bool
    counts: tuple[int, ...]
    order: str
    windows: WindowNumbers | None = None
    amplitude: Amplitude
    reference_macro_f1: float | None
    measured: str
    events: str
    simulated: bool | None = None
    checksums: str | None = None
    shards: ShardFacts | None = None


def inspect_grouped(path: Path) -> Report:
    """The report of a grouped file."""
    report = Report(path, "grouped file")
    with report.watch():
        split = open_grouped(path)
        with open_file(path) as file:
            data = file["data"]
            step = data.chunks[0] if data.chunks else BLOCK_ROWS
            report.facts = facts = GroupedFacts(
                **facts_of(split, [(path, start) for start in range(0, split.rows, step)], min(step, BLOCK_ROWS)),
                dtype=str(data.dtype),
                storage=_storage(data),
                nbytes=path.stat().st_size,
                own_classes="classes" in file.attrs,
                windows=_window_numbers(file, split.level),
                simulated=split.simulated,
                checksums="none" if split.checks is None else "not compared",
            )
        check_values(split, facts)
        _check_windows(path, facts)
        if split.checks is not None:
            report.facts = dataclasses.replace(facts, checksums="do not agree")
            _read_all(split)
            report.facts = dataclasses.replace(facts, checksums="verified")
    return report


def _read_all(split: Split) -> None:
    """Read every row, which compares its checksum. UserError: a row was altered."""
    reader = split.reader()
    for first in range(0, split.rows, BLOCK_ROWS):
        reader.read(np.arange(first, min(first + BLOCK_ROWS, split.rows)))


def facts_of(split: Split, blocks: Sequence[tuple[Path, int]], rows: int) -> dict[str, Any]:
    """The facts that are found in the same way for any split.

    blocks: (file, first row in it) of all its blocks, of which some are read.  rows: that are read of each.
    """
    same = ("level", "rows", "sensors", "time_points", "classes", "reference_macro_f1")
    return {name: getattr(split, name) for name in same} | {
        "split": split.name,
        "counts": tuple(split.class_counts().tolist()),
        "order": order_of(split.labels),
        "amplitude": measure(
            (_read(*blocks[place], rows) for place in spread(len(blocks), SAMPLE_BLOCKS)),
            types=split.acquisition.sensor_types,
        ),
        "measured": split.acquisition.describe(),
        "events": split.acquisition.describe_events(),
    }


def _read(path: Path, start: int, rows: int) -> Float[np.ndarray, "C n"]:
    """Rows of a file, as [C, rows x T] in float32."""
    with open_file(path) as file:
        x = file["data"][start : start + rows].astype(np.float32)
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)


def spread(blocks: int, most: int) -> list[int]:
    """At most `most` numbers below `blocks`, evenly spread, as labels are sorted in most files.

    They are ordered so that a reader which stops early has seen blocks from all parts.
    """
    places = np.unique(np.linspace(0, blocks - 1, min(most, blocks)).round().astype(int)).tolist()
    bits = (len(places) - 1).bit_length() or 1
    return [places[i] for i in sorted(range(len(places)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))]


def check_values(split: Split, facts: GroupedFacts) -> None:
    """Warn of values that are too small to be normalised. UserError: there are values that are not finite."""
    if sensors := facts.amplitude.not_finite:
        came = f"values that are not finite in sensor {listed(sensors, LISTED)}"
        raise UserError(split.path, came, "finite numbers", "copy, download or make the file again")
    check_spread(split, DEFAULT_NORM)


def order_of(labels: Int[np.ndarray, " N"]) -> str:
    """How rows are ordered: "sorted by label", "in blocks of a label", "shuffled" or "one class"."""
    counts = np.bincount(labels)
    if (counts > 0).sum() == 1:
        return "one class"
    if (np.diff(labels) >= 0).all():
        return "sorted by label"
    changes = np.count_nonzero(np.diff(labels)) / (len(labels) - 1)
    by_chance = 1 - np.square(counts / counts.sum()).sum()
    return "shuffled" if changes > by_chance / 2 else "in blocks of a label"


def _storage(data: h5py.Dataset) -> str:
    if data.chunks is None:
        return "contiguous"
    how = f"chunks of {data.chunks[0]} rows" if data.chunks[1:] == data.shape[1:] else f"chunks {data.chunks}"
    return f"{how}, {data.compression}" if data.compression else how


def read_window_numbers(file: h5py.File) -> list[Int[np.ndarray, " k"]]:
    """The window numbers of each group. UserError: `group_indices` of another kind."""
    indices = file["group_indices"]
    kind = h5py.check_vlen_dtype(indices.dtype) if isinstance(indices, h5py.Dataset) else None
    if kind is None or not np.issubdtype(kind, np.integer) or indices.shape != file["labels"].shape:
        came, wanted = "`group_indices` of another type or length", "a list of integers for each row"
        raise UserError(file.filename, came, wanted, "delete `group_indices`, or make the file again")
    groups = list(indices[:])
    if all(len(group) == 0 or group.min() >= 0 for group in groups):  # else `_check_windows` says more
        check_groups(Path(file.filename), file, groups)
    return groups


def _window_numbers(file: h5py.File, level: int | None) -> WindowNumbers | None:
    if "group_indices" not in file:
        return None
    groups = read_window_numbers(file)
    size, number = np.array([len(group) for group in groups]), np.concatenate(groups)
    distinct = np.unique(number)
    first, last = (int(distinct[0]), int(distinct[-1])) if len(distinct) else (0, -1)
    short, long = ((size < level).sum(), (size > level).sum()) if level is not None else (0, 0)
    return WindowNumbers(len(number), len(distinct), first, last, int(short), int(long))


def _check_windows(path: Path, facts: GroupedFacts) -> None:
    """Warn of groups that contradict the level. UserError: negative window numbers."""
    windows = facts.windows
    if windows is None:
        return
    if windows.first < 0:
        came = f"window number {windows.first} in `group_indices`"
        raise UserError(path, came, "numbers from 0 on", "make the file again with `demega-jax group`")
    ends = sum(count > 0 for count in facts.counts)
    if windows.short > ends or windows.long:
        warn(
            f"{windows.short} groups of fewer and {windows.long} of more windows than level {facts.level} says; "
            f"the last group of each of {ends} classes may have fewer"
        )
