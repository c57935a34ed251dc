"""Shards: splits that `demega-jax shard` has permuted, normalised and cut into files for fast reading in blocks."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.grouped import GroupedSplit, map_labels, open_file
from demega_jax.data.shards.manifest import (
    AGAIN,
    MANIFEST,
    Manifest,
    ShardEntry,
    check_shards,
    check_size,
    read_manifest,
)
from demega_jax.errors import UserError, warn


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """A file of a split: its first row in the split, how many it has, and where they begin in the file, bytes."""

    file: Path
    first: int
    rows: int
    offset: int


@dataclasses.dataclass(frozen=True, eq=False)
class ShardedSplit(GroupedSplit):
    """A split in shards that were found sound; `path` is the split's folder.

    dtype: of the stored windows.  normalized: how they are normalised already, None: not.  statistics: median and
    interquartile range are beside them (`read_statistics`).  permuted: rows lie in random order, so that blocks of
    `block_rows` rows can be shuffled in place of rows.
    """

    shards: tuple[Shard, ...]
    dtype: np.dtype
    normalized: str | None
    statistics: bool
    block_rows: int
    permuted: bool

    @property
    def nbytes(self) -> int:
        """Size of the rows as they are stored."""
        return self.rows * self.sensors * self.time_points * self.dtype.itemsize


def is_sharded(folder: Path) -> bool:
    """Whether a folder grouped_K holds shards."""
    return (folder / MANIFEST).is_file()


def open_shards(
    folder: Path,
    split: str,
    *,
    classes: Sequence[str] | None = None,
    expect_shape: tuple[int, int | None] | None = None,
    verify: bool = True,
) -> ShardedSplit:
    """Open and check a split of a shard folder (grouped_K with its manifest.json).

    classes, expect_shape: as for `open_grouped`.  verify: read every byte once and compare the checksums (about 2
    GB/s for what the system has cached); otherwise sizes alone are compared.
    Raises: `UserError` for a split that is not there, a shard that is missing or was altered, a newer format.
    """
    folder = Path(folder)
    manifest = read_manifest(folder / MANIFEST)
    if split not in manifest.splits:
        there = ", ".join(manifest.splits)
        raise UserError(folder, f"no split {split}", f"a split that is there: {there}", "shard that split, too")
    shape = (manifest.sensors, manifest.time_points)
    wanted = shape if expect_shape is None else (expect_shape[0], expect_shape[1] or shape[1])
    if shape != wanted:
        raise UserError(
            folder, f"windows of {shape[0]} sensors x {shape[1]} time points",
            f"{wanted[0]} x {wanted[1]}, as the model and its training data",
            "use data of the same shape, or train another model",
        )  # fmt: skip
    entry = manifest.splits[split]
    if sum(shard.rows for shard in entry.shards) != entry.rows:
        listed = f"shards of {sum(shard.rows for shard in entry.shards)} rows for {split}"
        raise UserError(folder / MANIFEST, listed, f"its {entry.rows} rows", "make the shards again")
    for shard in entry.shards:
        check_size(folder / shard.file, shard)
    if verify:
        check_shards(folder, entry.shards)
    shards, raw_labels = _open_files(folder, manifest, entry.shards)
    with open_file(shards[0].file) as file:
        names, labels = map_labels(shards[0].file, file, raw_labels, classes)
    how = manifest.normalization
    found = ShardedSplit(
        folder / split, split, manifest.level, len(labels), *shape, names, labels, entry.reference_macro_f1,
        shards, np.dtype(manifest.dtype), None if how in ("none", "raw") else how, how == "raw",
        manifest.block_rows, entry.permuted,
    )  # fmt: skip
    absent = [names[i] for i in np.flatnonzero(found.class_counts() == 0)]
    if absent:
        warn(f"{found.path}: no row of {len(absent)} of {len(names)} classes ({' '.join(absent)})")
    return found


def _open_files(
    folder: Path, manifest: Manifest, entries: list[ShardEntry]
) -> tuple[tuple[Shard, ...], Int[np.ndarray, " N"]]:
    """The shards of a split and their labels, as they are in the files."""
    shards: list[Shard] = []
    labels: list[np.ndarray] = []
    first = 0
    for entry in entries:
        path = folder / entry.file
        with open_file(path) as file:
            wanted = {"data": (entry.rows, manifest.sensors, manifest.time_points), "labels": (entry.rows,)}
            if manifest.normalization == "raw":
                wanted |= {"median": wanted["data"][:2], "iqr": wanted["data"][:2]}
            for name, shape in wanted.items():
                if not isinstance(found := file.get(name), h5py.Dataset) or found.shape != shape:
                    raise UserError(path, f"no `{name}` of shape {shape}", "what the manifest says", AGAIN)
            offset = file["data"].id.get_offset()
            if offset is None or file["data"].dtype != manifest.dtype:
                came = f"`data` of {file['data'].dtype}, {'scattered' if offset is None else 'whole'}"
                raise UserError(path, came, f"{manifest.dtype} in one piece", AGAIN)
            labels.append(file["labels"][:])
        shards.append(Shard(path, first, entry.rows, offset))
        first += entry.rows
    return tuple(shards), np.concatenate(labels)


def verify(source: ShardedSplit | Path) -> int:
    """Compare the checksum of every shard of a split, or of all splits of a folder, and return their number.

    UserError: a shard is missing or altered.
    """
    split = source.name if isinstance(source, ShardedSplit) else None
    folder = source.path.parent if isinstance(source, ShardedSplit) else Path(source)
    splits = read_manifest(folder / MANIFEST).splits
    entries = [shard for name, entry in splits.items() if split in (None, name) for shard in entry.shards]
    check_shards(folder, entries)
    return len(entries)


def read_statistics(split: ShardedSplit) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, "N C"]]:
    """Median and interquartile range (without epsilon) of each row's sensors over time, float32, in the data's unit.

    UserError: numbers that are not finite.
    """
    found = []
    for name in ("median", "iqr"):
        whole = np.empty((split.rows, split.sensors), np.float32)
        for shard in split.shards:
            with open_file(shard.file) as file:
                file[name].read_direct(whole, dest_sel=np.s_[shard.first : shard.first + shard.rows])
        if not np.isfinite(whole).all():
            raise UserError(split.path, f"`{name}` is not finite", "finite numbers", AGAIN)
        found.append(whole)
    return found[0], found[1]
