"""Windows of the user as grouped files, which every command reads."""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from demega_jax.data.acquisition import Acquisition, acquisition, check_same_acquisition, write_acquisition
from demega_jax.data.checksums import checksums, write_checksums
from demega_jax.data.grouped import GroupedFile, open_grouped
from demega_jax.data.hdf5 import atomic_h5, write_names
from demega_jax.data.own.assign import assigned
from demega_jax.data.own.average import Averager, Rows, check_group, rows_as_given, rows_of_groups
from demega_jax.data.own.blocks import Block, Blocks, blocks_of
from demega_jax.data.own.names import class_ids
from demega_jax.data.shards.reader import is_sharded
from demega_jax.data.spread import check_spread
from demega_jax.errors import UserError, counted
from demega_jax.files import expanded, format_bytes, free_space
from demega_jax.names import MAX_LEVEL, SPLITS, same_names

CHUNK_ROWS = 32


def write_grouped(
    folder: str | Path,
    x: ArrayLike | h5py.Dataset | Iterable[ArrayLike],
    labels: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    split: str | Sequence[str] | None = None,
    shares: Sequence[float] | None = None,
    groups: ArrayLike | None = None,
    seed: int = 777,
    level: int = 1,
    group: int | None = None,
    drop_remaining: bool = False,
    sampling_rate: float | None = None,
    tmin: float | None = None,
    units: Sequence[str] | str | None = None,
    sensor_names: Sequence[str] | None = None,
    sensor_types: Sequence[str] | str | None = None,
    sensor_positions: ArrayLike | None = None,
    simulated: bool = False,
    event_rows: str | None = None,
    event_label: str | None = None,
    event_classes: str | None = None,
) -> list[Path]:
    """Write windows as FOLDER/grouped_K/{train,validation,test}_grouped.h5, and return the paths.

    x [N, sensors, time points]: an array, an HDF5 dataset, or an iterable of blocks [n, sensors, time points], of which
    one at a time is in memory. Values are written as they are, in float32; they should be standardised, or in
    femtotesla: a warning says where they are too small.  labels [N]: names, or whole numbers, which are positions in
    `classes`.  classes: names; by default those of other splits in the folder, or else the different labels, sorted.
    split: one name for all rows, or the name of each row [N].  shares: instead, of train, validation and test, such as
    (0.8, 0.1, 0.1), drawn by `seed`: in every class, or, with groups [N], such as the run or subject of each row, of
    whole groups.  level: K, the number of windows that each row of x is the mean of.
    group: K, to average K windows of one class in each row that is written, as the command `group` does: in train in an
    order that `seed` draws, elsewhere as they come; no window is in two rows. The last group of a class, or its only
    one, can be smaller, or is left out with `drop_remaining`. The means, N / K rows, are in memory.
    sampling_rate: in Hz.  tmin: of the first time point, in seconds after the event.  units, sensor_types: a text for
    each sensor, or one for all; types as in MNE, such as mag, grad and eeg.  sensor_names: a text for each sensor.
    sensor_positions [sensors, 3]: in metres.  simulated: whether no brain has made the windows, which the files, and
    the model card of `push`, then say.  event_rows, event_label: the events of a recording that the windows follow, and
    the column of their labels, as `group --events` and `--label` name them; recordings are then read in the same way.
    event_classes: where the classes come from a table, a text that is the same for the same table.
    Warns of classes with fewer than K windows in a split.
    UserError: shapes, labels or values that do not fit; no group of K windows in a split; windows or sensors that
    differ from those of a split in the folder; a file that exists; a full disk. Then nothing is written.
    """
    if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= MAX_LEVEL:
        wanted = f"a whole number from 1 to {MAX_LEVEL}"
        raise UserError("level", f"{level!r}", wanted, "use level=1 for single windows")
    check_group(group, level, seed, drop_remaining)
    target = Path(expanded(str(folder))) / f"grouped_{group or level}"
    blocks = blocks_of(x)
    there = _splits_there(target)
    ids, names = class_ids(labels, classes, there[0].classes if there else None)
    if blocks.rows is not None and blocks.rows != len(ids):
        raise _lengths(f"{counted(blocks.rows, 'window')} and {counted(len(ids), 'label')}")
    of_row = assigned(ids, split, shares, groups, seed)
    known = acquisition(
        "write_grouped",
        blocks.window[0],
        sampling_rate=sampling_rate,
        tmin=tmin,
        units=units,
        sensor_names=sensor_names,
        sensor_types=sensor_types,
        sensor_positions=sensor_positions,
        event_rows=event_rows,
        event_label=event_label,
        event_classes=event_classes,
    )
    paths = {name: target / f"{name}_grouped.h5" for name in SPLITS if (of_row == name).any()}
    _check_target(paths, there, blocks.window, names, known)
    _check_numbers(len(ids), level)
    written = {name: rows_as_given(ids[of_row == name], level) for name in paths}
    if group is not None:
        for name in paths:
            written[name] = rows_of_groups(ids[of_row == name], name, names, group, seed, drop_remaining)
    if simulated:
        written = {name: rows.with_attributes(simulated=True) for name, rows in written.items()}
    _check_classes(written["train"].label if "train" in written else ids[:0], names)
    _check_size(target, sum(len(rows.label) for rows in written.values()), blocks.window)
    _write(paths, blocks, written, of_row, names, group or level, known, averaged=group is not None)
    check_spread([open_grouped(path) for path in paths.values()][0], "median_iqr")
    return list(paths.values())


