"""Rows per second of the stream feed against reading the same file in order, and how much memory a long run needs.

    python benchmarks/feed_rate.py [--gigabytes 1.5]   rates, medians of alternating repeats on a warm file, and how
                                                       much resident memory grew while rows were read by offset
    python benchmarks/feed_rate.py --memory-check 10   growth of resident memory while 10 GB are streamed (Linux)

Beside the feed's own order there are grain's shuffle and batch, of row numbers and of rows, by offset.
The file is like the hub's: sorted by label, chunks of 32 rows, uncompressed. It is written to a temporary folder.
Rows that pad the last batch of an epoch are not counted.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grain
import h5py
import numpy as np

from demega_jax.benchmark.simulated import CHUNK_ROWS, write_noise_file
from demega_jax.data.feeds.host_batch import BatchReader
from demega_jax.data.feeds.stream import READ_AHEAD, READ_THREADS, StreamFeed, StreamPlan
from demega_jax.data.grouped import GroupedFile, open_grouped
from demega_jax.data.split import Split

GB = 10**9


def read_in_order(split: Split) -> float:
    """Rows per second of reading the file once with h5py, a chunk at a time."""
    began = time.perf_counter()
    with h5py.File(split.path, "r") as file:
        data = file["data"]
        for first in range(0, split.rows, CHUNK_ROWS):
            data[first : first + CHUNK_ROWS]
    return split.rows / (time.perf_counter() - began)


def stream(feed: StreamFeed) -> tuple[float, float]:
    """(rows per second, most resident memory in GB) of an epoch from a feed that reads ahead; the first batches fill
    its buffers unmeasured."""
    for _ in range(4):
        next(feed)
    rows, most = 0, 0.0
    began = time.perf_counter()
    for _ in range(max(8, feed.order.steps_per_epoch)):
        rows += int(next(feed)["valid"].sum())
        most = max(most, resident())
    return rows / (time.perf_counter() - began), most


def resident() -> float:
    """Resident memory of this process now, GB; not a number where the system does not tell."""
    status = Path("/proc/self/status")
    found = re.search(r"^VmRSS:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    if found is None:
        return float("nan")
    return int(found[1]) * 1024 / GB


def shuffled_numbers(split: GroupedFile, batch_size: int) -> grain.MapDataset:
    """Batches by offset, of row numbers that grain shuffles and batches."""
    reader = BatchReader(split, split.reader(), batch_size, READ_AHEAD + 3)
    numbers = grain.MapDataset.range(split.rows).shuffle(seed=0).batch(batch_size, drop_remainder=True)
    return numbers.repeat().map(reader.read)


def shuffled_rows(split: GroupedFile, batch_size: int) -> grain.MapDataset:
    """Batches of rows that grain shuffles and batches, each read by itself by its offset."""
    reader = split.reader()

    def row(number: int) -> dict[str, np.ndarray]:
        return {"x": reader.read(np.array([number]))[0], "label": split.labels[number]}

    rows = grain.MapDataset.range(split.rows).shuffle(seed=0).map(row)
    return rows.batch(batch_size, drop_remainder=True).repeat()


def pipeline_rate(split: GroupedFile, batches: grain.MapDataset, batch_size: int) -> float:
    """Rows per second of a grain pipeline with the threads and the read-ahead of the stream feed."""
    options = grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=READ_AHEAD)
    iterator = iter(batches.to_iter_dataset(options))
    for _ in range(4):
        next(iterator)
    count = max(8, split.rows // batch_size)
    began = time.perf_counter()
    for _ in range(count):
        next(iterator)
    rate = count * batch_size / (time.perf_counter() - began)
    iterator.close()
    return rate


def rates(split: GroupedFile, batch_size: int, repeats: int) -> dict[str, object]:
    """Print and return the medians; the ways take turns, so that a busy machine disturbs all of them alike."""
    growth: list[float] = []

    def fed(memory: int) -> float:
        before = resident()
        feed = StreamFeed(StreamPlan(split, batch_size, 0, "uniform", memory, 2))
        try:
            rate, most = stream(feed)
        finally:
            feed.close()
        if not memory:
            growth.append(most - before)
        return rate

    read_in_order(split)  # warm the page cache
    ways: dict[str, Callable[[], float]] = {
        "in order, h5py": lambda: read_in_order(split),
        "shuffled, by offset": lambda: fed(0),
        "shuffled, in memory": lambda: fed(2**62),
        "grain shuffles numbers": lambda: pipeline_rate(split, shuffled_numbers(split, batch_size), batch_size),
        "grain shuffles rows": lambda: pipeline_rate(split, shuffled_rows(split, batch_size), batch_size),
    }
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            measured[name].append(way())
    medians = {name: statistics.median(values) for name, values in measured.items()}
    base = medians["in order, h5py"]
    for name, values in measured.items():
        middle = medians[name]
        print(f"{name:24} {middle:9.0f} rows/s  {middle / base:5.2f} x   ({min(values):.0f} to {max(values):.0f})")
    print(f"resident memory grew by at most {max(growth):.2f} GB while {split.nbytes / GB:.1f} GB were read by offset")
    return {
        "rows": split.rows,
        "gigabytes": split.nbytes / GB,
        "batch_size": batch_size,
        "rows_per_second": measured,
        "median": medians,
        "ratio": {name: middle / base for name, middle in medians.items()},
        "growth_gb": max(growth),
    }


def memory_check(split: GroupedFile, batch_size: int) -> dict[str, object]:
    """Print and return the growth of resident memory over one epoch read by offset."""
    before = resident()
    feed = StreamFeed(StreamPlan(split, batch_size, 0, "uniform", 0, 2))
    rate, most = stream(feed)
    feed.close()
    size = split.nbytes / GB
    print(
        f"streamed {size:.1f} GB at {rate:.0f} rows/s; resident {before:.2f} GB before, most {most:.2f} GB: "
        f"grew by {most - before:.2f} GB"
    )
    return {"rows": split.rows, "gigabytes": size, "rows_per_second": rate, "growth_gb": most - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the file")
    parser.add_argument("--sensors", type=int, default=306)
    parser.add_argument("--time-points", type=int, default=125)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-check", type=float, metavar="GB", help="stream a file of this size instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--folder", type=Path, help="where the temporary file goes; by default the system's")
    arguments = parser.parse_args()
    gigabytes = arguments.memory_check or arguments.gigabytes
    rows = max(1, int(gigabytes * GB / (4 * arguments.sensors * arguments.time_points)))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "grouped_1" / "train_grouped.h5"
        write_noise_file(path, rows, arguments.sensors, arguments.time_points)
        split = open_grouped(path)
        if arguments.memory_check:
            numbers = memory_check(split, arguments.batch_size)
        else:
            numbers = rates(split, arguments.batch_size, arguments.repeats)
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
