"""From recordings to grouped files: windows of one phoneme, standardised, clipped, and averaged K at a time."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int, UInt32

from demega_jax.data.acquisition import write_acquisition
from demega_jax.data.checksums import checksums, write_checksums
from demega_jax.data.hdf5 import Disk, atomic_h5, write_names
from demega_jax.data.in_groups import in_groups, warn_of_few
from demega_jax.data.recordings.events import POSITIONS
from demega_jax.data.recordings.runs import Recording
from demega_jax.data.recordings.statistics import Statistics
from demega_jax.data.recordings.windows import Windows
from demega_jax.errors import UserError, counted
from demega_jax.signal.denoise import denoise

CHUNK_ROWS = 32
THREADS = min(4, os.cpu_count() or 1)  # each thread adds up the windows of some of the sensors
ACCUMULATOR = 4  # bytes of a float32: a sum of at most 100 terms of at most 10 differs from float64 by rounding only


@dataclasses.dataclass(frozen=True)
class GroupSettings:
    """How windows are put into groups.

    seed: of the shuffle in train; None keeps the order of the recordings.  drop_remaining: leave out the last windows
    of a class, which are too few for a whole group.  by_position: a group holds one position in the word only.
    """

    seed: int | None = 777
    drop_remaining: bool = False
    by_position: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Groups of windows in the order of a file's rows.

    window [M]: window numbers, group after group; group g has window[start[g] : start[g + 1]].  label [G]: of each
    group.
    """

    windows: Windows
    window: Int[np.ndarray, " M"]
    start: Int[np.ndarray, " G1"]
    label: Int[np.ndarray, " G"]

    def __len__(self) -> int:
        return len(self.label)

    def sizes(self) -> Int[np.ndarray, " G"]:
        """Windows in each group."""
        return np.diff(self.start)

    @property
    def shape(self) -> tuple[int, int]:
        """(sensors, time points) of a group's mean."""
        return self.windows.recordings[0].sensors, self.windows.time_points

    @property
    def row_bytes(self) -> int:
        """Bytes of a group's mean in float32."""
        return self.shape[0] * self.shape[1] * ACCUMULATOR

    def some(self, chosen: Int[np.ndarray, " g"]) -> "Groups":
        """Some of the groups, in this order."""
        sizes = self.sizes()[chosen]
        start = np.append(0, np.cumsum(sizes))
        places = np.arange(start[-1]) + np.repeat(self.start[chosen] - start[:-1], sizes)
        return Groups(self.windows, self.window[places], start, self.label[chosen])

    def of_window(self) -> Int[np.ndarray, " W"]:
        """The group of each window; -1 for a window that is in no group."""
        found = np.full(len(self.windows), -1, np.int64)
        found[self.window] = np.repeat(np.arange(len(self)), self.sizes())
        return found


