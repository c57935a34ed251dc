"""Writing shards: rows are permuted and normalised once, and written to files of whole blocks with little memory.

A shard is made in pieces. The rows of a piece are read from the source by offset, in ascending order. To distribute
all rows over files in a first pass would write every row twice, and was no faster where the source was not cached.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.draws import generator
from demega_jax.data.grouped import GroupedFile
from demega_jax.data.hdf5 import atomic_h5, write_names
from demega_jax.data.shards.manifest import MANIFEST, UNFINISHED, Manifest, ShardEntry, crc32_of, write_manifest
from demega_jax.data.shards.plan import LIMITS, ShardSettings, Splits, check_room, make_plan, open_sources
from demega_jax.data.shards.resume import check_folders, check_same, finished_shards
from demega_jax.data.spread import check_spread
from demega_jax.errors import UserError, counted, warn
from demega_jax.names import SPLITS, Norm, ShardNorm
from demega_jax.signal.normalize_numpy import median_and_iqr, normalize_rows

WORK_ROWS = 8  # rows that a thread normalises at a time; about as many as fit into the processor's cache
Progress = Callable[[str], None]
THREADS = min(8, os.cpu_count() or 1)
SMALLEST_HALF = float(np.finfo(np.float16).tiny)


def write_shards(
    data: Path,
    out: Path,
    *,
    levels: Sequence[int] | None = None,
    splits: Sequence[str] | None = None,
    settings: ShardSettings | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write OUT/grouped_K/{split}/shard-00000.h5 .. and OUT/grouped_K/manifest.json; return the manifests' paths.

    data: the folder that holds grouped_K.  levels: by default all.  splits: by default those that are there.
    progress: called with the plan first, then with a line for each file.
    Train rows are permuted, by seed and split; the other splits keep their order, so that predictions for shards line
    up with those for their source. Values beyond 6e4 are cut to it in float16, with a warning that counts them.
    After an interruption the same command continues: finished shards are checked and kept. UserError: OUT has other
    settings or levels, the data are not sound, too little space, a full disk.
    """
    settings = settings or ShardSettings()
    say = progress or (lambda line: None)
    sources = open_sources(Path(data), levels, splits)
    plans = {Path(out) / f"grouped_{level}": make_plan(level, found, settings) for level, found in sources.items()}
    before = check_folders(Path(out), plans)
    for found in sources.values():
        check_spread(next(iter(found.values())), windows_norm(settings.norm))
    check_room(Path(out), plans, before, say)
    for (folder, plan), found in zip(plans.items(), sources.values(), strict=True):
        for name, split in found.items():
            plan.splits[name].source.crc32 = crc32_of(split.path)
        there = before[folder]
        if there is not None:
            check_same(folder, there, plan)
        _write_level(folder, plan, found, finished_shards(folder, there), settings.memory, say)
    return [folder / MANIFEST for folder in plans]


def windows_norm(norm: ShardNorm) -> Norm:
    """How the windows of shards are normalised."""
    return "none" if norm == "raw" else norm


def row_order(rows: int, split: str, seed: int) -> Int[np.ndarray, " N"]:
    """The source's row number of each row of the shards: a permutation for train, the same order for other splits."""
    if split != "train":
        return np.arange(rows)
    return generator(seed, SPLITS.index(split)).permutation(rows)


def _write_level(
    folder: Path, plan: Manifest, sources: Splits, finished: dict[str, ShardEntry], memory: int, say: Progress
) -> None:
    """Write the shards that are not finished yet, then the manifest."""

    def state() -> Manifest:
        now = plan.model_copy(deep=True)
        for name, split in now.splits.items():
            split.shards = [finished[file] for file in sorted(finished) if file.startswith(f"{name}/")]
            split.saturated = sum(shard.saturated for shard in split.shards)
        return now

    if finished:
        say(f"{folder}: {counted(len(finished), 'finished shard', 'are')} kept")
    write_manifest(folder / UNFINISHED, state())
    with ThreadPoolExecutor(THREADS) as threads:
        for name, split in sources.items():
            order = row_order(split.rows, name, plan.seed)
            maker: _Maker | None = None
            for number, first in enumerate(range(0, split.rows, plan.shard_rows)):
                file = f"{name}/shard-{number:05d}.h5"
                if file in finished:
                    continue
                maker = maker or _Maker(split, plan, memory, threads)
                path, rows = folder / file, order[first : first + plan.shard_rows]
                saturated, size = maker.write(path, rows), path.stat().st_size
                finished[file] = ShardEntry(
                    file=file, rows=len(rows), bytes=size, crc32=crc32_of(path), saturated=saturated
                )
                write_manifest(folder / UNFINISHED, state())
                say(f"wrote {path}: {counted(len(rows), 'row')}")
    whole = state()
    for name, entry in whole.splits.items():
        if entry.saturated:
            values = entry.rows * plan.sensors * plan.time_points
            limit = f"+-{LIMITS[plan.dtype]:g}, the limit for {plan.dtype}"
            warn(f"{folder / name}: {entry.saturated} of {values} values were cut to {limit}")
    write_manifest(folder / MANIFEST, whole)
    (folder / UNFINISHED).unlink()


