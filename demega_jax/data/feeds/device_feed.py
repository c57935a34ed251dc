"""The common part of feeds whose data are on the devices: the order of rows in an epoch, and the place in it.

Every batch takes equally many rows of each share, and a device holds whole shares (`shares.py`). So no row moves
between devices, and batches do not depend on the number of devices. Where the shares do not divide over the devices,
the last places are empty, and give rows of padding.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Int, PyTree, UInt32

from demega_jax.data.feeds.feed import (
    MEMBER,
    MEMBER_REPLICATED,
    MEMBER_SHARDED,
    REPLICATED,
    SHARDED,
    Batch,
    Feed,
    FeedPlan,
    Placement,
    Sampling,
    ShareFunction,
)
from demega_jax.data.feeds.shares import check_shares, cumulative_chances
from demega_jax.errors import UserError
from demega_jax.files import format_bytes


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DevicePlan(FeedPlan):
    """The common part of the plans of feeds on the devices.

    seeds: one for each member.  dtype: of the windows or samples on the devices.  shares: number of fixed parts into
    which shares_seed divides the rows.  steps_per_dispatch: most steps that `take` is asked for at a time.
    """

    batch_size: int
    seeds: tuple[int, ...]
    sampling: Sampling
    shares: int
    shares_seed: int
    dtype: str
    steps_per_dispatch: int

    @property
    def members(self) -> int:
        """Models that train side by side."""
        return len(self.seeds)

    @property
    def planned_epochs(self) -> int:
        """The largest number of epochs that the steps of one dispatch can belong to."""
        return 1 + -(-(self.steps_per_dispatch - 1) // self.steps_per_epoch)

    def check(self, placement: Placement) -> None:
        """UserError: shares that do not divide a batch, or data that the devices cannot hold."""
        self.check_shares(placement)
        need, free = self.device_bytes(placement.devices), placement.free_bytes()
        if free is None or need <= free:
            return
        what, smaller = self.held(placement.devices)
        ways_out = ["data.dtype=float16 (half the bytes)", *smaller] if self.dtype == "float32" else smaller
        came = f"with {self.name}, {what} take {format_bytes(need)} on each of {placement.devices} devices"
        raise UserError(
            "data.feed", came, f"at most {format_bytes(free)}, which are free", f"use {', or '.join(ways_out)}"
        )

    def check_shares(self, placement: Placement) -> None:
        """UserError: these devices cannot take whole shares, or a batch cannot take equally many rows of each."""
        check_shares(self.shares, placement.devices, self.batch_size, placement.mode, self.name)

    def places(self, placement: Placement) -> int:
        """Places for shares on all devices. The last ones are empty where the shares do not divide over the devices."""
        return placement.padded(self.shares, self.batch_size // self.shares)

    def placed_rows(self, placement: Placement) -> int:
        """Rows of a batch on the devices, with the rows of padding that empty places give."""
        return self.places(placement) * (self.batch_size // self.shares)

    @abc.abstractmethod
    def held(self, devices: int) -> tuple[str, list[str]]:
        """What the devices hold, and what else takes less memory on them than that."""


class DeviceFeed(Feed):
    """Training batches without end, from rows that are divided into shares; a pure function of (seed, step).

    With several members every array of a batch has the member axis in front, and member m's part is what a feed with
    its seed alone gives. A subclass sets `_arrays`, and `_gather` makes rows from them; `_plan` may change them for
    each epoch.
    """

    draw: Callable[..., Batch]
    """(arrays, order, counts, place) -> the batch of one step."""

    def __init__(
        self,
        labels: Int[np.ndarray, "S n"],
        there: Bool[np.ndarray, "S n"],
        plan: DevicePlan,
        placement: Placement,
        array_specs: PyTree,
    ):
        """labels: of the rows of each place.  there: false for padding at the end of a share that has fewer rows.

        array_specs: the sharding of `_arrays`, one for all or one for each name.
        """
        super().__init__()
        plan.check_shares(placement)
        self.members = plan.members if plan.members > 1 else None
        self._placement, self._sampling = placement, plan.sampling
        self._part = plan.batch_size // plan.shares
        self.steps_per_epoch, self._planned = plan.steps_per_epoch, plan.planned_epochs
        self._counts = placement.put(there.sum(axis=1).astype(np.int32), SHARDED)
        self._shares = placement.put(np.arange(len(labels), dtype=np.uint32), SHARDED)
        self._weights = placement.put(cumulative_chances(labels, there, plan.sampling), SHARDED)
        keys = [jax.random.key_data(jax.random.key(s, impl="threefry2x32")) for s in plan.seeds]
        self._keys = placement.put(np.stack(keys) if self.members else np.asarray(keys[0]), REPLICATED)
        self._arrays: dict[str, Array] = {}
        self._draw_order = self._on_shares(
            self._orders, specs=(MEMBER_REPLICATED, SHARDED, SHARDED, SHARDED, REPLICATED), result=MEMBER_SHARDED
        )
        specs = (array_specs, MEMBER_SHARDED, SHARDED, REPLICATED)
        self.draw = self._on_shares(self._batch_of_shares, specs=specs, result=MEMBER_SHARDED, finish=self._finish)
        self._go_on = placement.on_shares(jnp.add, specs=(REPLICATED, REPLICATED), result=REPLICATED)
        self._steps: dict[int, Array] = {}  # numbers of steps on the devices, so that nothing is sent to go on
        self._order: Array | None = None
        self._place: Array | None = None
        self._first_epoch = -1

    def _on_shares(
        self, function: ShareFunction, *, specs: PyTree, result: PartitionSpec, finish: ShareFunction | None = None
    ) -> ShareFunction:
        """`function`, written for one model, mapped over members if there are any; each device does its shares."""
        if self.members:
            axes = jax.tree.map(lambda spec: 0 if MEMBER in spec else None, specs)
            function = jax.vmap(function, in_axes=axes)
        else:
            specs, result = jax.tree.map(without_members, (specs, result))
        return self._placement.on_shares(function, specs=specs, result=result, finish=finish)

    def _gather(self, arrays: dict[str, Array], row: Int[Array, "s p"], slot: Int[Array, ""]) -> dict[str, Array]:
        """x, label, .. [s p, ..] of the rows, share by share.  slot: place of the first row in the planned order."""
        raise NotImplementedError

    def _finish(self, batch: dict[str, Array]) -> dict[str, Array]:
        """Change the batch that `_gather` gave."""
        return batch

    def _plan(self, epochs: Int[Array, " E"], order: Int[Array, "S E slots"]) -> None:
        """Prepare `_arrays` for these epochs."""

    def _orders(
        self, key: UInt32[Array, "2"], share: Array, count: Array, weights: Array, epochs: Int[Array, " E"]
    ) -> Int[Array, "s E slots"]:
        """The order of rows of each epoch in each of a device's shares; padding comes last."""
        slots = self.steps_per_epoch * self._part

        def one(epoch: Array, share: Array, count: Array, weights: Array) -> Array:
            drawn = jax.random.fold_in(jax.random.fold_in(key_of(key), epoch), share)
            if self._sampling == "balanced":
                at = jax.random.uniform(drawn, (slots,)) * weights[-1]
                return jnp.minimum(jnp.searchsorted(weights, at, side="right"), count - 1).astype(jnp.int32)
            number = jnp.arange(slots, dtype=jnp.int32)
            empty = (number >= count).astype(jnp.uint32)
            return jax.lax.sort((empty, jax.random.bits(drawn, (slots,)), number), num_keys=2)[2]

        return jax.vmap(lambda *each: jax.vmap(lambda epoch: one(epoch, *each))(epochs))(share, count, weights)

    def _batch_of_shares(self, arrays: dict[str, Array], order: Array, count: Array, place: Array) -> dict[str, Array]:
        """This device's rows of a batch, share by share.  place: of the step in the planned epochs."""
        slot = place * self._part
        in_epoch = slot % order.shape[2]
        valid = in_epoch + jnp.arange(self._part) < count[:, None]
        order = order.reshape(order.shape[0], -1)
        row = jnp.where(valid, jax.lax.dynamic_slice_in_dim(order, slot, self._part, axis=1), 0)
        return self._gather(arrays, row, slot) | {"valid": valid.reshape(-1)}

    def take(self, steps: int) -> tuple[PyTree, ...]:
        """The arguments of `draw` for the next batches; the last one is the place of the first of them."""
        with self._waiting():
            epoch, place = divmod(self._next_step, self.steps_per_epoch)
            last = (self._next_step + steps - 1) // self.steps_per_epoch
            if self._place is None or not self._first_epoch <= epoch <= last < self._first_epoch + self._planned:
                epochs = self._placement.put(np.arange(epoch, epoch + self._planned, dtype=np.uint32), REPLICATED)
                self._order = self._draw_order(self._keys, self._shares, self._counts, self._weights, epochs)
                self._plan(epochs, self._order)
                self._place, self._first_epoch = self._placement.put(np.int32(place), REPLICATED), epoch
            inputs = (self._arrays, self._order, self._counts, self._place)
            if steps not in self._steps:
                self._steps[steps] = self._placement.put(np.int32(steps), REPLICATED)
            self._place = self._go_on(self._place, self._steps[steps])
            self._next_step += steps
        return inputs

    def __next__(self) -> Batch:
        return self.draw(*self.take(1))

    def restore(self, state: Mapping[str, int]) -> None:
        """Continue with the batch of the step in `state`; the data stay on the devices."""
        self._next_step, self._place = state["next_step"], None

    def close(self) -> None:
        """Free the devices' memory."""
        self._arrays, self._order, self._place = {}, None, None


def filled(
    shape: tuple[int, ...],
    dtype: np.dtype,
    parts: Iterable[np.ndarray | Array],
    spec: PartitionSpec,
    placement: Placement,
) -> Array:
    """An array on the devices, filled with parts, of the host or there already, one after the other along axis 1.

    Only one part at a time is in the host's memory.
    """
    whole = placement.zeros(shape, dtype, spec)
    fill = placement.on_shares(
        functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=1),
        specs=(spec, spec, REPLICATED),
        result=spec,
        donate=(0,),
        axes=len(shape),
    )
    if not isinstance(whole, jax.Array):
        return whole  # a shape alone, for devices that are not here: nothing is read
    first = 0
    for part in parts:
        placed = placement.put(part, spec) if isinstance(part, np.ndarray) else part
        whole = fill(whole, placed, placement.put(np.int32(first), REPLICATED))
        first += part.shape[1]
    return whole


def without_members(spec: PartitionSpec) -> PartitionSpec:
    """The same sharding without the member axis."""
    return PartitionSpec(*(axis for axis in spec if axis != MEMBER))


def key_of(data: UInt32[Array, "2"]) -> Array:
    """The threefry key that these two words are."""
    return jax.random.wrap_key_data(data, impl="threefry2x32")
