"""Batches of single rows from grouped files or shards: a grain pipeline that is a pure function of the step.

Files of the hub are sorted by label in chunks of 32 rows, so no window of affordable size could shuffle them.
Row NUMBERS are shuffled over the whole split instead; each batch then reads its rows by offset. The rows of shards
were shuffled when they were written, so there whole blocks are.
"""

import collections
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import grain
import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.feeds.feed import Feed
from demega_jax.data.feeds.order import PADDING, BlockOrder, RowOrder
from demega_jax.data.grouped import GroupedSplit
from demega_jax.data.levels import CombinedSplit
from demega_jax.data.rows import RowReader, disk_reader, host_dtype, open_rows
from demega_jax.data.shards.reader import ShardedSplit, read_statistics
from demega_jax.errors import UserError

HostBatch = dict[str, np.ndarray]
Statistics = dict[str, tuple[np.ndarray, float]]  # name in the batch -> ([N, C], what padding has)
READ_THREADS = 2
READ_AHEAD = 3  # batches on the host; after batching, grain's element is a batch


def order_of(split: GroupedSplit, batch_size: int, seed: int, sampling: str = "uniform") -> RowOrder | BlockOrder:
    """The order of rows: by blocks for shards that were permuted, unless classes are to be balanced; else by rows."""
    parts = split.parts if isinstance(split, CombinedSplit) else (split,)
    shards = [part for part in parts if isinstance(part, ShardedSplit) and part.permuted]
    if len(shards) == len(parts) and len({part.block_rows for part in shards}) == 1 and sampling == "uniform":
        rows = [shard.rows for part in shards for shard in part.shards]
        return BlockOrder(rows, shards[0].block_rows, batch_size, seed)
    return RowOrder(split.labels, batch_size, seed, sampling)


class BatchMemory:
    """Memory for the windows of a batch [B, C, T], used again once nothing refers to it.

    Fresh memory costs the system as long to clear as the rows take to read. What is handed out is a view: numpy lets
    every view of it refer to the array that owns the memory, and JAX keeps such a view until it has copied it, or,
    where a CPU device shares it, as long as the placed array lives. So the owner's reference count tells.
    """

    def __init__(self, shape: tuple[int, ...], most: int, dtype: Any = np.float32):
        self._shape, self._most, self._dtype = shape, most, dtype
        self._lock = threading.Lock()
        self._owners = [np.empty(shape, dtype)]
        self._idle = sys.getrefcount(self._owners[0])  # what an owner has when this list alone refers to it

    def take(self) -> Float[np.ndarray, "B C T"]:
        """Memory that nobody reads, with anything in it. Beyond `most` at a time it is new and not kept."""
        with self._lock:
            for i in range(len(self._owners)):
                if sys.getrefcount(self._owners[i]) == self._idle:
                    return self._owners[i][...]
            fresh = np.empty(self._shape, self._dtype)
            if len(self._owners) < self._most:
                self._owners.append(fresh)
            return fresh[...]


class _Batches:
    """A grain source: element i is the batch of step i, read when it is asked for."""

    def __init__(
        self, order: RowOrder | BlockOrder, reader: RowReader, split: GroupedSplit, share: slice, memory: BatchMemory
    ):
        self.order, self.reader, self.labels, self.share, self.memory = order, reader, split.labels, share, memory
        self.statistics = row_statistics(split)

    def __len__(self) -> int:
        return 2**62  # the run decides how long it is

    def __getitem__(self, step: int) -> HostBatch:
        rows = self.order.row_numbers(int(step))[self.share]
        return make_batch(self.reader, self.labels, rows, self.memory.take(), self.statistics)


def row_statistics(split: GroupedSplit) -> Statistics:
    """What the batches of a split have besides windows and labels."""
    parts = split.parts if isinstance(split, CombinedSplit) else (split,)
    shards = [part for part in parts if isinstance(part, ShardedSplit) and part.statistics]
    if len(shards) < len(parts):
        return {}
    median, iqr = (np.concatenate(both) for both in zip(*(read_statistics(part) for part in shards), strict=True))
    return {"median": (median, 0.0), "iqr": (iqr, 1.0)}


