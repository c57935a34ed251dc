"""A whole split on the devices: order drawn and rows gathered there, so that the host does nothing during training.

Rows are dealt by seed to fixed shares; every batch takes an equal part of each, and a device holds whole shares. So no
row crosses devices, and the number of devices changes nothing.
"""

import math
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from demega_jax.data.feed import Feed
from demega_jax.data.grouped import GroupedSplit
from demega_jax.data.rows import disk_reader, host_dtype
from demega_jax.data.stream import row_statistics
from demega_jax.errors import UserError, warn

FILL_BYTES = 2**26  # of rows on their way to the devices, at most
LARGEST_HALF = 6e4  # float16 ends at 65,504


def deal(labels: Int[np.ndarray, " N"], shares: int, seed: int) -> Int[np.ndarray, "S n"]:
    """Row numbers of each share, -1 where a share has one row less: shuffled by seed, then dealt class by class, so
    that shares have the same number of each class, give or take one."""
    order = np.random.Generator(np.random.Philox(key=[seed, 2**63])).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    each = -(-len(labels) // shares)
    dealt = np.full(each * shares, -1, np.int64)
    dealt[: len(order)] = order
    return np.ascontiguousarray(dealt.reshape(each, shares).T)


def device_bytes(split: GroupedSplit, shares: int, devices: int, dtype: str) -> int:
    """Bytes that the split takes on each device."""
    each = -(-split.rows // shares) * shares // devices
    per_row = split.sensors * split.time_points * np.dtype(dtype).itemsize
    return each * (per_row + sum(values.shape[1] * 4 for values, _ in row_statistics(split).values()))


def check_shares(shares: int, devices: int, batch_size: int, mode: str) -> None:
    """UserError unless devices hold whole shares and a batch takes an equal part of each."""
    if mode != "jit":
        raise UserError("--parallel", f"{mode} with data.feed=resident", "jit", "use --parallel jit, or feed=stream")
    if shares % devices:
        near = math.ceil(shares / devices) * devices
        raise UserError(
            "data.shares", f"{shares} shares over {devices} devices", f"a multiple of {devices}",
            f"use data.shares={near}, or another --devices",
        )  # fmt: skip
    if batch_size % shares:
        near = max(1, batch_size // shares) * shares
        raise UserError(
            "train.batch_size", f"{batch_size} rows from {shares} shares (data.shares)", f"a multiple of {shares}",
            f"use train.batch_size={near}",
        )  # fmt: skip


class ResidentFeed(Feed):
    """Training batches without end from a split that lies on the devices; a pure function of (seed, step).

    placement: `training.parallel.Placement`, mode jit.  dtype: of the windows there; float16 saturates, with a warning.
    Batches are as `StreamFeed`'s: x [B, C, T], label [B], valid [B], and the rows' statistics where there are some.
    """

    def __init__(
        self, split: GroupedSplit, *, batch_size: int, seed: int, shares: int, dtype: str, placement: Any,
        sampling: Literal["uniform", "balanced"] = "uniform",
    ):  # fmt: skip
        super().__init__()
        check_shares(shares, placement.devices, batch_size, placement.mode)
        self.device_bytes = device_bytes(split, shares, placement.devices, dtype)
        self._part = batch_size // shares
        rows = deal(split.labels, shares, seed)
        self.steps_per_epoch = -(-rows.shape[1] // self._part)
        self._arrays = _load(split, rows, np.dtype(dtype), placement)
        self._counts = placement.dealt((rows >= 0).sum(axis=1).astype(np.int32))
        self._shares = placement.dealt(np.arange(shares, dtype=np.uint32))
        self._weights = placement.dealt(_cumulative(split.labels, rows, sampling))
        self._seed, self._sampling = seed, sampling
        self._draw_order = placement.by_share(self._order_of_share, dealt=(True, True, True, False))
        self._draw_batch = placement.by_share(self._batch_of_shares, dealt=(True, True, True, False))
        self._next_place = jax.jit(lambda place: place + 1, donate_argnums=0)
        self._whole = placement.replicate
        self._order: Any = None
        self._place: Any = None
        self._epoch = -1

    def _order_of_share(self, share: Array, count: Array, weights: Array, epoch: Array) -> Array:
        """Rows of an epoch in each of a device's shares [s, steps x part], those that are no rows at the end."""
        slots = self.steps_per_epoch * self._part

        def one(share: Array, count: Array, weights: Array) -> Array:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self._seed, impl="threefry2x32"), epoch), share)
            if self._sampling == "balanced":
                at = jax.random.uniform(key, (slots,)) * weights[-1]
                return jnp.minimum(jnp.searchsorted(weights, at, side="right"), count - 1).astype(jnp.int32)
            number = jnp.arange(slots, dtype=jnp.int32)
            empty = (number >= count).astype(jnp.uint32)
            return jax.lax.sort((empty, jax.random.bits(key, (slots,)), number), num_keys=2)[2]

        return jax.vmap(one)(share, count, weights)

    def _batch_of_shares(self, arrays: dict[str, Array], order: Array, count: Array, place: Array) -> dict[str, Array]:
        """This device's rows of a batch, share by share."""
        slot = place * self._part + jnp.arange(self._part)
        valid = slot < count[:, None]
        row = jnp.where(valid, jax.lax.dynamic_slice_in_dim(order, place * self._part, self._part, axis=1), 0)
        batch = {name: jax.vmap(lambda values, i: values[i])(values, row) for name, values in arrays.items()}
        batch = {name: values.reshape(-1, *values.shape[2:]) for name, values in batch.items()}
        return batch | {"valid": valid.reshape(-1)}

    def __next__(self) -> dict[str, Array]:
        began = time.perf_counter()
        epoch, place = divmod(self._next_step, self.steps_per_epoch)
        if epoch != self._epoch or self._place is None:
            self._order = self._draw_order(self._shares, self._counts, self._weights, self._whole(np.uint32(epoch)))
            self._place, self._epoch = self._whole(np.int32(place)), epoch
        batch = self._draw_batch(self._arrays, self._order, self._counts, self._place)
        self._place = self._next_place(self._place)
        self._next_step += 1
        self._waited += time.perf_counter() - began
        return batch

    def restore(self, state: dict[str, int]) -> None:
        """Go on with the batch of that step; the split stays on the devices."""
        self._next_step, self._place = state["next_step"], None

    def close(self) -> None:
        """Let the devices' memory go."""
        self._arrays, self._order, self._place = {}, None, None


def _cumulative(labels: np.ndarray, rows: np.ndarray, sampling: str) -> np.ndarray:
    """Running sums of the rows' chances in each share, 1 / n_c each, of all rows n_c of the class; [S, 1] unused."""
    if sampling == "uniform":
        return np.zeros((len(rows), 1), np.float32)
    chance = np.where(rows >= 0, 1.0 / np.bincount(labels)[labels[rows]], 0.0)
    return np.cumsum(chance, axis=1).astype(np.float32)


def _load(split: GroupedSplit, rows: np.ndarray, dtype: np.dtype, placement: Any) -> dict[str, Array]:
    """The split's arrays [S, n, ..] on the devices, filled in place a few rows of every share at a time."""
    reader, _ = disk_reader(split)
    shares, each = rows.shape
    per_row = split.sensors * split.time_points
    x = placement.dealt_zeros((shares, each, split.sensors, split.time_points), dtype)
    fill = placement.by_share(
        lambda whole, some, at: jax.lax.dynamic_update_slice_in_dim(whole, some, at, axis=1),
        dealt=(True, True, False), donate=(0,),
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
