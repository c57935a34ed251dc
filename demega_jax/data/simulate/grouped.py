"""Simulated grouped files in the hub's format. Each states the score of the best possible classifier."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int

from demega_jax.data.checksums import checksums, write_checksums
from demega_jax.data.hdf5 import atomic_h5, write_names
from demega_jax.data.simulate.blocks import BLOCK_ROWS, check_same, draw_blocks
from demega_jax.data.simulate.generative import MatchedFilter, generative_model
from demega_jax.errors import UserError, counted, warn
from demega_jax.files import format_bytes, free_space
from demega_jax.metrics import macro_f1
from demega_jax.names import SPLITS
from demega_jax.phonemes import PHONEMES, class_frequencies


def simulate_grouped(
    out: Path,
    *,
    levels: Sequence[int],
    groups: int,
    sensors: int = 306,
    time_points: int = 125,
    seed: int = 0,
    classes: Sequence[str] = PHONEMES,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write OUT/grouped_K/{train,validation,test}_grouped.h5 for each level K and return their paths.

    groups: of train at each level; the other splits have an eighth of it.  seed: equal seeds give equal `data` and
    `labels`. The model of the responses depends on seed and shape only, the noise on level and split as well.
    progress: called with a line of text for each file.
    Beside the hub's attributes there are `classes`, `simulated`, `seed` and `reference_macro_f1`. The last is the score
    on this file of the maximum-a-posteriori classifier, which knows templates, noise and each group's sessions.
    UserError: impossible arguments, files that exist (before anything is written), a full disk. Files are written
    atomically. What a stopped call with the same arguments has written stays, and the rest is made.
    """
    _check(out, levels, groups, sensors, time_points, seed, classes)
    targets = {(level, split): out / f"grouped_{level}" / f"{split}_grouped.h5" for level in levels for split in SPLITS}
    there = {place: path for place, path in targets.items() if path.exists()}
    if len(there) == len(targets):
        way_out = "choose another folder, or move the file away"
        raise UserError(next(iter(there.values())), "the file exists", "no file of this name", way_out)
    rows = {split: groups if split == "train" else max(1, groups // 8) for split in SPLITS}
    _warn_of_missing(classes, rows)
    best = MatchedFilter(generative_model(classes, sensors=sensors, time_points=time_points, seed=seed))
    for (level, split), path in there.items():
        check_same(path, best.model, split_labels(classes, rows[split]), level=level, split=split, seed=seed)
        progress(f"{path} is there already, from a command that was stopped")
    for (level, split), path in targets.items():
        if path in there.values():
            continue
        reference = _write(path, best, split_labels(classes, rows[split]), level, split, seed)
        progress(f"wrote {path}: {counted(rows[split], 'group')}, reference macro-F1 {reference:.3f}")
    return list(targets.values())


def split_labels(classes: Sequence[str], rows: int) -> Int[np.ndarray, " N"]:
    """Sorted labels, int64, in proportion to the classes' frequencies (largest remainder).

    Every class has a row if there are as many rows as classes; the most frequent classes have fewer rows for that.
    """
    quota = class_frequencies(classes) * rows
    counts = np.floor(quota).astype(np.int64)
    rest = rows - counts.sum()
    counts[np.argsort(counts - quota, kind="stable")[:rest]] += 1
    if rows >= len(classes):
        for missing in np.flatnonzero(counts == 0):
            counts[counts.argmax()] -= 1
            counts[missing] = 1
    return np.repeat(np.arange(len(classes)), counts)


def _write(path: Path, best: MatchedFilter, labels: Int[np.ndarray, " N"], level: int, split: str, seed: int) -> float:
    """Write a file with the groups of a split and return its reference macro-F1."""
    total, (_, sensors, time_points) = len(labels), best.model.templates.shape
    predictions = np.empty_like(labels)
    with atomic_h5(path) as (file, disk):
        chunks = (min(BLOCK_ROWS, total), sensors, time_points)
        data = file.create_dataset("data", (total, sensors, time_points), np.float32, chunks=chunks)
        file.create_dataset("labels", data=labels, chunks=(total,))
        indices = file.create_dataset("group_indices", (total,), h5py.vlen_dtype(np.int32))
        sums = np.empty(total, np.uint32)
        for rows, x, sessions in draw_blocks(best.model, labels, level=level, split=split, seed=seed):
            data[rows] = x
            sums[rows] = checksums(x)
            predictions[rows] = best.predict(x, sessions)
            windows = np.arange(rows.start * level, rows.stop * level, dtype=np.int32)
            indices[rows] = windows.reshape(-1, level)  # invented numbers: no window is in two groups
            disk.check()
        reference = macro_f1(labels, predictions)
        file.attrs.update(
            n_groups=total,
            n_channels=sensors,
            n_timepoints=time_points,
            grouped_samples=level,
            average_grouped_samples=True,
            drop_remaining=False,
            shuffle=split == "train",
            shuffle_seed=seed if split == "train" else -1,
            created_time=time.time(),
            simulated=True,
            seed=seed,
            reference_macro_f1=reference,
        )
        write_names(file, "classes", best.model.classes)
        write_checksums(file, sums, np.full(total, level), np.arange(total * level))
    return reference


def check_least(sensors: int, time_points: int, seed: int, others: Sequence[tuple[str, int]] = ()) -> None:
    """UserError: an option is too small. others: (option, its value), which must be at least 1."""
    least = [("--sensors", sensors, 1), ("--time-points", time_points, 2), ("--seed", seed, 0)]
    for option, value, minimum in [*((option, value, 1) for option, value in others), *least]:
        if value < minimum:
            raise UserError(option, f"{value}", f"at least {minimum}", f"use {option} {minimum} or more")


def _check(
    out: Path, levels: Sequence[int], groups: int, sensors: int, time_points: int, seed: int, classes: Sequence[str]
) -> None:
    """UserError: no files can be made of these arguments."""
    check_least(sensors, time_points, seed, [("--groups", groups), *(("--level", level) for level in levels)])
    if not levels or len(set(levels)) != len(levels):
        raise UserError("--level", f"{list(levels)}", "one or more different levels", "name each level once")
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise UserError("classes", f"{list(classes)}", "two or more different names", "name each class once")
    if groups * max(levels) > np.iinfo(np.int32).max:
        came, wanted = f"{groups} groups of {max(levels)} windows", "at most 2^31 - 1 windows, as numbers are int32"
        raise UserError("--groups", came, wanted, "use fewer --groups, or a lower --level")
    need, free = len(levels) * groups * sensors * time_points * 4, free_space(out)
    if need > free:
        came, wanted = f"{format_bytes(free)} are free", f"{format_bytes(need)} of free space"
        raise UserError(out, came, wanted, "free some space, or use fewer --groups, --level or --sensors")


def _warn_of_missing(classes: Sequence[str], rows: dict[str, int]) -> None:
    """Warn if a split has too few groups to hold every class."""
    missing = {split: len(classes) - len(np.unique(split_labels(classes, count))) for split, count in rows.items()}
    if any(missing.values()):
        counts = ", ".join(f"{split} {count}" for split, count in missing.items())
        way_out = f"--groups {8 * len(classes)} is enough for all"
        warn(f"too few groups for all {len(classes)} classes; classes without a group: {counts}; {way_out}")
