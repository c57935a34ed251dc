"""What the checksums of rows cost: reading shuffled rows with them, without them and again, and making them.

    python benchmarks/checksums.py [--gigabytes 1] [--repeats 7]

A grouped file of full rows (306 x 125, float32) is written to a temporary folder. One thread reads all its rows in
batches of 64 in random order. The ways take turns; figures are medians on a warm file, in GB/s, and their range.
"""

import argparse
import functools
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from demega_jax.benchmark.simulated import CHUNK_ROWS, write_noise_file
from demega_jax.data.checksums import checksums, write_checksums
from demega_jax.data.grouped import GroupedFile, open_grouped
from demega_jax.data.split import RowReader

GB = 10**9
SENSORS, TIME_POINTS, BATCH = 306, 125, 64
ROW_BYTES = 4 * SENSORS * TIME_POINTS


def add_checksums(path: Path) -> None:
    """Write the checksums of a file that has none."""
    with h5py.File(path, "a") as file:
        data, count = file["data"], len(file["data"])
        rows = np.concatenate([checksums(data[first : first + CHUNK_ROWS]) for first in range(0, count, CHUNK_ROWS)])
        write_checksums(file, rows, np.ones(count, np.int64), np.arange(count))


def read(reader: RowReader, order: np.ndarray, out: np.ndarray) -> float:
    """Seconds to read all rows into the same memory."""
    began = time.perf_counter()
    for first in range(0, len(order), BATCH):
        some = order[first : first + BATCH]
        reader.read(some, out[: len(some)])
    return time.perf_counter() - began


def make(out: np.ndarray, rows: int) -> float:
    """Seconds to take the checksums of so many rows in memory."""
    began = time.perf_counter()
    for _ in range(0, rows, BATCH):
        checksums(out)
    return time.perf_counter() - began


def measure(plain: GroupedFile, path: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, as often as it is repeated; each time with new readers, which have compared nothing."""
    order, out = np.random.default_rng(0).permutation(plain.rows), np.ones((BATCH, SENSORS, TIME_POINTS), np.float32)
    times: dict[str, list[float]] = {}
    for _ in range(repeats + 1):  # the first fills the system's cache
        reader, without = open_grouped(path).reader(), plain.reader()
        ways: dict[str, Callable[[], float]] = {
            "without checksums": functools.partial(read, without, order, out),
            "first time": functools.partial(read, reader, order, out),
            "again": functools.partial(read, reader, order, out),
            "making them": functools.partial(make, out, plain.rows),
        }
        for name, way in ways.items():
            times.setdefault(name, []).append(way())
    return {name: seconds[1:] for name, seconds in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    rows = int(arguments.gigabytes * GB / ROW_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grouped_1" / "train_grouped.h5"
        write_noise_file(path, rows, SENSORS, TIME_POINTS)
        plain = open_grouped(path)
        assert plain.checks is None  # remembered from now on: this split reads without them
        add_checksums(path)
        print(f"{rows} rows, {rows * ROW_BYTES / GB:.2f} GB, zlib {zlib.ZLIB_RUNTIME_VERSION}")
        for name, seconds in measure(plain, path, arguments.repeats).items():
            low, middle, high = (
                rows * ROW_BYTES / GB / s for s in (max(seconds), statistics.median(seconds), min(seconds))
            )
            print(f"{name:<18} {middle:6.2f} GB/s ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
