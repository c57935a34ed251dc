"""Which rows each step trains on, as pure functions of (seed, step)."""

import collections
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from demega_jax.data.draws import generator
from demega_jax.data.split import Split

PADDING = -1


class Order:
    """An order of rows for each epoch, divided into batches. The last batch of an epoch is filled up with -1."""

    def __init__(self, rows: int, batch_size: int, seed: int):
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = -(-rows // batch_size)
        self._lock = threading.Lock()
        self._epochs: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    def __len__(self) -> int:
        """Practically without end, as the training run decides how many steps it takes."""
        return 2**62

    def __getitem__(self, step: int) -> Int[np.ndarray, " B"]:
        """`row_numbers`, so that grain can use an order as its source."""
        return self.row_numbers(int(step))

    def row_numbers(self, step: int) -> Int[np.ndarray, " B"]:
        """Rows of the global batch of a step, counted from 0; -1 for padding."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = self._epoch(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        return np.concatenate([rows, np.full(self.batch_size - len(rows), PADDING)])

    def _epoch(self, epoch: int) -> Int[np.ndarray, " N"]:
        with self._lock:
            if epoch not in self._epochs:
                rng = generator(self.seed, epoch)
                self._epochs[epoch] = self._draw(rng)
                while len(self._epochs) > 2:  # batches that are being read are of this epoch or the next
                    self._epochs.popitem(last=False)
            return self._epochs[epoch]

    def _draw(self, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
        raise NotImplementedError


class RowOrder(Order):
    """Rows in an order drawn for each epoch.

    uniform: a new permutation of all rows each epoch.
    balanced: as many draws an epoch as there are rows, with replacement, each class equally likely.
    """

    def __init__(self, labels: Int[np.ndarray, " N"], batch_size: int, seed: int, sampling: str = "uniform"):
        super().__init__(len(labels), batch_size, seed)
        self.labels, self.sampling = labels, sampling

    def _draw(self, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
        n = len(self.labels)
        if self.sampling == "uniform":
            return rng.permutation(n)
        counts = np.bincount(self.labels)
        edges = np.cumsum(1.0 / counts[self.labels])  # proportional to n / (classes * n_c)
        return np.minimum(np.searchsorted(edges, rng.random(n) * edges[-1], side="right"), n - 1)


class BlockOrder(Order):
    """Rows that were permuted when they were written, in a new permutation of BLOCKS each epoch.

    The rows of a block follow each other, so that one read gives them all. Batches go on from block to block, so that
    every row comes once an epoch. A block is `block_rows` rows of one shard; the last block of a shard can be shorter.
    """

    def __init__(self, shard_rows: Sequence[int], block_rows: int, batch_size: int, seed: int):
        super().__init__(sum(shard_rows), batch_size, seed)
        ends = np.cumsum(shard_rows)
        edges = [np.arange(end - rows, end, block_rows) for rows, end in zip(shard_rows, ends, strict=True)]
        self.starts = np.concatenate(edges)  # [M], first row of each block
        self.lengths = np.diff(self.starts, append=ends[-1])

    def _draw(self, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
        blocks = rng.permutation(len(self.starts))
        lengths = self.lengths[blocks]
        places = np.cumsum(lengths) - lengths  # where each block begins in the epoch
        return np.arange(lengths.sum()) + np.repeat(self.starts[blocks] - places, lengths)


def order_of(split: Split, batch_size: int, seed: int, sampling: str = "uniform") -> Order:
    """The order by blocks, if the split's rows were permuted and sampling is uniform; otherwise the order by rows."""
    blocks = split.shuffled_blocks
    if blocks is not None and sampling == "uniform":
        return BlockOrder(blocks.rows, blocks.size, batch_size, seed)
    return RowOrder(split.labels, batch_size, seed, sampling)
