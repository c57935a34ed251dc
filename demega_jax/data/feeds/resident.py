"""A whole split on the devices: order drawn and rows gathered there, so that the host does nothing during training."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

from demega_jax.data.feeds.sharded import DealtFeed, Sampling, Seeds, check_shares, deal
from demega_jax.data.feeds.stream import row_statistics
from demega_jax.data.grouped import GroupedSplit
from demega_jax.data.rows import disk_reader, host_dtype
from demega_jax.errors import warn

FILL_BYTES = 2**26  # of rows on their way to the devices, at most
LARGEST_HALF = 6e4  # float16 ends at 65,504


def device_bytes(split: GroupedSplit, shares: int, devices: int, dtype: str) -> int:
    """Bytes that the split takes on each device."""
    each = -(-split.rows // shares) * shares // devices
    per_row = split.sensors * split.time_points * np.dtype(dtype).itemsize
    return each * (per_row + sum(values.shape[1] * 4 for values, _ in row_statistics(split).values()))


class ResidentFeed(DealtFeed):
    """Training batches without end from a split that lies on the devices; a pure function of (seed, step).

    placement: `training.parallel.Placement`, mode jit.  dtype: of the windows there; float16 saturates, with a warning.
    Batches are as `StreamFeed`'s: x [B, C, T], label [B], valid [B], and the rows' statistics where there are some.
    """

    def __init__(
        self, split: GroupedSplit, *, batch_size: int, seeds: Seeds, shares: int, shares_seed: int, dtype: str,
        placement: Any, sampling: Sampling = "uniform", steps_per_dispatch: int = 1,
    ):  # fmt: skip
        check_shares(shares, placement.devices, batch_size, placement.mode)
        rows = deal(split.labels, shares, shares_seed)
        super().__init__(
            split.labels[rows], rows >= 0, batch_size=batch_size, seeds=seeds, placement=placement, sampling=sampling,
            arrays_lie="shares", steps_per_dispatch=steps_per_dispatch,
        )  # fmt: skip
        self.device_bytes = device_bytes(split, shares, placement.devices, dtype)
        self._arrays = _load(split, rows, np.dtype(dtype), placement)

    def _gather(self, arrays: dict[str, Array], row: Int[Array, "s p"], slot: Int[Array, ""]) -> dict[str, Array]:
        """Rows of each share, by their numbers there."""
        batch = {name: jax.vmap(lambda values, i: values[i])(values, row) for name, values in arrays.items()}
        return {name: values.reshape(-1, *values.shape[2:]) for name, values in batch.items()}


def _load(split: GroupedSplit, rows: np.ndarray, dtype: np.dtype, placement: Any) -> dict[str, Array]:
    """The split's arrays [S, n, ..] on the devices, filled in place a few rows of every share at a time."""
    reader, _ = disk_reader(split)
    shares, each = rows.shape
    per_row = split.sensors * split.time_points
    x = placement.zeros((shares, each, split.sensors, split.time_points), dtype, dealt=True)
    fill = placement.by_share(
        lambda whole, some, at: jax.lax.dynamic_update_slice_in_dim(whole, some, at, axis=1),
        lie=("shares", "shares", "whole"), donate=(0,),
    )  # fmt: skip
    step = max(1, FILL_BYTES // (per_row * 4 * shares))
    saturated = 0
    for first in range(0, each, step):
        chosen = rows[:, first : first + step]
        read = reader.read(np.maximum(chosen, 0).ravel())
        if dtype == np.float16 and host_dtype(split) != np.float16:
            saturated += int((np.abs(read) > LARGEST_HALF).sum())
            read = np.clip(read, -LARGEST_HALF, LARGEST_HALF)
        some = read.astype(dtype, copy=False).reshape(*chosen.shape, split.sensors, split.time_points)
        x = fill(x, placement.dealt(some), placement.replicate(np.int32(first)))
    if saturated:
        warn(f"{split.path}: {saturated} values beyond {LARGEST_HALF:g} were set to it (data.dtype=float16)")
    small = {"label": split.labels.astype(np.int32)} | {n: values for n, (values, _) in row_statistics(split).items()}
    return {"x": x} | {name: placement.dealt(values[np.maximum(rows, 0)]) for name, values in small.items()}
