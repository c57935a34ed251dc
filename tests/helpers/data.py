"""Tiny grouped files and shards, and the ways in which tests open and read them."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from demega_jax.data.feeds.stream import split_batches
from demega_jax.data.grouped import open_grouped
from demega_jax.data.open import open_levels
from demega_jax.data.rows import Hdf5Rows, MemoryRows, OffsetRows, open_rows
from demega_jax.data.shards.manifest import MANIFEST, read_manifest
from demega_jax.data.shards.plan import ShardSettings
from demega_jax.data.shards.reader import is_sharded, open_shards
from demega_jax.data.shards.writer import write_shards
from demega_jax.data.simulate.grouped import simulate_grouped
from demega_jax.data.split import RowReader

__all__ = [
    "Hdf5Rows",
    "MemoryRows",
    "ROWS",
    "SENSORS",
    "TIME_POINTS",
    "OffsetRows",
    "RowReader",
    "ShardSettings",
    "all_rows",
    "batches_of",
    "grouped_path",
    "is_sharded",
    "open_grouped",
    "open_rows",
    "open_shards",
    "open_split",
    "read_grouped",
    "simulate_grouped",
    "verify",
    "write_grouped",
    "write_shards",
    "write_sound",
]


ROWS, SENSORS, TIME_POINTS = 80, 3, 5  # of `write_sound`


def grouped_path(folder: Path, level: int = 1, split: str = "train") -> Path:
    """Where the grouped file of a level and a split is."""
    return folder / f"grouped_{level}" / f"{split}_grouped.h5"


def write_grouped(
    path: Path,
    data: np.ndarray,
    labels: np.ndarray,
    *,
    level: int = 1,
    groups: Sequence | None = None,
    attributes: dict | None = None,
    **layout,
) -> Path:
    """A sound grouped file with every attribute of the hub's; attributes: more of them, or others.

    groups: the windows of each row (None: row r is of window r).  layout: of the dataset `data`, as for h5py.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, **layout)
        file["labels"] = labels
        if groups is None:
            file["group_indices"] = np.arange(len(data))
        else:
            indices = file.create_dataset("group_indices", (len(labels),), h5py.vlen_dtype(np.int32))
            for row, group in enumerate(groups):
                indices[row] = group
        if data.ndim == 3:
            file.attrs.update(dict(zip(("n_groups", "n_channels", "n_timepoints"), data.shape, strict=True)))
            file.attrs["grouped_samples"] = level
        file.attrs.update(attributes or {})
    return path


def write_sound(path: Path, data=None, labels=None, attributes=None, **layout) -> Path:
    """A sound file of level 5; each class of the 39 has rows."""
    if data is None:
        data = np.random.default_rng(0).standard_normal((ROWS, SENSORS, TIME_POINTS)).astype(np.float32)
    if labels is None:
        labels = np.sort(np.arange(len(data)) % 39)
    return write_grouped(path, data, labels, level=5, attributes=attributes, **layout)


def read_grouped(path: Path) -> dict:
    """Datasets, attributes and chunks of a grouped file, by h5py alone."""
    with h5py.File(path) as file:
        found = {name: file[name][:] for name in ("data", "labels", "group_indices")}
        attributes = {name: _as_text(value) for name, value in file.attrs.items()}
        return found | {"attributes": attributes, "chunks": file["data"].chunks}


def _as_text(value: object) -> object:
    """An attribute; text of a fixed length, which h5py gives as bytes, as text."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "S":
        return np.array([name.decode() for name in value.tolist()], object)
    return value


def open_split(folder: Path, level: int | tuple[int, ...] | None = None, split: str = "train", **options):
    """A split of one level or of several, of grouped files or shards."""
    return open_levels(folder, level, split, **options)


def verify(source) -> int:
    """The number of shards of a split, or of every split of a folder, once their checksums were compared."""
    if isinstance(source, Path):
        names = read_manifest(source / MANIFEST).splits
        return sum(verify(open_shards(source, name, verify=False)) for name in names)
    source.verify()
    return len(source.shards)


def batches_of(split, batch_size: int = 50, **options) -> list[dict]:
    """One pass over a split in its own order; the last batch is padded."""
    return list(split_batches(split, batch_size=batch_size, **options))


def all_rows(split, name: str = "x", batch_size: int = 50) -> np.ndarray:
    """One array of the batches of that pass, without the padding."""
    return np.concatenate([batch[name][batch["valid"]] for batch in batches_of(split, batch_size)])
