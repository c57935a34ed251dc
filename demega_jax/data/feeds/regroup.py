"""The regroup feed: recordings on the devices, windows of one phoneme averaged there, in new groups every epoch."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from demega_jax.data.feeds.regroup_tables import Layout, Plan
from demega_jax.data.feeds.sharded import DealtFeed, Lie, Sampling, Seeds, check_shares, key_of, of_members
from demega_jax.data.recordings.averaged import RegroupSplit

GATHER = 8  # windows of a row that are added in one pass over the row
WINDOW_KEY = 2**32 - 1  # no epoch has this number: window orders are not drawn from the keys of row orders


def mean_windows(
    x: Float[Array, "n C"], first: Int[Array, "B K"], size: Int[Array, " B"], time_points: int
) -> Float[Array, "B T C"]:
    """Float32 means of the first `size` of each row's K windows, which begin at samples `first` of x.

    GATHER at a time, so that K can be as large as it likes. Places beyond a row's size read sample 0 again and again,
    which costs next to nothing, and count for nothing.
    """
    rows, most = first.shape
    turns = -(-most // GATHER)
    each = -(-most // turns)
    there = jnp.arange(turns * each) < size[:, None]
    first = jnp.where(there, jnp.pad(first, ((0, 0), (0, turns * each - most))), 0)
    weight = there.astype(jnp.float32)
    window = jax.vmap(lambda at: jax.lax.dynamic_slice_in_dim(x, at, time_points, axis=0))

    def add(turn: int | Array, total: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        at = jax.lax.dynamic_slice_in_dim(first, turn * each, each, axis=1)
        share = jax.lax.dynamic_slice_in_dim(weight, turn * each, each, axis=1)
        for i in range(each):
            total = total + share[:, i, None, None] * window(at[:, i]).astype(jnp.float32)
        return total

    total = add(0, jnp.zeros((rows, time_points, x.shape[1]), jnp.float32))
    total = jax.lax.fori_loop(1, turns, add, total)
    return total / jnp.maximum(size, 1)[:, None, None]


class RegroupFeed(DealtFeed):
    """Training batches without end, every row the mean of windows of one phoneme; a pure function of (seed, step).

    Each epoch draws a new order of each class's windows, from which the plan's groups are cut: no window comes twice
    where the plan does not overlap.  dtype: of the samples on the devices.  Batches: x [B, C, T] float32, standardised
    and clipped but not normalised, label [B], valid [B].
    """

    def __init__(
        self, split: RegroupSplit, *, batch_size: int, seeds: Seeds, dtype: str, placement: Any,
        sampling: Sampling = "uniform", new_groups: bool = True, steps_per_dispatch: int = 1,
    ):  # fmt: skip
        plan = split.plan
        check_shares(len(plan.group_label), placement.devices, batch_size, placement.mode, "regroup")
        by_part: Lie = "shares" if plan.dealt else "whole"
        planned = dict.fromkeys(("first", "size", "label"), "member shares")
        super().__init__(
            plan.group_label, plan.there, batch_size=batch_size, seeds=seeds, placement=placement, sampling=sampling,
            arrays_lie=planned | {"samples": by_part}, steps_per_dispatch=steps_per_dispatch,
        )  # fmt: skip
        self.device_bytes = plan.nbytes(split.sensors, dtype, placement.devices, self._planned * (self.members or 1))
        self._time_points, self._largest, self._new_groups = split.time_points, int(plan.group_size.max()), new_groups
        part = np.arange(plan.layout.parts)[:, None] if plan.dealt else 0
        offset = np.cumsum(plan.counts, axis=1) - plan.counts
        tables = {
            "label": plan.group_label, "start": plan.group_start, "size": plan.group_size,
            "offset": offset[part, plan.group_label], "count": plan.counts[part, plan.group_label],
        }  # fmt: skip
        self._tables = {name: placement.dealt(np.asarray(table, np.int32)) for name, table in tables.items()}
        put = placement.dealt if plan.dealt else placement.replicate
        self._windows_of: tuple[Any, ...] = tuple(
            map(put, (plan.label, plan.sample, np.arange(plan.layout.parts, dtype=np.uint32)))
        )
        self._draw_windows = self._by_share(
            self._windows_of_parts, lie=("member whole", by_part, by_part, by_part, "whole"), result=of_members(by_part)
        )
        self._draw_groups = self._by_share(
            self._groups_in_order, lie=("shares", of_members(by_part), "member shares", "shares"),
            result="member shares",
        )  # fmt: skip
        self._arrays = {"samples": _load(split, plan, np.dtype(dtype), placement)}

    def _windows_of_parts(
        self, key: Array, label: Int[Array, "p W"], sample: Int[Array, "p W"], part: Array, epochs: Int[Array, " E"]
    ) -> Int[Array, "p E W"]:
        """First samples of a device's parts, class by class, each class in an order drawn for the epoch."""

        def one(label: Array, sample: Array, part: Array, epoch: Array) -> Array:
            if not self._new_groups:
                return sample
            drawn = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key_of(key), WINDOW_KEY), epoch), part)
            return jax.lax.sort((label, jax.random.bits(drawn, sample.shape), sample), num_keys=2)[2]

        return jax.vmap(jax.vmap(one, in_axes=(None, None, None, 0)), in_axes=(0, 0, 0, None))(
            label, sample, part, epochs
        )

    def _groups_in_order(
        self, tables: dict[str, Array], windows: Int[Array, "p E W"], order: Int[Array, "s E slots"], count: Array
    ) -> dict[str, Array]:
        """The groups of all planned epochs in the order of their slots, share by share: first samples of their windows
        [s, E slots, K], sizes and labels [s, E slots]; size 0 where there is none."""

        def of_epoch(windows: Int[Array, "p W"], order: Int[Array, "s slots"]) -> dict[str, Array]:
            there = jnp.arange(order.shape[1]) < count[:, None]
            group = {name: jnp.take_along_axis(table, order, axis=1) for name, table in tables.items()}
            parts, longest = windows.shape
            part = jnp.arange(parts)[:, None, None] if parts > 1 else jnp.zeros((1, 1, 1), jnp.int32)
            place = (group["start"][..., None] + jnp.arange(self._largest)) % jnp.maximum(group["count"], 1)[..., None]
            first = windows.reshape(-1)[part * longest + group["offset"][..., None] + place]
            return {"first": first, "size": jnp.where(there, group["size"], 0), "label": group["label"]}

        groups = jax.vmap(of_epoch, in_axes=1, out_axes=1)(windows, order)
        return {name: values.reshape(values.shape[0], -1, *values.shape[3:]) for name, values in groups.items()}

    def _plan(self, epochs: Array, order: Array) -> None:
        windows = self._draw_windows(self._keys, *self._windows_of, epochs)
        self._arrays |= self._draw_groups(self._tables, windows, order, self._counts)

    def _gather(self, arrays: dict[str, Array], row: Int[Array, "s p"], slot: Int[Array, ""]) -> dict[str, Array]:
        """Means of the groups' windows. Groups were planned in order, so that here nothing is looked up but samples."""
        here = lambda name: jax.lax.dynamic_slice_in_dim(arrays[name], slot, row.shape[1], axis=1)  # noqa: E731
        first, size, label = here("first"), here("size"), here("label")
        parts, length, sensors = arrays["samples"].shape
        if parts > 1:  # those of a device lie end to end
            first = first + length * jnp.arange(parts, dtype=first.dtype)[:, None, None]
        samples = arrays["samples"].reshape(-1, sensors)
        x = mean_windows(samples, first.reshape(-1, self._largest), size.reshape(-1), self._time_points)
        return {"x": x, "label": label.reshape(-1)}

    def _finish(self, batch: dict[str, Array]) -> dict[str, Array]:
        # Here, not in `mean_windows`: XLA for CPUs would run that in one thread if it had to turn its result as well.
        return batch | {"x": batch["x"].swapaxes(-1, -2)}

    def close(self) -> None:
        """Let the devices' memory go."""
        super().close()
        self._windows_of, self._tables = (), {}