class _Maker:
    """Makes the shards of one split."""

    def __init__(self, split: GroupedFile, plan: Manifest, memory: int, threads: ThreadPoolExecutor):
        self.split, self.plan, self.threads, self.limit = split, plan, threads, LIMITS[plan.dtype]
        self.reader = split.reader()
        if split.slow_reason:
            warn(f"{split.path}: {split.slow_reason}, so rows are read through HDF5, which is slow")
        # Half of the memory is for rows that wait to be written. The rest is more than enough for the threads.
        stored = split.sensors * split.time_points * np.dtype(plan.dtype).itemsize
        piece = min(plan.shard_rows, split.rows, max(WORK_ROWS, memory // 2 // stored))
        self.piece = np.empty((piece, *split.window), plan.dtype)

    def write(self, path: Path, rows: Int[np.ndarray, " n"]) -> int:
        """Write a shard of rows of the source, in that order; return how many values were cut to the limit."""
        saturated = 0
        with atomic_h5(path) as (file, disk):
            # Contiguous: the place of a row follows from its number, so that blocks are read without an index.
            data = file.create_dataset("data", (len(rows), *self.piece.shape[1:]), self.piece.dtype)
            file["labels"], file["rows"] = self.split.labels[rows].astype(np.int64), rows.astype(np.int64)
            names = ("median", "iqr") if self.plan.normalization == "raw" else ()
            statistics = np.empty((len(names), len(rows), self.split.sensors), np.float32)
            if self.plan.classes is not None:
                write_names(file, "classes", self.plan.classes)
            for first in range(0, len(rows), len(self.piece)):
                some = rows[first : first + len(self.piece)]
                saturated += self._fill(some, statistics[:, first : first + len(some)])
                data[first : first + len(some)] = self.piece[: len(some)]
                disk.check()
            for name, values in zip(names, statistics, strict=True):
                file[name] = values
        return saturated

    def _fill(self, rows: Int[np.ndarray, " n"], statistics: Float[np.ndarray, "s n C"]) -> int:
        """Put rows of the source into the first places of the piece, in that order; return how many values were cut."""
        ascending = np.argsort(rows)  # the order on the disk
        parts = [ascending[first : first + WORK_ROWS] for first in range(0, len(rows), WORK_ROWS)]
        return sum(self.threads.map(lambda places: self._part(rows[places], places, statistics), parts))

    def _part(
        self, rows: Int[np.ndarray, " n"], places: Int[np.ndarray, " n"], statistics: Float[np.ndarray, "s n C"]
    ) -> int:
        x = self.reader.read(rows)
        y = normalize_rows(x, windows_norm(self.plan.normalization))
        peaks = np.maximum(y.max(axis=(1, 2)), -y.min(axis=(1, 2)))  # NaN if a value is
        if len(statistics):
            with np.errstate(over="ignore", invalid="ignore"):
                statistics[:, places] = median_and_iqr(x)
            peaks = np.where(np.isfinite(statistics[:, places]).all(axis=(0, 2)), peaks, np.nan)
        if np.isnan(peaks).any():
            row = rows[np.isnan(peaks)][0]
            came = f"row {row} is too large to normalise in float32"
            way_out = "remove the row from the file, or make the file again"
            raise UserError(self.split.path, came, "values below 1e38", way_out)
        tiny = (peaks > 0) & (peaks < SMALLEST_HALF)
        if self.plan.dtype == "float16" and tiny.any():
            came = f"row {rows[tiny][0]} has values of at most {peaks[tiny][0]:.1g}, which float16 cannot hold"
            raise UserError(self.split.path, came, "standardised data", "use --dtype float32 or --norm median_iqr")
        count = 0
        if peaks.max() > self.limit:
            count = int((np.abs(y) > self.limit).sum())
            y = np.clip(y, -self.limit, self.limit)
        self.piece[places] = y
        return count
