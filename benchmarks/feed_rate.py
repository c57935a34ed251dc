"""Rows per second of the stream feed against reading the same file in order, and how much memory a long run needs.

    python benchmarks/feed_rate.py [--rows 14000]      rates, medians of alternating repeats on a warm file
    python benchmarks/feed_rate.py --memory-check 10   growth of resident memory while 10 GB are streamed (Linux)

The file is like the hub's: sorted by label, chunks of 32 rows, uncompressed. It is written to a temporary folder.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from demega_jax.data.grouped import GroupedSplit, open_grouped
from demega_jax.data.stream import StreamFeed
from demega_jax.phonemes import PHONEMES

CHUNK_ROWS = 32
GB = 10**9


def write_sorted(path: Path, rows: int, sensors: int, time_points: int) -> None:
    """A grouped file whose labels are sorted; one block of noise is written again and again, its values do not matter."""
    path.parent.mkdir(parents=True)
    block = np.random.default_rng(0).standard_normal((CHUNK_ROWS, sensors, time_points), np.float32)
    with h5py.File(path, "w") as file:
        shape, chunks = (rows, sensors, time_points), (min(CHUNK_ROWS, rows), sensors, time_points)
        data = file.create_dataset("data", shape, np.float32, chunks=chunks)
        for first in range(0, rows, CHUNK_ROWS):
            data[first : first + CHUNK_ROWS] = block[: min(CHUNK_ROWS, rows - first)]
        file["labels"] = np.sort(np.arange(rows) % len(PHONEMES))
        file["group_indices"] = np.arange(rows)
        file.attrs.update(n_groups=rows, n_channels=sensors, n_timepoints=time_points, grouped_samples=1)


def read_in_order(split: GroupedSplit) -> float:
    """Rows per second of reading the file once with h5py, a chunk at a time."""
    began = time.perf_counter()
    with h5py.File(split.path, "r") as file:
        data = file["data"]
        for first in range(0, split.rows, CHUNK_ROWS):
            data[first : first + CHUNK_ROWS]
    return split.rows / (time.perf_counter() - began)


def stream(feed: StreamFeed, batch_size: int, epochs: int = 1) -> float:
    """Rows per second of batches from a feed that reads ahead; the first batches fill its buffers unmeasured."""
    for _ in range(4):
        next(feed)
    steps = max(8, epochs * feed.steps_per_epoch)
    began = time.perf_counter()
    for _ in range(steps):
        next(feed)
    return steps * batch_size / (time.perf_counter() - began)


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of this process, GB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"error: this system does not report {field}")
    return int(found[1]) * 1024 / GB


def rates(split: GroupedSplit, batch_size: int, repeats: int) -> None:
    """Print the medians; the ways take turns, so that a busy machine disturbs all of them alike."""

    def fed(memory: int) -> float:
        feed = StreamFeed(split, batch_size=batch_size, seed=0, memory=memory)
        try:
            return stream(feed, batch_size)
        finally:
            feed.close()

    read_in_order(split)  # warm the page cache
    ways: dict[str, Callable[[], float]] = {
        "in order, h5py": lambda: read_in_order(split),
        "shuffled, by offset": lambda: fed(0),
        "shuffled, in memory": lambda: fed(2**62),
    }
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            measured[name].append(way())
    base = statistics.median(measured["in order, h5py"])
    for name, values in measured.items():
        middle = statistics.median(values)
        print(f"{name:22} {middle:9.0f} rows/s  {middle / base:5.2f} x   ({min(values):.0f} to {max(values):.0f})")


def memory_check(split: GroupedSplit, batch_size: int) -> None:
    """Print the growth of resident memory over one epoch read by offset."""
    before = resident("VmRSS")
    feed = StreamFeed(split, batch_size=batch_size, seed=0, memory=0)
    rate = stream(feed, batch_size)
    feed.close()
    size = split.rows * split.sensors * split.time_points * 4 / GB
    print(f"streamed {size:.1f} GB at {rate:.0f} rows/s; resident {before:.2f} GB before, most {resident('VmHWM'):.2f}"
          f" GB: grew by {resident('VmHWM') - before:.2f} GB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=14_000)
    parser.add_argument("--sensors", type=int, default=306)
    parser.add_argument("--time-points", type=int, default=125)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-check", type=float, metavar="GB", help="stream a file of this size instead")
    parser.add_argument("--folder", type=Path, help="where the temporary file goes; by default the system's")
    arguments = parser.parse_args()
    rows = arguments.rows
    if arguments.memory_check:
        rows = int(arguments.memory_check * GB / (4 * arguments.sensors * arguments.time_points))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "grouped_1" / "train_grouped.h5"
        write_sorted(path, rows, arguments.sensors, arguments.time_points)
        split = open_grouped(path)
        if arguments.memory_check:
            memory_check(split, arguments.batch_size)
        else:
            rates(split, arguments.batch_size, arguments.repeats)


if __name__ == "__main__":
    main()
