"""Rows: which ones a step asks for, and that each reader gives what h5py gives, whatever the file and the order."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.data import (
    Hdf5Rows,
    MemoryRows,
    OffsetRows,
    RowReader,
    grouped_path,
    open_grouped,
    open_rows,
    write_grouped,
)
from helpers.errors import refused
from helpers.feeds import RowOrder

ROWS, SENSORS, TIME_POINTS = 77, 3, 5  # odd, and no multiple of a chunk: the last one is partly padding
CHUNKS = {"chunks": (32, SENSORS, TIME_POINTS)}
LAYOUTS = {
    "chunked": ("<f4", CHUNKS),
    "contiguous": ("<f4", {}),
    "gzip": ("<f4", CHUNKS | {"compression": "gzip"}),
    "half": ("<f2", CHUNKS),
    "double": ("<f8", CHUNKS),
    "big-endian": (">f4", CHUNKS),
}


def write(folder: Path, data: np.ndarray, **layout):
    """The split of a grouped file; its labels go through its classes in turn."""
    labels, classes = np.arange(len(data)) % 3, {"classes": ["a", "b", "c"]}
    return open_grouped(write_grouped(grouped_path(folder), data, labels, attributes=classes, **layout))


def readers(split) -> list[RowReader]:
    """Every reader that can read the split."""
    disk = split.reader()
    return [MemoryRows.load(split, disk), Hdf5Rows(split)] + ([disk] if isinstance(disk, OffsetRows) else [])


@pytest.fixture(params=LAYOUTS)
def split(request, tmp_path):
    """A split of 77 rows in each layout."""
    dtype, layout = LAYOUTS[request.param]
    data = np.random.default_rng(1).standard_normal((ROWS, SENSORS, TIME_POINTS)).astype(dtype)
    return write(tmp_path, data, **layout)


def test_random_rows_with_repeats_are_those_of_h5py(split):
    with h5py.File(split.path) as file:
        expected = np.stack([file["data"][row] for row in range(ROWS)]).astype(np.float32)
    for seed in range(5):
        rows = np.random.default_rng(seed).integers(0, ROWS, 2 * ROWS)
        for reader in readers(split):
            x = reader.read(rows)
            assert x.dtype == np.float32 and x.shape == (2 * ROWS, SENSORS, TIME_POINTS)
            assert x.tobytes() == expected[rows].tobytes()
            assert x is not reader.read(rows) and not np.shares_memory(x, reader.read(rows))


def test_only_a_compressed_file_is_not_read_by_offset(split):
    with h5py.File(split.path) as file:
        expected = Hdf5Rows if file["data"].compression else OffsetRows
    assert isinstance(open_rows(split, split.nbytes - 1), expected)
    assert isinstance(open_rows(split, split.nbytes), MemoryRows)
    assert split.nbytes == 77 * 3 * 5 * 4  # of float32, whatever is in the file


def test_four_threads_read_what_one_reads(split):
    with h5py.File(split.path) as file:
        expected = file["data"][:].astype(np.float32)
    orders = [np.random.default_rng(seed).permutation(ROWS) for seed in range(12)]
    for reader in readers(split):
        with ThreadPoolExecutor(4) as threads:
            for order, x in zip(orders, threads.map(reader.read, orders), strict=True):
                np.testing.assert_array_equal(x, expected[order])


def test_a_reader_that_outlives_its_modules_is_silent(tmp_path):
    """Once grain is imported, a reader of a script is collected when modules have been emptied."""
    split = write(tmp_path, np.zeros((ROWS, SENSORS, TIME_POINTS), np.float32), **CHUNKS)
    program = f"""
import pathlib
import numpy as np
import demega_jax.data.feeds.stream
from demega_jax.data.grouped import open_grouped
reader = open_grouped(pathlib.Path({str(split.path)!r})).reader()
reader.read(np.arange(3))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "OffsetRows" not in run.stderr, run.stderr


@pytest.mark.parametrize("layout", ["chunked", "contiguous", "gzip"])
def test_a_finite_row_whose_sum_overflows_is_read(tmp_path, layout):
    """A check by the sum of a row would be quicker, and would refuse it."""
    data = np.full((ROWS, SENSORS, TIME_POINTS), 3e38, np.float32)
    with np.errstate(over="ignore"):
        assert np.isinf(data[0].sum())
    split = write(tmp_path, data, **LAYOUTS[layout][1])
    for reader in readers(split):
        np.testing.assert_array_equal(reader.read(np.array([76, 0, 0])), data[:3])


@pytest.mark.parametrize("layout", ["chunked", "gzip"])
def test_infinities_that_cancel_and_rows_of_a_whole_run_are_named(tmp_path, layout):
    """The row that is named is the row of the file, not its place in the request or in a read of several rows."""
    data = np.ones((ROWS, SENSORS, TIME_POINTS), np.float32)
    data[70, 0, 1], data[70, 1, 1], data[75, 0, 0] = np.inf, -np.inf, np.nan
    split = write(tmp_path, data, **LAYOUTS[layout][1])
    reader = split.reader()
    for rows, facts in [
        (np.arange(64, 77), ["row 70", "inf", "sensor 0", "time point 1"]),
        (np.array([3, 75, 70]), ["row 75", "nan", "sensor 0", "time point 0"]),
    ]:
        with refused(*facts, where=split.path):
            reader.read(rows)
    np.testing.assert_array_equal(reader.read(np.array([69, 71, 74, 76])), 1)


PINNED = [[6, 8, 4, 1], [3, 5, 9, 7], [0, 2, -1, -1], [2, 4, 0, 5], [8, 1, 3, 9], [7, 6, -1, -1]]


def test_the_order_is_that_of_numpy_and_pinned():
    """A run can be repeated elsewhere from its seed by numpy alone."""
    order = RowOrder(np.zeros(10, np.int32), 4, 3)
    epochs = [np.random.Generator(np.random.Philox(key=[3, epoch])).permutation(10).tolist() for epoch in range(2)]
    padded = [rows + [-1, -1] for rows in epochs]
    expected = [rows[first : first + 4] for rows in padded for first in (0, 4, 8)]
    assert [order.row_numbers(step).tolist() for step in range(6)] == expected == PINNED