def _lengths(came: str) -> UserError:
    return UserError("labels", came, "one label for each window", "give x and labels of the same rows")


def _splits_there(target: Path) -> list[GroupedFile]:
    """The splits that are in a folder already. UserError: it holds shards."""
    if is_sharded(target):
        raise UserError(target, "it holds shards", "a folder for grouped files", "choose another folder")
    paths = [target / f"{name}_grouped.h5" for name in SPLITS]
    return [open_grouped(path) for path in paths if path.is_file()]


def _check_target(
    paths: dict[str, Path],
    there: Sequence[GroupedFile],
    window: tuple[int, int],
    classes: Sequence[str],
    known: Acquisition,
) -> None:
    """UserError: a file exists, or another split in the folder has other windows, classes or sensors."""
    for path in paths.values():
        if path.exists():
            raise UserError(path, "the file exists", "no file of this name", "choose another folder, or move the file")
    for other in there:
        if window != other.window:
            came = f"windows of {window[0]} sensors x {window[1]} time points"
            wanted = f"{other.sensors} x {other.time_points}, as in {other.path}"
            raise UserError("x", came, wanted, "give windows of one shape, or choose another folder")
        if not same_names(classes, other.classes):
            raise _other_classes(classes, other)
        check_same_acquisition("write_grouped", known, other.acquisition, other.path)


def _other_classes(classes: Sequence[str], other: GroupedFile) -> UserError:
    """The error for classes that are not those of another split; it names the first that differs."""
    came, wanted = f"{len(classes)} classes", f"{len(other.classes)}"
    for number, (mine, others) in enumerate(zip(classes, other.classes, strict=False)):
        if mine != others:
            came, wanted = f"class {number} is {mine!r}", repr(others)
            break
    return UserError("classes", came, f"{wanted}, as in {other.path}", "leave classes out, or give the same list")


def _check_classes(ids: Int[np.ndarray, " n"], names: Sequence[str]) -> None:
    """UserError: there is one class only, in all rows or in those to train on (ids)."""
    present = np.unique(ids)
    if len(names) < 2 or len(present) == 1:
        came = f"one class only ({names[0]})" if len(names) < 2 else f"train has one class only ({names[present[0]]})"
        raise UserError("labels", came, "two classes or more", "give windows of several classes")


