"""Grouped files whose 203 rows are no multiple of anything, shards of them, and a reader that knows h5py alone."""

from pathlib import Path

import h5py
import numpy as np

from helpers.data import ShardSettings, grouped_path, write_grouped

SENSORS, TIME_POINTS = 3, 10
ROWS = {"train": 203, "validation": 20, "test": 9}
NAMES = ["a", "b", "c"]
NORMS = ["median_iqr", "instance", "zscore", "none"]
# 64 rows a shard, in pieces of 40
SMALL = ShardSettings(shard_bytes=64 * (SENSORS * TIME_POINTS * 2 + 16), memory=40 * SENSORS * TIME_POINTS * 4)


def write_source(folder: Path, level: int = 5, data: dict[str, np.ndarray] | None = None, **layout) -> Path:
    """Grouped files of every split, sorted by label; data: the rows of some of them."""
    for number, (split, rows) in enumerate(ROWS.items()):
        x = np.random.default_rng(number).standard_normal((rows, SENSORS, TIME_POINTS)).astype(np.float32)
        write_grouped(
            grouped_path(folder, level, split),
            (data or {}).get(split, x),
            np.sort(np.arange(rows) % 3),
            level=level,
            attributes={"classes": NAMES, "reference_macro_f1": 0.5},
            **({"chunks": (min(32, rows), SENSORS, TIME_POINTS)} | layout),
        )
    return folder


def source_rows(folder: Path, split: str = "train", level: int = 5) -> np.ndarray:
    """The rows of a grouped file in float64."""
    with h5py.File(grouped_path(folder, level, split)) as file:
        return file["data"][:].astype(np.float64)


def read_all(folder: Path, split: str = "train") -> dict[str, np.ndarray]:
    """What the shards of a split hold, by h5py alone."""
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted((folder / split).glob("shard-*.h5")):
        with h5py.File(path) as file:
            for name in file:
                found.setdefault(name, []).append(file[name][:])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def normalised(x: np.ndarray, how: str) -> np.ndarray:
    """The normalisations in float64, written independently of the package."""
    if how == "median_iqr":
        low, high = np.quantile(x, [0.25, 0.75], axis=-1, keepdims=True)
        median = np.quantile(x, 0.5, axis=-1, keepdims=True, method="lower")
        return (x - median) / (high - low + 1e-6)
    if how == "none":
        return x
    axes = -1 if how == "instance" else (-2, -1)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