def _load(split: RegroupSplit, plan: Plan, dtype: np.dtype, placement: Any) -> Array:
    """The samples [P, n, C], time before sensors, on the devices, filled in place round by round."""
    layout = plan.layout
    lie: Lie = "shares" if plan.dealt else "whole"
    samples = placement.zeros((layout.parts, layout.samples, split.sensors), dtype, dealt=plan.dealt)
    fill = placement.by_share(
        lambda whole, some, at: jax.lax.dynamic_update_slice_in_dim(whole, some, at, axis=1),
        lie=(lie, lie, "whole"), donate=(0,), result=lie,
    )  # fmt: skip
    put = placement.dealt if plan.dealt else placement.replicate
    for number, some in enumerate(_rounds(split, layout, dtype)):
        samples = fill(samples, put(some), placement.replicate(np.int32(number * some.shape[1])))
    return samples


def _rounds(split: RegroupSplit, layout: Layout, dtype: np.dtype) -> Iterator[np.ndarray]:
    """[P, length + overlap, C] of each round: standardised, clipped, zeros where a run has ended. One recording in
    memory at a time."""
    shape = (layout.parts, layout.length + layout.overlap, split.sensors)
    block, stretch, statistics = np.zeros(shape, dtype), 0, split.statistics()
    for recording in split.windows.recordings:
        x = recording.read()
        statistics.standardise(x)
        for begin in range(0, recording.samples, layout.length):
            turn, place = divmod(stretch, layout.parts)
            some = x[:, begin : begin + shape[1]]
            block[layout.part[turn, place], : some.shape[1]] = some.T
            stretch += 1
            if place == layout.parts - 1:
                yield block
                block = np.zeros(shape, dtype)
        del x, some  # before the next recording is read
    if stretch % layout.parts:
        yield block
