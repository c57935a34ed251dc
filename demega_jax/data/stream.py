"""Batches of single rows from grouped files: a grain pipeline that is a pure function of the step.

Files of the hub are sorted by label in chunks of 32 rows, so no window of affordable size could shuffle them.
Row NUMBERS are shuffled over the whole split instead; each batch then reads its rows by offset.
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

from demega_jax.data.grouped import GroupedSplit
from demega_jax.data.rows import RowReader, disk_reader, open_rows
from demega_jax.errors import UserError

HostBatch = dict[str, np.ndarray]
PADDING = -1
READ_THREADS = 2
READ_AHEAD = 3  # batches on the host; after batching, grain's element is a batch


class RowOrder:
    """Row numbers of every step, a pure function of (seed, step).

    uniform: a new permutation of all rows each epoch; the last batch of an epoch is short, and padded by -1.
    balanced: as many draws an epoch as there are rows, with replacement, each class equally likely.
    """

    def __init__(self, labels: Int[np.ndarray, " N"], batch_size: int, seed: int, sampling: str = "uniform"):
        self.labels, self.batch_size, self.seed, self.sampling = labels, batch_size, seed, sampling
        self.steps_per_epoch = -(-len(labels) // batch_size)
        self._lock = threading.Lock()
        self._epochs: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    def row_numbers(self, step: int) -> Int[np.ndarray, " B"]:
        """Rows of the global batch of a step, counted from 0; -1 for padding."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = self._epoch(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        return np.concatenate([rows, np.full(self.batch_size - len(rows), PADDING)])

    def _epoch(self, epoch: int) -> Int[np.ndarray, " N"]:
        with self._lock:
            if epoch not in self._epochs:
                self._epochs[epoch] = self._draw(epoch)
                while len(self._epochs) > 2:  # batches in flight are of this epoch or the next
                    self._epochs.popitem(last=False)
            return self._epochs[epoch]

    def _draw(self, epoch: int) -> Int[np.ndarray, " N"]:
        n = len(self.labels)
        # Named, and keyed by both numbers: `default_rng` may be another generator in a later numpy.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        if self.sampling == "uniform":
            return rng.permutation(n)
        counts = np.bincount(self.labels)
        edges = np.cumsum(1.0 / counts[self.labels])  # n / (classes * n_c), but for a factor
        return np.minimum(np.searchsorted(edges, rng.random(n) * edges[-1], side="right"), n - 1)


class BatchMemory:
    """Memory for the windows of a batch [B, C, T], used again once nothing refers to it.

    Fresh memory costs the system as long to clear as the rows take to read. What is handed out is a view: numpy lets
    every view of it refer to the array that owns the memory, and JAX keeps such a view until it has copied it, or,
    where a CPU device shares it, as long as the placed array lives. So the owner's reference count tells.
    """

    def __init__(self, shape: tuple[int, ...], most: int):
        self._shape, self._most = shape, most
        self._lock = threading.Lock()
        self._owners = [np.empty(shape, np.float32)]
        self._idle = sys.getrefcount(self._owners[0])  # what an owner has when this list alone refers to it

    def take(self) -> Float[np.ndarray, "B C T"]:
        """Memory that nobody reads, with anything in it. Beyond `most` at a time it is new and not kept."""
        with self._lock:
            for i in range(len(self._owners)):
                if sys.getrefcount(self._owners[i]) == self._idle:
                    return self._owners[i][...]
            fresh = np.empty(self._shape, np.float32)
            if len(self._owners) < self._most:
                self._owners.append(fresh)
            return fresh[...]


class _Batches:
    """A grain source: element i is the batch of step i, read when it is asked for."""

    def __init__(self, order: RowOrder, reader: RowReader, labels: np.ndarray, share: slice, memory: BatchMemory):
        self.order, self.reader, self.labels, self.share, self.memory = order, reader, labels, share, memory

    def __len__(self) -> int:
        return 2**62  # the run decides how long it is

    def __getitem__(self, step: int) -> HostBatch:
        rows = self.order.row_numbers(int(step))[self.share]
        return make_batch(self.reader, self.labels, rows, self.memory.take())


def make_batch(
    reader: RowReader, labels: Int[np.ndarray, " N"], rows: Int[np.ndarray, " B"], x: Float[np.ndarray, "B C T"]
) -> HostBatch:
    """The host batch of row numbers, its windows in x; padding (-1) is a row of zeros that is not valid."""
    valid = rows != PADDING
    count = int(valid.sum())  # padding comes last
    reader.read(rows[:count], x[:count])
    x[count:] = 0
    label = np.where(valid, labels[rows], 0).astype(np.int32)
    return {"x": x, "label": label, "valid": valid}


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


class StreamFeed:
    """Training batches without end, read ahead by threads and placed on the devices ahead of the step.

    place: puts a host batch on the devices.  Host p of n reads rows [p B/n, (p+1) B/n) of each global batch.
    `state` and `restore` know one number: the step whose batch comes next.
    """

    def __init__(
        self, split: GroupedSplit, *, batch_size: int, seed: int, memory: int,
        sampling: Literal["uniform", "balanced"] = "uniform", place: Callable[[HostBatch], Any] = _identity,
        process_index: int = 0, process_count: int = 1, prefetch: int = 2,
    ):  # fmt: skip
        share = _share(batch_size, process_index, process_count)
        self.order = RowOrder(split.labels, batch_size, seed, sampling)
        self.steps_per_epoch = self.order.steps_per_epoch
        # Those read ahead, those placed, the one in use, and two that JAX lets go of at its next calls.
        batch_memory = BatchMemory(
            (share.stop - share.start, split.sensors, split.time_points), READ_AHEAD + prefetch + 3
        )
        self._source = _Batches(self.order, open_rows(split, memory), split.labels, share, batch_memory)
        self._place, self._prefetch = place, prefetch
        self._next_step, self._waited = 0, 0.0
        self._placed: collections.deque[Any] = collections.deque()
        self._batches: Any = None

    def _start(self) -> Any:
        options = grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=READ_AHEAD)
        batches = iter(grain.MapDataset.source(self._source).to_iter_dataset(options))
        batches.set_state({"next_index": self._next_step})
        return batches

    def __iter__(self) -> "StreamFeed":
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        if self._batches is None:
            self._batches = self._start()
        while len(self._placed) < self._prefetch:
            self._placed.append(self._place(next(self._batches)))
        self._next_step += 1
        self._waited += time.perf_counter() - began
        return self._placed.popleft()

    def take_input_wait(self) -> float:
        """Seconds that `next` took since this was last asked."""
        waited, self._waited = self._waited, 0.0
        return waited

    def state(self) -> dict[str, int]:
        """What `restore` needs to go on with the next batch."""
        return {"next_step": self._next_step}

    def restore(self, state: dict[str, int]) -> None:
        """Go on with the batch of that step."""
        self.close()
        self._next_step = state["next_step"]

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
    """One pass over a split in file order, the last batch padded; one batch is read while another is used."""
    reader, _ = disk_reader(split)  # in order no reader is slow, and none holds the split
    mine = _share(batch_size, process_index, process_count)
    # Those being read, being placed, and in use.
    memory = BatchMemory((mine.stop - mine.start, split.sensors, split.time_points), 4)

    def batch(first: int) -> HostBatch:
        rows = np.arange(first, first + batch_size)
        return make_batch(reader, split.labels, np.where(rows < split.rows, rows, PADDING)[mine], memory.take())

    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(batch, 0)
        for first in range(batch_size, split.rows + batch_size, batch_size):
            current = ahead.result()
            if first < split.rows:
                ahead = thread.submit(batch, first)
            yield place(current)