def make_batch(
    reader: RowReader,
    labels: Int[np.ndarray, " N"],
    rows: Int[np.ndarray, " B"],
    x: Float[np.ndarray, "B C T"],
    statistics: Statistics,
) -> HostBatch:
    """The host batch of row numbers, its windows in x; padding (-1) is a row of zeros that is not valid.

    statistics: numbers for each row that come along, [B, C] float32 under their names."""
    valid = rows != PADDING
    count = int(valid.sum())  # padding comes last
    reader.read(rows[:count], x[:count])
    x[count:] = 0
    label = np.where(valid, labels[rows], 0).astype(np.int32)
    batch = {"x": x, "label": label, "valid": valid}
    for name, (values, padding) in statistics.items():
        batch[name] = np.where(valid[:, None], values[rows], np.float32(padding))
    return batch


def batch_arrays(split: GroupedSplit) -> dict[str, tuple[tuple[int, ...], Any]]:
    """(shape, type) of a row of each array in a batch of a split."""
    arrays: dict[str, tuple[tuple[int, ...], Any]] = {
        "x": ((split.sensors, split.time_points), host_dtype(split)), "label": ((), np.int32), "valid": ((), np.bool_),
    }  # fmt: skip
    return arrays | {name: ((split.sensors,), np.float32) for name in row_statistics(split)}


def _share(batch_size: int, process_index: int, process_count: int) -> slice:
    """The rows of a global batch that a host reads."""
    if batch_size % process_count:
        raise UserError(
            "train.batch_size", f"{batch_size} rows over {process_count} hosts", f"a multiple of {process_count}",
            f"use train.batch_size={max(1, batch_size // process_count) * process_count}",
        )  # fmt: skip
    each = batch_size // process_count
    return slice(process_index * each, (process_index + 1) * each)


def _identity(batch: HostBatch) -> HostBatch:
    return batch


class StreamFeed(Feed):
    """Training batches without end, read ahead by threads and placed on the devices ahead of the step.

    split: a grouped file, or shards; those give windows as they are stored (float16 or float32), and, where they hold
    raw data, `median` and `iqr` [B, C] float32 (0 and 1 where padded).
    place: puts a host batch on the devices.  Host p of n reads rows [p B/n, (p+1) B/n) of each global batch.
    """

    def __init__(
        self, split: GroupedSplit, *, batch_size: int, seed: int, memory: int,
        sampling: Literal["uniform", "balanced"] = "uniform", place: Callable[[HostBatch], Any] = _identity,
        process_index: int = 0, process_count: int = 1, prefetch: int = 2,
    ):  # fmt: skip
        super().__init__()
        share = _share(batch_size, process_index, process_count)
        self.order = order_of(split, batch_size, seed, sampling)
        self.steps_per_epoch = self.order.steps_per_epoch
        # Those read ahead, those placed, the one in use, and two that JAX lets go of at its next calls.
        batch_memory = BatchMemory(
            (share.stop - share.start, split.sensors, split.time_points), READ_AHEAD + prefetch + 3, host_dtype(split)
        )
        self._source = _Batches(self.order, open_rows(split, memory), split, share, batch_memory)
        self._place, self._prefetch = place, prefetch
        self._placed: collections.deque[Any] = collections.deque()
        self._batches: Any = None

    def _start(self) -> Any:
        options = grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=READ_AHEAD)
        batches = iter(grain.MapDataset.source(self._source).to_iter_dataset(options))
        batches.set_state({"next_index": self._next_step})
        return batches

    def __next__(self) -> Any:
        began = time.perf_counter()
        if self._batches is None:
            self._batches = self._start()
        while len(self._placed) < self._prefetch:
            self._placed.append(self._place(next(self._batches)))
        self._next_step += 1
        self._waited += time.perf_counter() - began
        return self._placed.popleft()

    def close(self) -> None:
        """Stop reading ahead."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None
        self._placed.clear()


def split_batches(
    split: GroupedSplit, *, batch_size: int, place: Callable[[HostBatch], Any] = _identity, process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Any]:  # fmt: skip
    """One pass over a split (as for `StreamFeed`) in file order, the last batch padded; one batch is read while another
    is used."""
    reader, _ = disk_reader(split)  # in order no reader is slow, and none holds the split
    mine = _share(batch_size, process_index, process_count)
    # Those being read, being placed, and in use.
    memory = BatchMemory((mine.stop - mine.start, split.sensors, split.time_points), 4, host_dtype(split))
    statistics = row_statistics(split)

    def batch(first: int) -> HostBatch:
        rows = np.arange(first, first + batch_size)
        mine_alone = np.where(rows < split.rows, rows, PADDING)[mine]
        return make_batch(reader, split.labels, mine_alone, memory.take(), statistics)

    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(batch, 0)
        for first in range(batch_size, split.rows + batch_size, batch_size):
            current = ahead.result()
            if first < split.rows:
                ahead = thread.submit(batch, first)
            yield place(current)
