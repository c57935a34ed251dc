"""Data by their shape: noise where only the time counts that a step takes with it."""

import math
from pathlib import Path

import h5py
import jax
import numpy as np

from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.data.combined import ArraySplit, combine
from demega_jax.data.grouped import open_grouped
from demega_jax.data.open import TrainingData, plan_regroup, plan_rows
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.statistics import Statistics
from demega_jax.data.recordings.tree import RecordingTree
from demega_jax.data.split import Split
from demega_jax.files import parse_bytes
from demega_jax.phonemes import PHONEMES
from demega_jax.training.memory import available_memory

RATE = 250  # samples of a recording a second
PHONEMES_A_SECOND = 8.5
CHUNK_ROWS = 32  # of a grouped file, as the hub's
BLOCK_ROWS = 512  # of noise in memory, again and again
# The published training split has about 1.60 M phonemes: 45.6 GiB of windows at level 5 and 2.3 GiB at level 100 are
# 320,000 and 16,100 groups. How many exactly depends on the short groups at the end of each class.
PUBLISHED_PHONEMES = 1_600_000
FEW_BATCHES = 16  # of a split on a CPU
SECONDS = {"cpu": 60, "gpu": 3000}  # of a recording: 18 MB, or 0.9 GB, which no cache holds


def published_groups(level: int) -> int:
    """About how many groups the published training split has at a level."""
    return max(1, round(PUBLISHED_PHONEMES / level))


def noise_split(rows: int, sensors: int, time_points: int, level: int | None = None) -> Split:
    """A split of so many rows of noise (rounded up to whole blocks) that takes the memory of one block."""
    count = min(rows, BLOCK_ROWS)
    block = ArraySplit(
        path=Path("noise"),
        name="train",
        level=level,
        sensors=sensors,
        time_points=time_points,
        classes=PHONEMES,
        labels=(np.arange(count) % len(PHONEMES)).astype(np.int32),
        simulated=True,
        x=np.random.default_rng(1).standard_normal((count, sensors, time_points), np.float32),
    )
    return combine([block] * -(-rows // count), block.path)


def write_noise_file(path: Path, rows: int, sensors: int, time_points: int, level: int = 1) -> None:
    """A grouped file like the hub's, sorted by label; its data is one block of noise again and again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block = np.random.default_rng(0).standard_normal((CHUNK_ROWS, sensors, time_points), np.float32)
    with h5py.File(path, "w") as file:
        shape, chunks = (rows, sensors, time_points), (min(CHUNK_ROWS, rows), sensors, time_points)
        data = file.create_dataset("data", shape, np.float32, chunks=chunks)
        for first in range(0, rows, CHUNK_ROWS):
            data[first : first + CHUNK_ROWS] = block[: min(CHUNK_ROWS, rows - first)]
        file["labels"] = np.sort(np.arange(rows) % len(PHONEMES))
        file["group_indices"] = np.arange(rows)
        file.attrs.update(
            n_groups=rows, n_channels=sensors, n_timepoints=time_points, grouped_samples=level, simulated=True
        )


def write_noise_recording(root: Path, samples: int, sensors: int) -> None:
    """A recording tree of one run of noise with phonemes at random times, every class as often."""
    name = "sub-0_ses-1_task-Noise1_run-1"
    for kind in ("serialised", "events"):
        (root / "Noise1" / "derivatives" / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    with h5py.File(root / f"Noise1/derivatives/serialised/{name}_proc-none_meg.h5", "w") as file:
        data = file.create_dataset("data", (sensors, samples), np.float32)
        for sensor in range(sensors):
            data[sensor] = rng.standard_normal(samples, np.float32)
        file.attrs.update(sample_frequency=float(RATE), simulated=True)
    onsets = np.sort(rng.uniform(0, samples / RATE - 1, int(PHONEMES_A_SECOND * samples / RATE)))
    rows = [f"phoneme\t{PHONEMES[i % len(PHONEMES)]}_B\t{onset:.4f}" for i, onset in enumerate(onsets)]
    events = root / f"Noise1/derivatives/events/{name}_events.tsv"
    events.write_text("\n".join(["kind\tsegment\ttimemeg", *rows]) + "\n")


def simulated_rows(level: int, row_bytes: int, batch_size: int, device: jax.Device, devices: int) -> int:
    """Rows of a split on the devices: as many as the level has, if they fit a quarter of the devices' memory; a few
    batches on a CPU."""
    if device.platform == "cpu":
        return min(published_groups(level), FEW_BATCHES * batch_size)
    fits = (available_memory(device) or 0) // 4 // row_bytes * devices
    return min(published_groups(level), max(fits, FEW_BATCHES * batch_size))


def simulated_data(
    config: Config, folder: Path, shape: tuple[int, int], device: jax.Device, devices: int
) -> TrainingData:
    """Training data of noise for the feed, level and batch of a configuration; shape: (sensors, time points).

    folder: for the files that the stream and the regroup feed read; those that are there are used again.
    The rows of the same kind stand for validation, which a benchmark never reads.
    """
    (sensors, time_points), size, level = shape, config.train.batch_size, config.data.levels[0]
    few = noise_split(FEW_BATCHES, sensors, time_points, level)
    if config.data.feed == "regroup":
        return TrainingData(plan_regroup(*_noise_recordings(config, folder, shape, device)), few)
    if config.data.feed == "resident":
        row_bytes = sensors * time_points * np.dtype(config.data.dtype).itemsize
        rows = simulated_rows(level, row_bytes, size, device, devices)
        return TrainingData(plan_rows(config, noise_split(rows, sensors, time_points, level)), few)
    path = folder / f"grouped_{level}" / "train_grouped.h5"
    if not path.exists():
        write_noise_file(path, FEW_BATCHES * size, sensors, time_points, level)
    return TrainingData(plan_rows(config, open_grouped(path)), few)


def _noise_recordings(
    config: Config, folder: Path, shape: tuple[int, int], device: jax.Device
) -> tuple[Config, RecordingTree]:
    """A recording tree of noise, and the configuration by which groups are made of it."""
    (sensors, time_points), size, level = shape, config.train.batch_size, config.data.levels[0]
    root = folder / f"recordings_{level}"
    if not root.exists():
        seconds = max(
            SECONDS["cpu" if device.platform == "cpu" else "gpu"],
            math.ceil(2 * level * len(PHONEMES) / PHONEMES_A_SECOND),  # twice K windows of each class
        )
        write_noise_recording(root, max(seconds * RATE, 4 * time_points), sensors)
    # Groups overlap, so that each has K windows, and an epoch has a few batches: what a batch costs is as in the
    # published recordings, where there are K windows for each group.
    update: dict[str, float | None] = dict.fromkeys(("events", "label", "classes_file", "top", "resample"))
    update |= {"target_rows": math.ceil(FEW_BATCHES * size / len(PHONEMES)), "min_level": level, "overlap": 1e6}
    update |= {"tmin": 0.0, "tmax": time_points / RATE}
    groups = config.data.regroup.model_copy(update=update)
    data = config.data.model_copy(update={"regroup": groups, "level": level})
    unchanged = Statistics(np.zeros(sensors), np.ones(sensors))
    tree = RecordingTree(root, {"train": find_recordings(root)}, lambda: unchanged, data)
    return config.model_copy(update={"data": data}), tree


def stream_memory(config: Config, row_bytes: int) -> Config:
    """A configuration whose stream feed reads its small simulated file from where it would read the published one."""
    if published_groups(config.data.levels[0]) * row_bytes <= parse_bytes(config.data.memory):
        return config
    return override(config, {"data.memory": "0"}, "benchmark")
