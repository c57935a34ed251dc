"""The regroup feed: recordings lie on the devices, which average windows of one phoneme in new groups every epoch."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from demega_jax.data.feeds.device_feed import DeviceFeed, filled, key_of
from demega_jax.data.feeds.feed import MEMBER_REPLICATED, MEMBER_SHARDED, REPLICATED, SHARDED, Placement
from demega_jax.data.feeds.regroup_tables import Layout, RegroupTables
from demega_jax.data.recordings.statistics import Statistics
from demega_jax.data.recordings.windows import Windows

if TYPE_CHECKING:
    from demega_jax.data.feeds.regroup_plan import RegroupPlan

GATHER = 8  # windows of a row that are added in one pass over the row
WINDOW_KEY = 2**32 - 1  # no epoch has this number, so orders of windows and of rows have different random keys


def mean_windows(
    x: Float[Array, "n C"], first: Int[Array, "B K"], size: Int[Array, " B"], time_points: int
) -> Float[Array, "B T C"]:
    """Float32 means of the first `size` of each row's K windows, which begin at samples `first` of x.

    GATHER windows are added at a time, so that K has no limit. Places beyond a row's size read sample 0, which is
    fast as it is always the same, and have weight 0.
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


class RegroupFeed(DeviceFeed):
    """Training batches without end. A row is the mean of windows of one phoneme; a pure function of (seed, step).

    Each epoch draws a new order of the windows of each class, and the tables say which places of it are a group. If
    groups do not overlap, no window is used twice. Batches: x [B, C, T] float32, standardised and clipped but not
    normalised, label [B], valid [B].
    """

    def __init__(self, plan: "RegroupPlan", placement: Placement):
        tables, windows, dtype = plan.tables.with_empty(plan.places(placement)), plan.windows, np.dtype(plan.dtype)
        samples = SHARDED if tables.dealt else REPLICATED
        specs = dict.fromkeys(("first", "size", "label"), MEMBER_SHARDED) | {"samples": samples}
        super().__init__(tables.group_label, tables.there, plan, placement, specs)
        self._time_points, self._largest = windows.time_points, int(tables.group_size.max())
        self._new_groups = plan.regroup.new_groups
        self._put_tables(tables, samples)
        orders = MEMBER_SHARDED if tables.dealt else MEMBER_REPLICATED
        self._draw_windows = self._on_shares(
            self._windows_of_parts, specs=(MEMBER_REPLICATED, samples, samples, samples, REPLICATED), result=orders
        )
        self._draw_groups = self._on_shares(
            self._groups_in_order, specs=(SHARDED, orders, MEMBER_SHARDED, SHARDED), result=MEMBER_SHARDED
        )
        layout, parts = tables.layout, len(tables.label)
        shape = (parts, layout.samples, windows.recordings[0].sensors)  # time before sensors
        rounds = _rounds(windows, layout, parts, plan.statistics(), dtype)
        self._arrays = {"samples": filled(shape, dtype, rounds, samples, placement)}

    def _put_tables(self, tables: RegroupTables, samples: PartitionSpec) -> None:
        """Put the tables of groups, and of the windows of each part, on the devices."""
        part = np.arange(len(tables.label))[:, None] if tables.dealt else 0
        offset = np.cumsum(tables.counts, axis=1) - tables.counts
        of_groups = {
            "label": tables.group_label,
            "start": tables.group_start,
            "size": tables.group_size,
            "offset": offset[part, tables.group_label],
            "count": tables.counts[part, tables.group_label],
        }
        put = self._placement.put
        self._tables = {name: put(np.asarray(table, np.int32), SHARDED) for name, table in of_groups.items()}
        of_windows = (tables.label, tables.sample, np.arange(len(tables.label), dtype=np.uint32))
        self._windows_of: tuple[Array, ...] = tuple(put(table, samples) for table in of_windows)

    def _windows_of_parts(
        self, key: Array, label: Int[Array, "p W"], sample: Int[Array, "p W"], part: Array, epochs: Int[Array, " E"]
    ) -> Int[Array, "p E W"]:
        """First samples of the windows of a device's parts, class by class, each class in the epoch's own order."""

        def one(epoch: Array, label: Array, sample: Array, part: Array) -> Array:
            if not self._new_groups:
                return sample
            drawn = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key_of(key), WINDOW_KEY), epoch), part)
            return jax.lax.sort((label, jax.random.bits(drawn, sample.shape), sample), num_keys=2)[2]

        return jax.vmap(lambda *each: jax.vmap(lambda epoch: one(epoch, *each))(epochs))(label, sample, part)

    def _groups_in_order(
        self, tables: dict[str, Array], windows: Int[Array, "p E W"], order: Int[Array, "s E slots"], count: Array
    ) -> dict[str, Array]:
        """The groups of all planned epochs in the order in which batches take them, share by share.

        first: first samples of their windows [s, E slots, K].  size, label: [s, E slots]; size 0 is padding.
        """

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
        """Means of the groups' windows. `_plan` has put the groups in order, so only samples are looked up."""
        first, size, label = (
            jax.lax.dynamic_slice_in_dim(arrays[name], slot, row.shape[1], axis=1)
            for name in ("first", "size", "label")
        )
        parts, length, sensors = arrays["samples"].shape
        if parts > 1:  # the parts of a device follow each other
            first = first + length * jnp.arange(parts, dtype=first.dtype)[:, None, None]
        samples = arrays["samples"].reshape(-1, sensors)
        x = mean_windows(samples, first.reshape(-1, self._largest), size.reshape(-1), self._time_points)
        return {"x": x, "label": label.reshape(-1)}

    def _finish(self, batch: dict[str, Array]) -> dict[str, Array]:
        # Not in `mean_windows`: XLA for CPUs would run it in one thread if it had to transpose its result as well.
        return batch | {"x": batch["x"].swapaxes(-1, -2)}

    def close(self) -> None:
        """Free the devices' memory."""
        super().close()
        self._windows_of, self._tables = (), {}


def _rounds(
    windows: Windows, layout: Layout, parts: int, statistics: Statistics, dtype: np.dtype
) -> Iterator[Float[np.ndarray, "P n C"]]:
    """Samples of each round [P, length + overlap, C], standardised and clipped; zeros after the end of a session run.

    parts: P, those of the layout, with empty ones after them.  One recording is in memory at a time.
    """
    shape = (parts, layout.length + layout.overlap, windows.recordings[0].sensors)
    block, stretch = np.zeros(shape, dtype), 0
    for recording in windows.recordings:
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
