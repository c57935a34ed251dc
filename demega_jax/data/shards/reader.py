"""Reading the shards that `demega-jax shard` wrote: their rows, labels and statistics, with checks of every file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.acquisition import acquisition
from demega_jax.data.elsewhere import is_elsewhere
from demega_jax.data.grouped import check_window
from demega_jax.data.hdf5 import find_dataset, open_file
from demega_jax.data.labels import map_labels, warn_of_absent_classes
from demega_jax.data.rows import OffsetRows, why_slow
from demega_jax.data.shards.manifest import (
    AGAIN,
    MANIFEST,
    Manifest,
    ShardEntry,
    check_manifest,
    check_shards,
    check_sizes,
    read_manifest,
)
from demega_jax.data.split import STATISTICS, RowReader, ShuffledBlocks, Split, WindowShape
from demega_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """A file of a split. first: its first row in the split.  offset: bytes of the file before its rows."""

    file: Path
    first: int
    rows: int
    offset: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ShardedSplit(Split):
    """A split in shards that were checked when they were opened; `path` is the split's folder.

    manifest: of the folder grouped_K.  permuted: rows lie in random order.
    """

    shards: tuple[Shard, ...]
    manifest: Manifest
    permuted: bool

    @property
    def shuffled_blocks(self) -> ShuffledBlocks | None:
        """The blocks of the shards, if the rows were permuted."""
        rows = tuple(shard.rows for shard in self.shards)
        return ShuffledBlocks(rows, self.manifest.block_rows) if self.permuted else None

    def reader(self) -> RowReader:
        """Rows by their offset in the shards. Errors name the shard, and the row's number in that file."""
        row_bytes = self.sensors * self.time_points * self.dtype.itemsize
        offsets = np.concatenate([shard.offset + np.arange(shard.rows) * row_bytes for shard in self.shards])
        return OffsetRows(self, offsets, self.dtype, [(shard.file, shard.first) for shard in self.shards])

    def read_row_arrays(self) -> dict[str, Float[np.ndarray, "N C"]]:
        """Median and interquartile range (without epsilon) of each row's sensors over time, in the data's unit.

        UserError: numbers that are not finite.
        """
        found = {}
        for name in STATISTICS:
            whole = np.empty((self.rows, self.sensors), np.float32)
            for shard in self.shards:
                with open_file(shard.file) as file:
                    file[name].read_direct(whole, dest_sel=np.s_[shard.first : shard.first + shard.rows])
            if not np.isfinite(whole).all():
                raise UserError(self.path, f"`{name}` with values that are not finite", "finite numbers", AGAIN)
            found[name] = whole
        return found

    def verify(self) -> None:
        """Compare the checksums of the split's shards. UserError: one is missing or was altered."""
        check_shards(self.path.parent, self.manifest.splits[self.name].shards)


def is_sharded(folder: Path) -> bool:
    """Whether a folder grouped_K holds shards."""
    return (folder / MANIFEST).is_file()


def open_shards(
    folder: Path,
    split: str,
    *,
    classes: Sequence[str] | None = None,
    expect_shape: WindowShape | None = None,
    verify: bool = True,
) -> ShardedSplit:
    """Open and check a split of a shard folder (grouped_K with its manifest.json).

    classes, expect_shape: as for `open_grouped`.  verify: read every byte once and compare the checksums (about 2
    GB/s for files that the system has cached); otherwise only sizes are compared.
    Raises: `UserError` for a split that is not there, a shard that is missing or was altered, a newer format.
    """
    manifest = read_manifest(folder / MANIFEST)
    if split not in manifest.splits:
        there = ", ".join(manifest.splits)
        way_out = "run `demega-jax shard` with it"
        raise UserError(folder, f"no split {split}", f"a split that is there: {there}", way_out)
    check_window(folder, manifest.sensors, manifest.time_points, expect_shape)
    entry = manifest.splits[split]
    rows = sum(shard.rows for shard in entry.shards)
    if rows != entry.rows:
        came = f"shards of {rows} rows for {split}"
        raise UserError(folder / MANIFEST, came, f"shards of all its {entry.rows} rows", AGAIN)
    check = check_shards if verify else check_sizes
    check(folder, entry.shards)
    check_manifest(folder / MANIFEST)  # after the checks that say more
    shards, raw_labels = _open_files(folder, manifest, entry.shards)
    with open_file(shards[0].file) as file:
        labels = map_labels(shards[0].file, file, raw_labels, classes)
    norm = manifest.normalization
    found = ShardedSplit(
        path=folder / split,
        name=split,
        level=manifest.level,
        sensors=manifest.sensors,
        time_points=manifest.time_points,
        classes=labels.classes,
        labels=labels.ids,
        reference_macro_f1=entry.reference_macro_f1,
        simulated=entry.simulated or entry.reference_macro_f1 is not None,
        normalization=None if norm in ("none", "raw") else norm,
        has_statistics=norm == "raw",
        dtype=np.dtype(manifest.dtype),  # as stored: the step converts the windows on the device
        shards=shards,
        manifest=manifest,
        permuted=entry.permuted,
        acquisition=acquisition(folder / MANIFEST, manifest.sensors, **manifest.acquisition or {}),
    )
    warn_of_absent_classes(found.path, labels)
    return found


def _open_files(
    folder: Path, manifest: Manifest, entries: list[ShardEntry]
) -> tuple[tuple[Shard, ...], Int[np.ndarray, " N"]]:
    """The shards of a split, and the labels that are in the files."""
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
                if (found := find_dataset(path, file, name)) is None or found.shape != shape:
                    raise UserError(path, f"no `{name}` of shape {shape}", "what the manifest lists", AGAIN)
                if is_elsewhere(file, found):  # the checksum of this file says nothing about the others
                    raise UserError(path, f"`{name}` is stored in other files", "all numbers in the shard", AGAIN)
            offset, slow = file["data"].id.get_offset(), why_slow(file, file["data"])
            if offset is None or slow or file["data"].dtype != manifest.dtype:
                how = "in chunks" if offset is None else slow or "contiguous"
                came = f"`data` of {file['data'].dtype}, {how}"
                raise UserError(path, came, f"contiguous `data` of {manifest.dtype}", AGAIN)
            labels.append(file["labels"][:])
        shards.append(Shard(path, first, entry.rows, offset))
        first += entry.rows
    return tuple(shards), np.concatenate(labels)