def _check_numbers(rows: int, level: int) -> None:
    if rows * level > np.iinfo(np.int32).max:
        came, wanted = f"{rows} rows of {level} windows", "at most 2^31 - 1 windows, as their numbers are int32"
        raise UserError("x", came, wanted, "write fewer rows")


def _check_size(target: Path, rows: int, window: tuple[int, int]) -> None:
    need, free = rows * window[0] * window[1] * 4, free_space(target)
    if need > free:
        way_out = "free some space, or choose another folder"
        raise UserError(target, f"{format_bytes(free)} free", f"{format_bytes(need)} for {rows} rows", way_out)


def _write(
    paths: dict[str, Path],
    blocks: Blocks,
    written: dict[str, Rows],
    of_row: np.ndarray,
    classes: Sequence[str],
    level: int,
    known: Acquisition,
    *,
    averaged: bool,
) -> None:
    """Write the rows of every split in one pass over the blocks. Files get their names when all of them are whole.

    averaged: whether windows are averaged to the rows that are written; otherwise they are these rows.
    """
    with ExitStack() as stack:
        writers, averagers = {}, {}
        for name, path in paths.items():
            file, disk = stack.enter_context(atomic_h5(path))
            writers[name] = writer = _Writer(file, written[name], blocks.window)
            stack.callback(disk.check)
            if averaged:
                averagers[name] = Averager(written[name], int((of_row == name).sum()), blocks.window, writer.add)
        row, rows = 0, len(of_row)
        for block in blocks.parts:
            if row + len(block) > rows:
                raise _lengths(f"more than {rows} windows and {counted(rows, 'label')}")
            for name in paths:
                (averagers if averaged else writers)[name].add(block[of_row[row : row + len(block)] == name])
            row += len(block)
        if row < rows:
            raise _lengths(f"{counted(row, 'window')} and {counted(rows, 'label')}")
        for averager in averagers.values():
            averager.close()
        for writer in writers.values():
            writer.finish(classes, level, known)


class _Writer:
    """Writes a grouped file row after row."""

    def __init__(self, file: h5py.File, rows: Rows, window: tuple[int, int]):
        count = len(rows.label)
        self.file, self.rows, self.done = file, rows, 0
        chunks = (min(CHUNK_ROWS, count), *window)
        self.data = file.create_dataset("data", (count, *window), np.float32, chunks=chunks)
        file.create_dataset("labels", data=rows.label, chunks=(count,))
        self.sums = np.empty(count, np.uint32)
        self.waiting: list[Block] = []  # rows that do not fill a chunk yet

    def add(self, rows: Block) -> None:
        """Write rows, as far as they fill chunks."""
        self.waiting.append(rows)
        if sum(map(len, self.waiting)) >= CHUNK_ROWS:
            whole = np.concatenate(self.waiting)
            ready = len(whole) - len(whole) % CHUNK_ROWS
            self._put(whole[:ready])
            self.waiting = [whole[ready:]]

    def _put(self, rows: Block) -> None:
        place = slice(self.done, self.done + len(rows))
        self.data[place] = rows
        self.sums[place] = checksums(rows)
        self.done += len(rows)

    def finish(self, classes: Sequence[str], level: int, known: Acquisition) -> None:
        """Write what waits, the attributes and the checksums."""
        rest = [rows for rows in self.waiting if len(rows)]
        if rest:
            self._put(np.concatenate(rest))
        count, sensors, time_points = self.data.shape
        members = np.empty(count, object)
        for row, some in enumerate(np.split(self.rows.window.astype(np.int32), self.rows.start[1:-1])):
            members[row] = some
        self.file.create_dataset("group_indices", data=members, dtype=h5py.vlen_dtype(np.int32))
        self.file.attrs.update(
            n_groups=count,
            n_channels=sensors,
            n_timepoints=time_points,
            grouped_samples=level,
            average_grouped_samples=True,
            created_time=time.time(),
            **self.rows.attributes,
        )
        write_names(self.file, "classes", classes)
        write_acquisition(self.file, known)
        write_checksums(self.file, self.sums, self.rows.sizes, self.rows.window)
