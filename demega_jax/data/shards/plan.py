"""The plan of `demega-jax shard`: the sources, the shards that are made of them, and the disk space they need."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from demega_jax import __version__
from demega_jax.data.acquisition import EVENTS, check_same_acquisition
from demega_jax.data.folder import find_level, find_levels, find_split
from demega_jax.data.grouped import GroupedFile, open_grouped
from demega_jax.data.hdf5 import open_file
from demega_jax.data.shards.manifest import VERSION, Manifest, SourceEntry, SplitEntry
from demega_jax.errors import UserError, counted, warn
from demega_jax.files import format_bytes, free_space
from demega_jax.names import SPLITS, ShardNorm

LIMITS = {"float16": 6e4, "float32": float(np.finfo(np.float32).max)}  # larger values are cut to the limit, and counted
BLOCK_ROWS = 16  # 1.2 MB of 306 x 125 in float16, which is fast to read in one go
Splits = dict[str, GroupedFile]  # the sources of a level, by the name of the split
MOST_SHARDS = 512  # of a split: a reader keeps each of them open


@dataclasses.dataclass(frozen=True)
class ShardSettings:
    """Settings of shards. shard_bytes: largest size of a file.  memory: bytes of rows that are held at a time."""

    norm: ShardNorm = "median_iqr"
    dtype: Literal["float16", "float32"] = "float16"
    shard_bytes: int = 2**28
    memory: int = 2**28
    seed: int = 777

    def __post_init__(self) -> None:
        least = [("--shard-size", self.shard_bytes, 1), ("--memory", self.memory, 1), ("--seed", self.seed, 0)]
        for option, value, minimum in least:
            if value < minimum:
                raise UserError(option, f"{value}", f"at least {minimum}", f"use {option} {minimum} or more")


def open_sources(data: Path, levels: Sequence[int] | None, splits: Sequence[str] | None) -> dict[int, Splits]:
    """The splits of each level. All splits of a level must have the classes and the shape of its first split."""
    if not data.is_dir():
        raise UserError(data, "no such folder", "the folder that holds grouped_K", "give that folder as GROUPED")
    found: dict[int, Splits] = {}
    asked = levels or sorted(find_levels(data))
    if not asked:
        find_level(data, None)  # raises the error that says what is there
    for level in asked:
        folder = find_level(data, level)
        there = [name for name in SPLITS if (folder / f"{name}_grouped.h5").is_file()]
        names = [name for name in SPLITS if name in (splits or there)] or [SPLITS[0]]
        paths = {name: find_split(data, level, name) for name in names}
        if splits is None and len(there) < len(SPLITS):
            absent = ", ".join(name for name in SPLITS if name not in there)
            warn(f"{folder}: there is no file of {absent}; shards are made of {', '.join(there)} only")
        first = open_grouped(paths.pop(names[0]))
        found[level] = {names[0]: first}
        for name, path in paths.items():
            found[level][name] = other = open_grouped(path, classes=first.classes, expect_shape=first.window)
            for earlier in [split for of, split in found[level].items() if of != name]:
                check_same_acquisition(path, other.acquisition, earlier.acquisition, earlier.path)
    return found


def make_plan(level: int, sources: Splits, settings: ShardSettings) -> Manifest:
    """The manifest without the shards and the checksums of the sources."""
    first = next(iter(sources.values()))
    with open_file(first.path) as file:
        states_classes = "classes" in file.attrs
    row_bytes = _row_bytes(first.sensors, first.time_points, settings.dtype, settings.norm)
    shard_rows = settings.shard_bytes // row_bytes
    if shard_rows > BLOCK_ROWS:
        shard_rows -= shard_rows % BLOCK_ROWS  # so that only the last block of a split is shorter
    most_rows = max(split.rows for split in sources.values())
    if shard_rows * MOST_SHARDS < most_rows:
        came = f"{settings.shard_bytes} bytes, which hold {shard_rows} rows of {row_bytes} bytes"
        least = -(-most_rows // MOST_SHARDS) * row_bytes
        wanted = f"at most {MOST_SHARDS} shards for {most_rows} rows"
        raise UserError("--shard-size", came, wanted, f"use --shard-size {-(-2 * least // 2**20)}M")
    splits = {}
    for name, split in sources.items():
        counts = dict(zip(split.classes, split.class_counts().tolist(), strict=True))
        source = SourceEntry(name=split.path.name, bytes=split.path.stat().st_size, crc32="")
        splits[name] = SplitEntry(
            source=source,
            rows=split.rows,
            permuted=name == "train",
            class_counts=counts,
            reference_macro_f1=split.reference_macro_f1,
            saturated=0,
            shards=[],
            simulated=True if split.simulated and split.reference_macro_f1 is None else None,
        )
    known = first.acquisition.stated()
    return Manifest(
        version=_version(splits, known),
        demega_jax=__version__,
        level=level,
        classes=list(first.classes) if states_classes else None,
        sensors=first.sensors,
        time_points=first.time_points,
        dtype=settings.dtype,
        normalization=settings.norm,
        seed=settings.seed,
        shard_rows=shard_rows,
        block_rows=BLOCK_ROWS,
        splits=splits,
        acquisition=known,
    )


def _version(splits: Mapping[str, SplitEntry], known: Mapping[str, object] | None) -> int:
    """The oldest format that can say what the manifest says. known: how windows were measured."""
    if any(split.simulated for split in splits.values()) or (known or {}).keys() & EVENTS:
        return VERSION
    return 1 if known is None else 2


def _row_bytes(sensors: int, time_points: int, dtype: str, norm: str) -> int:
    """Bytes of a row in a shard: its window, label, number, and statistics if there are any."""
    return sensors * time_points * np.dtype(dtype).itemsize + 16 + (8 * sensors if norm == "raw" else 0)


def check_room(
    out: Path, plans: dict[Path, Manifest], before: dict[Path, Manifest | None], say: Callable[[str], None]
) -> None:
    """Say what is planned. UserError: the disk has no room for the rows that are not there yet."""
    needed = 0
    for folder, plan in plans.items():
        row_bytes = _row_bytes(plan.sensors, plan.time_points, plan.dtype, plan.normalization)
        there = before[folder]
        for name, split in plan.splits.items():
            done = sum(shard.rows for shard in there.splits[name].shards) if there else 0
            count = -(-split.rows // plan.shard_rows)
            shards = f"{counted(count, 'shard')}, {format_bytes(split.rows * row_bytes)}"
            already = f"; {counted(done, 'row', 'are')} there already" if done else ""
            say(f"{folder / name}: {counted(split.rows, 'row')} in {shards}{already}")
            needed += (split.rows - done) * row_bytes
    free = free_space(out)
    if needed > free:
        way_out = "free some space, choose another folder, or name fewer --level or --split"
        raise UserError(out, f"{format_bytes(free)} free", f"{format_bytes(needed)} for the shards", way_out)
