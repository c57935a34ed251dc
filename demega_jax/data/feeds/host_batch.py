"""Batches in the host's memory, which is used again for later batches."""

import sys
import threading
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.feeds.order import PADDING
from demega_jax.data.split import ROW_PADDING, RowReader, Split

HostBatch = dict[str, np.ndarray]


class BatchMemory:
    """Memory for the windows of a batch [B, C, T], which is used again when nothing refers to it any more.

    The system needs as long to clear new memory as the rows take to read. `take` returns a view. Every view of it
    refers to the array that owns the memory, and JAX keeps such a view until it has copied it, or, where a CPU device
    shares the memory, as long as the placed array exists. So the reference count of the owner says whether it is free.
    """

    def __init__(self, shape: tuple[int, ...], most: int, dtype: np.dtype | type = np.float32):
        self._shape, self._most, self._dtype = shape, most, dtype
        self._lock = threading.Lock()
        self._owners = [np.empty(shape, dtype)]
        self._idle = sys.getrefcount(self._owners[0])  # the count when only this list refers to an owner

    def take(self) -> Float[np.ndarray, "B C T"]:
        """Free memory, not cleared. If `most` arrays are in use, it is new memory, which is not used again."""
        with self._lock:
            for i in range(len(self._owners)):
                if sys.getrefcount(self._owners[i]) == self._idle:
                    return self._owners[i][...]
            fresh = np.empty(self._shape, self._dtype)
            if len(self._owners) < self._most:
                self._owners.append(fresh)
            return fresh[...]


class BatchReader:
    """Host batches of a split by row numbers. The number -1 is padding: a row of zeros that is not valid."""

    def __init__(self, split: Split, reader: RowReader, rows: int, most: int):
        """rows: of a batch.  most: batches that are in use at the same time."""
        self._labels, self._reader = split.labels, reader
        self._beside: Mapping[str, np.ndarray] = split.row_arrays
        self._memory = BatchMemory((rows, *split.window), most, split.dtype)

    def read(self, rows: Int[np.ndarray, " B"]) -> HostBatch:
        """x [B, C, T] in the split's type, label [B] int32, valid [B], and the rows' other arrays by name."""
        valid = rows != PADDING
        count = int(valid.sum())  # padding comes last
        x = self._memory.take()
        self._reader.read(rows[:count], x[:count])
        x[count:] = 0
        batch = {"x": x, "label": np.where(valid, self._labels[rows], 0).astype(np.int32), "valid": valid}
        for name, values in self._beside.items():
            batch[name] = np.where(valid[:, None], values[rows], np.float32(ROW_PADDING[name]))
        return batch