def make_groups(
    windows: Windows, level: int, settings: GroupSettings, *, shuffle: bool, name: str = "windows"
) -> Groups:
    """Groups of K windows of one label, in the order of labels; the last group of a label is smaller, or dropped.

    shuffle: put the windows into an order that the seed draws; otherwise they keep that of the recordings.
    name: of the windows, in the warnings about labels that have no window, or fewer than K.
    """
    key = windows.label.astype(np.int64)
    if settings.by_position:
        key = key * len(POSITIONS) + windows.position
    chosen, start = in_groups(key, level, settings.seed if shuffle else None, settings.drop_remaining)
    warn_of_few(name, windows.classes, windows.class_counts(), level)
    return Groups(windows, chosen, start, windows.label[chosen[start[:-1]]].astype(np.int64))


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A grouped file to write: one split at one level.

    attributes: of the file, beside those that every file has.  denoised: whether its means are denoised by wavelets.
    """

    groups: Groups
    path: Path
    level: int
    attributes: dict[str, object]
    denoised: bool = False


Adds = list[tuple[int, np.ndarray, np.ndarray]]  # (part, first samples, groups within the part)


class Part(NamedTuple):
    """Rows `first` to `stop` of a target, which are made in one pass over the recordings."""

    target: Target
    first: int
    stop: int


def plan_passes(targets: Sequence[Target], memory: int) -> list[list[Part]]:
    """The parts of the targets that each pass over the recordings makes: at most `memory` bytes of groups a pass.

    Parts are whole chunks of rows, in order, so that a file is written from its beginning to its end.
    UserError: the memory is too small for one chunk.
    """
    passes: list[list[Part]] = [[]]
    room = memory
    for target in targets:
        first, row_bytes = 0, target.groups.row_bytes
        while first < len(target.groups):
            fit = min(room // row_bytes, len(target.groups) - first)
            if first + fit < len(target.groups):
                fit -= fit % CHUNK_ROWS
            if fit > 0:
                passes[-1].append(Part(target, first, first + fit))
                first += fit
                room -= fit * row_bytes
            elif room == memory:
                need = CHUNK_ROWS * row_bytes
                wanted = f"at least {need} bytes, which hold {CHUNK_ROWS} groups"
                raise UserError("--memory", f"{memory} bytes", wanted, f"use --memory {-(-need // 2**20)}M or more")
            else:
                passes.append([])
                room = memory
    return passes


class _Open(NamedTuple):
    """A file that is being written. checksums [G]: of its rows, as far as they are written."""

    own: ExitStack
    file: h5py.File
    disk: Disk
    checksums: UInt32[np.ndarray, " G"]


def write_groups(
    targets: Sequence[Target], statistics: Statistics, memory: int, progress: Callable[[str], None] | None = None
) -> None:
    """Write every target in as few passes over the recordings as `memory` allows, one recording in memory at a time.

    Files are written atomically. progress: called with a line of text for each recording and each finished file.
    UserError: a full disk, a recording that is not sound.
    """
    say = progress or (lambda line: None)
    passes = plan_passes(targets, memory)
    with ExitStack() as stack:
        files: dict[Path, _Open] = {}
        for number, parts in enumerate(passes):
            groups = [part.target.groups.some(np.arange(part.first, part.stop)) for part in parts]
            sums = _sums(groups, statistics, say, f"pass {number + 1} of {len(passes)}")
            for part, some, total in zip(parts, groups, sums, strict=True):
                target = part.target
                if target.path not in files:
                    own = stack.enter_context(ExitStack())
                    sums_of_rows = np.empty(len(target.groups), np.uint32)
                    files[target.path] = _Open(own, *own.enter_context(atomic_h5(target.path)), sums_of_rows)
                    _begin(files[target.path].file, target)
                own, file, disk, sums_of_rows = files[target.path]
                _write_means(file["data"], sums_of_rows, part, total, some.sizes())
                disk.check()
                if part.stop == len(target.groups):
                    write_checksums(file, sums_of_rows, target.groups.sizes(), target.groups.window)
                    own.close()  # the file is whole and gets its final name now
                    say(f"wrote {target.path}: {counted(len(target.groups), 'group')}")
            del sums, total  # before the next pass makes its own


def average_groups(parts: Sequence[Groups], statistics: Statistics) -> Float[np.ndarray, "G C T"]:
    """The means of all groups, in memory. One recording at a time is read. UserError: a recording is not sound."""
    means = _sums(parts, statistics, lambda line: None, "")
    for groups, mean in zip(parts, means, strict=True):
        mean /= groups.sizes().astype(np.float32)[:, None, None]
    return means[0] if len(means) == 1 else np.concatenate(means)


def _write_means(
    data: h5py.Dataset,
    sums: UInt32[np.ndarray, " N"],
    part: Part,
    total: Float[np.ndarray, "G C T"],
    sizes: Int[np.ndarray, " G"],
) -> None:
    """Divide the sums of windows by their number, in place, and write them to the file, denoised if that is asked for.

    sums: the checksums of all rows of the file, in which those of these rows are set.
    One chunk at a time, so that it is still in the processor's cache when it is written.
    """
    for first in range(0, len(total), CHUNK_ROWS):
        mean = total[first : first + CHUNK_ROWS]
        mean /= sizes[first : first + CHUNK_ROWS, None, None].astype(np.float32)
        if part.target.denoised:
            mean = denoise(mean)
        sums[part.first + first : part.first + first + len(mean)] = checksums(mean)
        if mean.shape == data.chunks:
            data.id.write_direct_chunk((part.first + first, 0, 0), mean)  # without the copies that HDF5 makes
        else:
            data[part.first + first : part.first + first + len(mean)] = mean


def _sums(
    parts: Sequence[Groups], statistics: Statistics, say: Callable[[str], None], which: str
) -> list[Float[np.ndarray, "G C T"]]:
    """The sums of the windows of each group. Recordings without a window of these groups are not read."""
    sums = [np.zeros((len(groups), *groups.shape), np.float32) for groups in parts]
    wanted = _by_recording(parts)
    largest = max((recording.sensors * recording.samples for recording in wanted), default=0)
    memory = np.empty(largest, np.float32)  # every recording is read into the same memory, as new memory is slow

    def add(recording: Recording, adds: Adds, sensors: slice) -> None:
        whole = memory[: recording.sensors * recording.samples].reshape(recording.sensors, recording.samples)
        x = statistics.standardise(recording.read(sensors, whole[sensors]), sensors)
        for index, starts, groups in adds:
            total, length = sums[index][:, sensors], parts[index].shape[1]
            for start, group in zip(starts.tolist(), groups.tolist(), strict=True):
                total[group] += x[:, start : start + length]

    with ThreadPoolExecutor(THREADS) as pool:
        for number, (recording, adds) in enumerate(wanted.items()):
            say(f"{which}: {recording.name} ({number + 1} of {len(wanted)})")
            each = -(-recording.sensors // THREADS)
            shares = [slice(first, min(first + each, recording.sensors)) for first in range(0, recording.sensors, each)]
            try:
                list(pool.map(functools.partial(add, recording, adds), shares))
            except UserError:
                recording.read()  # its error names all sensors that are not sound; that of a share names some of them
                raise
    return sums


def _by_recording(parts: Sequence[Groups]) -> dict[Recording, Adds]:
    """What each recording adds to the groups of the parts; only recordings that have windows of them."""
    found: dict[Recording, Adds] = {}
    for index, groups in enumerate(parts):
        windows, group = groups.windows, groups.of_window()
        for run, recording in enumerate(windows.recordings):
            here = np.flatnonzero((group >= 0) & (windows.run == run))
            if len(here):  # in order of time: samples that two windows share stay in the processor's cache
                found.setdefault(recording, []).append((index, windows.start[here], group[here]))
    return found


def _begin(file: h5py.File, target: Target) -> None:
    """Make the datasets and attributes that the hub's files have, and the attributes `classes` and `recordings`."""
    groups, windows, count = target.groups, target.groups.windows, len(target.groups)
    sensors, time_points = groups.shape
    chunks = (min(CHUNK_ROWS, count), sensors, time_points)
    file.create_dataset("data", (count, sensors, time_points), np.float32, chunks=chunks)
    file.create_dataset("labels", data=groups.label, chunks=(count,))
    indices = np.empty(count, object)
    for group, members in enumerate(np.split(groups.window.astype(np.int32), groups.start[1:-1])):
        indices[group] = members
    file.create_dataset("group_indices", data=indices, dtype=h5py.vlen_dtype(np.int32))
    file.attrs.update(
        n_groups=count,
        n_channels=sensors,
        n_timepoints=time_points,
        grouped_samples=target.level,
        average_grouped_samples=True,
        created_time=time.time(),
        **target.attributes,
    )
    if windows.simulated:
        file.attrs["simulated"] = True
    write_acquisition(file, windows.acquisition)
    names = {"classes": windows.classes, "recordings": [str(r.name) for r in windows.recordings]}
    for name, values in names.items():
        write_names(file, name, values)
