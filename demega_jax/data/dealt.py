"""What feeds whose rows lie on the devices have in common: shares, the order of an epoch, and the place in it.

Rows are dealt to fixed shares; every batch takes an equal part of each, and a device holds whole shares. So no row
crosses devices, and the number of devices changes nothing.
"""

import math
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from demega_jax.data.feed import Feed
from demega_jax.errors import UserError

FITTING_TURNS = 100
Sampling = Literal["uniform", "balanced"]


def deal(labels: Int[np.ndarray, " N"], shares: int, seed: int) -> Int[np.ndarray, "S n"]:
    """Row numbers of each share, -1 where a share has one row less: shuffled by seed, then dealt class by class, so
    that shares have the same number of each class, give or take one."""
    order = np.random.Generator(np.random.Philox(key=[seed, 2**63])).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    each = -(-len(labels) // shares)
    dealt = np.full(each * shares, -1, np.int64)
    dealt[: len(order)] = order
    return np.ascontiguousarray(dealt.reshape(each, shares).T)


def check_shares(shares: int, devices: int, batch_size: int, mode: str, feed: str = "resident") -> None:
    """UserError unless devices hold whole shares and a batch takes an equal part of each."""
    if mode != "jit":
        raise UserError("--parallel", f"{mode} with data.feed={feed}", "jit", "use --parallel jit, or feed=stream")
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


def steps_of(longest_share: int, batch_size: int, shares: int) -> int:
    """Steps of an epoch: until the longest share is through."""
    return -(-longest_share // (batch_size // shares))


class DealtFeed(Feed):
    """Training batches without end from rows dealt to shares; a pure function of (seed, step).

    labels [S, n]: of the rows of each share, and there [S, n]: whether there is such a row; those that are not come
    last in a share.  placement: `training.parallel.Placement`, mode jit.  A child sets `_arrays` and says in `_gather`
    how rows come from them; in `_plan_epoch` it may change them.
    """

    def __init__(
        self, labels: Int[np.ndarray, "S n"], there: Bool[np.ndarray, "S n"], *, batch_size: int, seed: int,
        placement: Any, sampling: Sampling, arrays_dealt: Any,
    ):  # fmt: skip
        """arrays_dealt: whether `_arrays`, or each of them by name, are dealt along the first axis, or whole."""
        super().__init__()
        shares = len(labels)
        self._part = batch_size // shares
        self.steps_per_epoch = steps_of(labels.shape[1], batch_size, shares)
        self._counts = placement.dealt(there.sum(axis=1).astype(np.int32))
        self._shares = placement.dealt(np.arange(shares, dtype=np.uint32))
        self._weights = placement.dealt(_cumulative(labels, there, sampling))
        self._seed, self._sampling = seed, sampling
        self._arrays: dict[str, Array] = {}
        self._draw_order = placement.by_share(self._order_of_share, dealt=(True, True, True, False))
        self._draw_batch = placement.by_share(
            self._batch_of_shares, dealt=(arrays_dealt, True, True, False), finish=self._finish
        )
        self._next_place = jax.jit(lambda place: place + 1, donate_argnums=0)
        self._whole = placement.replicate
        self._order: Any = None
        self._place: Any = None
        self._epoch = -1

    def _gather(self, arrays: dict[str, Array], row: Int[Array, "s p"], slot: Int[Array, ""]) -> dict[str, Array]:
        """x, label, .. [s p, ..] of the rows, share by share; slot: the first one's place in the epoch's order."""
        raise NotImplementedError

    def _finish(self, batch: dict[str, Array]) -> dict[str, Array]:
        """The batch from what `_gather` gives, row by row."""
        return batch

    def _plan_epoch(self, epoch: Array, order: Int[Array, "S slots"]) -> None:
        """Make `_arrays` ready for an epoch."""

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
        slot = place * self._part
        valid = slot + jnp.arange(self._part) < count[:, None]
        row = jnp.where(valid, jax.lax.dynamic_slice_in_dim(order, slot, self._part, axis=1), 0)
        return self._gather(arrays, row, slot) | {"valid": valid.reshape(-1)}

    def __next__(self) -> dict[str, Array]:
        began = time.perf_counter()
        epoch, place = divmod(self._next_step, self.steps_per_epoch)
        if epoch != self._epoch or self._place is None:
            number = self._whole(np.uint32(epoch))
            self._order = self._draw_order(self._shares, self._counts, self._weights, number)
            self._plan_epoch(number, self._order)
            self._place, self._epoch = self._whole(np.int32(place)), epoch
        batch = self._draw_batch(self._arrays, self._order, self._counts, self._place)
        self._place = self._next_place(self._place)
        self._next_step += 1
        self._waited += time.perf_counter() - began
        return batch

    def restore(self, state: dict[str, int]) -> None:
        """Go on with the batch of that step; the data stay on the devices."""
        self._next_step, self._place = state["next_step"], None

    def close(self) -> None:
        """Let the devices' memory go."""
        self._arrays, self._order, self._place = {}, None, None


def _cumulative(labels: np.ndarray, there: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Running sums of the rows' chances in each share; [S, 1] unused for uniform sampling."""
    if sampling == "uniform":
        return np.zeros((len(labels), 1), np.float32)
    share = np.broadcast_to(np.arange(len(labels))[:, None], labels.shape)
    counts = np.zeros((len(labels), int(labels[there].max()) + 1))
    np.add.at(counts, (share[there], labels[there]), 1)
    each = class_chances(counts) / np.maximum(counts, 1)
    chance = np.zeros(labels.shape)
    chance[there] = each[share[there], labels[there]]
    return np.cumsum(chance, axis=1).astype(np.float32)


def class_chances(counts: Float[np.ndarray, "S V"]) -> Float[np.ndarray, "S V"]:
    """The chance of each class in the draws of each share, so that over all shares every class is equally likely,
    though rare classes are not in all of them.

    Iterative proportional fitting (Deming and Stephan, 1940), begun at even chances of rows of a class.
    """
    present = counts.sum(axis=0) > 0
    filled = counts.sum(axis=1) > 0
    chance = counts[filled][:, present] / counts[:, present].sum(axis=0)
    for _ in range(FITTING_TURNS):
        chance /= chance.sum(axis=0) / (len(chance) / present.sum())
        chance /= chance.sum(axis=1, keepdims=True)
    found = np.zeros(counts.shape)
    found[np.ix_(filled, present)] = chance
    return found
