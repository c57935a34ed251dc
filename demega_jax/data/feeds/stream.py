"""The stream feed: batches that a grain pipeline reads from disk or memory, ahead of the step that uses them.

    grain.MapDataset.source(order)      the row numbers of each step's batch, a pure function of (seed, step)
                    .map(read)          their rows
                    .to_iter_dataset()  read ahead by threads, with an exact position

The hub's files are sorted by label, and no shuffle buffer of affordable size could mix them. So row NUMBERS are
shuffled over the whole split. The rows of shards were permuted when they were written; there, whole blocks are
shuffled. numpy makes the order and the batches, as grain's shuffle and batch cost more than a tenth of the rows per
second (benchmarks/NOTES.md).
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grain
import numpy as np

from demega_jax.data.feeds.feed import Batch, Feed, FeedPlan, Placement, RowSpec, Sampling, batch_specs, sampling_line
from demega_jax.data.feeds.host_batch import BatchReader, HostBatch
from demega_jax.data.feeds.order import PADDING, Order, order_of
from demega_jax.data.rows import open_rows
from demega_jax.data.split import Split
from demega_jax.data.spread import check_spread
from demega_jax.errors import UserError

READ_THREADS = 2
READ_AHEAD = 3  # batches that are read ahead on the host

Put = Callable[[HostBatch], Any]


def host_share(rows: int, process_index: int, process_count: int) -> slice:
    """The rows of a global batch that a host reads. rows: those of the batch, with padding that divides it over the
    hosts. UserError: they do not divide."""
    each, left = divmod(rows, process_count)
    if left:
        came, near = f"{rows} rows over {process_count} hosts", max(1, each) * process_count
        raise UserError("train.batch_size", came, f"a multiple of {process_count}", f"use train.batch_size={near}")
    return slice(process_index * each, (process_index + 1) * each)


def _unplaced(batch: HostBatch) -> HostBatch:
    return batch


class SplitPlan(FeedPlan):
    """The common part of the plans of feeds that read the rows of a split."""

    rows: Split

    @property
    def batch(self) -> Mapping[str, RowSpec]:
        """The arrays of a batch by name, with the rows in the split's type."""
        return batch_specs(self.rows.window, self.rows.dtype, self.rows.row_array_sizes)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every row has come once; the last batch can be short."""
        return -(-self.rows.rows // self.batch_size)

    def check_spread(self, how: str) -> None:
        """Warn if the windows are too small for this normalisation."""
        check_spread(self.rows, how)


@dataclasses.dataclass(frozen=True, eq=False)
class StreamPlan(SplitPlan):
    """The plan of a `StreamFeed`.

    memory: a split of at most so many bytes is held in memory.  prefetch: batches that are put on the devices ahead.
    """

    rows: Split
    batch_size: int
    seed: int
    sampling: Sampling
    memory: int
    prefetch: int
    name = "stream"

    def check(self, placement: Placement) -> None:
        """Nothing to check: no rows stay on the devices, and `training` checks that they can share a batch."""

    def describe(self, devices: int) -> list[str]:
        """How rows are sampled, unless that is uniform."""
        return sampling_line(self.rows, self.sampling)

    def open(self, placement: Placement) -> "StreamFeed":
        """The feed itself, at its first step."""
        who = {"process_index": placement.process, "process_count": placement.processes}
        return StreamFeed(self, placement.put_batch, rows=self.placed_rows(placement), **who)


class StreamFeed(Feed):
    """Training batches without end. Threads read them ahead, and they are put on the devices ahead of the step."""

    def __init__(
        self,
        plan: StreamPlan,
        place: Put = _unplaced,
        *,
        rows: int | None = None,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """place: puts a host batch on the devices.  rows: of a batch B with padding; None: without. Host p of n reads
        rows [p B/n, (p+1) B/n) of each global batch."""
        super().__init__()
        split = plan.rows
        self.order: Order = order_of(split, plan.batch_size, plan.seed, plan.sampling)
        self._padding = np.full((rows or plan.batch_size) - plan.batch_size, PADDING)
        self._share = host_share(rows or plan.batch_size, process_index, process_count)
        # Batches read ahead and placed ahead, the one in use, and two that JAX frees at its next calls.
        most = READ_AHEAD + plan.prefetch + 3
        own = self._share.stop - self._share.start
        self._batch_reader = BatchReader(split, open_rows(split, plan.memory), own, most)
        self._place, self._prefetch = place, plan.prefetch
        self._placed: collections.deque[Any] = collections.deque()
        self._batches: Any = None

    def _start(self) -> Any:
        options = grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=READ_AHEAD)
        pipeline = grain.MapDataset.source(self.order).map(self._read).to_iter_dataset(options)
        batches = iter(pipeline)
        batches.set_state({"next_index": self._next_step})
        return batches

    def _read(self, rows: np.ndarray) -> HostBatch:
        return self._batch_reader.read(np.concatenate([rows, self._padding])[self._share])

    def __next__(self) -> Batch:
        with self._waiting():
            if self._batches is None:
                self._batches = self._start()
            while len(self._placed) < self._prefetch:
                self._placed.append(self._place(next(self._batches)))
            self._next_step += 1
            return self._placed.popleft()

    def close(self) -> None:
        """Stop the threads that read ahead."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None
        self._placed.clear()


def split_batches(
    split: Split, *, batch_size: int, place: Put = _unplaced, process_index: int = 0, process_count: int = 1
) -> Iterator[Any]:
    """One pass over a split in its own order. The last batch is padded; one batch is read while another is used."""
    mine = host_share(batch_size, process_index, process_count)
    # Every reader is fast when rows are read in order, so the split is not loaded into memory.
    # At most 4 batches exist at the same time: those being read, being placed, and in use.
    batch_reader = BatchReader(split, split.reader(), mine.stop - mine.start, 4)

    def batch(first: int) -> HostBatch:
        rows = np.arange(first, first + batch_size)
        return batch_reader.read(np.where(rows < split.rows, rows, PADDING)[mine])

    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(batch, 0)
        for first in range(batch_size, split.rows + batch_size, batch_size):
            current = ahead.result()
            if first < split.rows:
                ahead = thread.submit(batch, first)
            yield place(current)
