"""What feeds whose rows lie on the devices have in common: shares, the order of an epoch, and the place in it.

Rows are dealt to fixed shares; every batch takes an equal part of each, and a device holds whole shares. So no row
crosses devices, and the number of devices changes nothing.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from demega_jax.data.feeds.feed import Feed
from demega_jax.errors import UserError

FITTING_TURNS = 100
Sampling = Literal["uniform", "balanced"]
Seeds = int | tuple[int, ...]
# How an array lies on the devices: dealt along the axis of shares, or whole on each; that axis is the first, or the
# second behind members.
Lie = Literal["shares", "whole", "member shares", "member whole"]


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


def planned_epochs(steps_per_epoch: int, steps_per_dispatch: int) -> int:
    """Epochs that a dispatch can reach into, wherever in the first it begins."""
    return 1 + -(-(steps_per_dispatch - 1) // steps_per_epoch)


class DealtFeed(Feed):
    """Training batches without end from rows dealt to shares; a pure function of (seed, step).

    With several seeds, those of members that train side by side: every array of a batch has members in front, and
    member m's part is what a feed of its seed alone gives.  A child sets `_arrays` and says in `_gather` how rows come
    from them; in `_plan` it may change them.
    """

    def __init__(
        self, labels: Int[np.ndarray, "S n"], there: Bool[np.ndarray, "S n"], *, batch_size: int, seeds: Seeds,
        placement: Any, sampling: Sampling, arrays_lie: Any, steps_per_dispatch: int = 1,
    ):  # fmt: skip
        """labels: of the rows of each share.  there: whether there is such a row; those that are not come last.

        placement: `training.parallel.Placement`, mode jit.  arrays_lie: how `_arrays` lie on the devices (`Lie`), all
        alike or each by name.  steps_per_dispatch: steps that `take` plans for.
        """
        super().__init__()
        shares = len(labels)
        self.members = None if isinstance(seeds, int) else len(seeds)
        self.steps_per_dispatch = steps_per_dispatch
        self._placement, self._sampling = placement, sampling
        self._part = batch_size // shares
        self.steps_per_epoch = steps_of(labels.shape[1], batch_size, shares)
        self._planned = planned_epochs(self.steps_per_epoch, steps_per_dispatch)
        self._counts = placement.dealt(there.sum(axis=1).astype(np.int32))
        self._shares = placement.dealt(np.arange(shares, dtype=np.uint32))
        self._weights = placement.dealt(_cumulative(labels, there, sampling))
        keys = [jax.random.key_data(jax.random.key(s, impl="threefry2x32")) for s in np.atleast_1d(seeds).tolist()]
        self._keys = placement.replicate(np.stack(keys) if self.members else np.asarray(keys[0]))
        self._arrays: dict[str, Array] = {}
        self._draw_order = self._by_share(
            self._orders, lie=("member whole", "shares", "shares", "shares", "whole"), result="member shares"
        )
        #: (arrays, order, counts, place) -> the batch of one step; may be part of a larger program.
        self.draw = self._by_share(
            self._batch_of_shares, lie=(arrays_lie, "member shares", "shares", "whole"), result="member shares",
            finish=self._finish,
        )  # fmt: skip
        self._go_on = jax.jit(lambda place, steps: place + steps, static_argnums=1)
        self._order: Any = None
        self._place: Any = None
        self._first_epoch = -1

    def _by_share(self, function: Callable[..., Any], *, lie: Any, result: Lie, **options: Any) -> Any:
        """`function`, of one model, on each device for its own shares: for each member, where there are members."""
        if self.members:
            function = jax.vmap(function, in_axes=jax.tree.map(lambda how: 0 if "member" in how else None, lie))
        else:
            lie, result = jax.tree.map(_of_one, (lie, result))
        return self._placement.by_share(function, lie=lie, result=result, **options)

    def _gather(self, arrays: dict[str, Array], row: Int[Array, "s p"], slot: Int[Array, ""]) -> dict[str, Array]:
        """x, label, .. [s p, ..] of the rows, share by share; slot: the first one's place in the planned order."""
        raise NotImplementedError

    def _finish(self, batch: dict[str, Array]) -> dict[str, Array]:
        """The batch from what `_gather` gives, row by row."""
        return batch

    def _plan(self, epochs: Int[Array, " E"], order: Int[Array, "S E slots"]) -> None:
        """Make `_arrays` ready for these epochs."""

    def _orders(
        self, key: UInt32[Array, "2"], share: Array, count: Array, weights: Array, epochs: Int[Array, " E"]
    ) -> Int[Array, "s E slots"]:
        """Rows of each epoch in each of a device's shares; those that are no rows at the end."""
        slots = self.steps_per_epoch * self._part

        def one(share: Array, count: Array, weights: Array, epoch: Array) -> Array:
            drawn = jax.random.fold_in(jax.random.fold_in(key_of(key), epoch), share)
            if self._sampling == "balanced":
                at = jax.random.uniform(drawn, (slots,)) * weights[-1]
                return jnp.minimum(jnp.searchsorted(weights, at, side="right"), count - 1).astype(jnp.int32)
            number = jnp.arange(slots, dtype=jnp.int32)
            empty = (number >= count).astype(jnp.uint32)
            return jax.lax.sort((empty, jax.random.bits(drawn, (slots,)), number), num_keys=2)[2]

        return jax.vmap(jax.vmap(one, in_axes=(None, None, None, 0)), in_axes=(0, 0, 0, None))(
            share, count, weights, epochs
        )

    def _batch_of_shares(self, arrays: dict[str, Array], order: Array, count: Array, place: Array) -> dict[str, Array]:
        """This device's rows of a batch, share by share; place: of its step in the planned epochs."""
        slot = place * self._part
        in_epoch = slot % order.shape[2]
        valid = in_epoch + jnp.arange(self._part) < count[:, None]
        order = order.reshape(order.shape[0], -1)
        row = jnp.where(valid, jax.lax.dynamic_slice_in_dim(order, slot, self._part, axis=1), 0)
        return self._gather(arrays, row, slot) | {"valid": valid.reshape(-1)}

    def take(self, steps: int) -> tuple[Any, ...]:
        """What `draw` draws the next so many batches from, the last of it being the place of the first."""
        began = time.perf_counter()
        epoch, place = divmod(self._next_step, self.steps_per_epoch)
        last = (self._next_step + steps - 1) // self.steps_per_epoch
        if self._place is None or not self._first_epoch <= epoch <= last < self._first_epoch + self._planned:
            epochs = self._placement.replicate(np.arange(epoch, epoch + self._planned, dtype=np.uint32))
            self._order = self._draw_order(self._keys, self._shares, self._counts, self._weights, epochs)
            self._plan(epochs, self._order)
            self._place, self._first_epoch = self._placement.replicate(np.int32(place)), epoch
        inputs = (self._arrays, self._order, self._counts, self._place)
        self._place = self._go_on(self._place, steps)
        self._next_step += steps
        self._waited += time.perf_counter() - began
        return inputs

    def __next__(self) -> dict[str, Array]:
        return self.draw(*self.take(1))

    def restore(self, state: dict[str, int]) -> None:
        """Go on with the batch of that step; the data stay on the devices."""
        self._next_step, self._place = state["next_step"], None

    def close(self) -> None:
        """Let the devices' memory go."""
        self._arrays, self._order, self._place = {}, None, None


def _of_one(how: Lie) -> Lie:
    return "shares" if how.endswith("shares") else "whole"


def of_members(how: Lie) -> Lie:
    """The same behind an axis of members."""
    return "member shares" if how.endswith("shares") else "member whole"


def key_of(data: UInt32[Array, "2"]) -> Array:
    """The threefry key of these words."""
    return jax.random.wrap_key_data(data, impl="threefry2x32")


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
    """The chance of each class in the draws of each share, which draws as many rows as it has, so that over all shares
    every class is equally likely, though rare classes are not in all of them.

    Iterative proportional fitting (Deming and Stephan, 1940), begun at even chances of rows of a class.
    """
    present = counts.sum(axis=0) > 0
    filled = counts.sum(axis=1) > 0
    part = counts[filled].sum(axis=1, keepdims=True) / counts.sum()
    chance = counts[filled][:, present] / counts[:, present].sum(axis=0)
    for _ in range(FITTING_TURNS):
        chance /= chance.sum(axis=0) * present.sum()
        chance *= part / chance.sum(axis=1, keepdims=True)
    found = np.zeros(counts.shape)
    found[np.ix_(filled, present)] = chance / part
    return found
