"""Devices: the only place that makes meshes and shardings (`evaluation.compiled` has the programs of evaluation).

Both modes run the step on each device for the rows of that device, with an axis name for sums over devices. `jit`
makes one program over a mesh, and `pmap` uses the transformation of that name. A compiler that places collectives
itself would sum larger arrays over devices than the gradients. Any number of devices gives the same numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from demega_jax.data.feeds.feed import MEMBER_SHARDED, REPLICATED, SHARDED, SHARE, RowSpec
from demega_jax.errors import UserError
from demega_jax.training.memory import USABLE, available_memory
from demega_jax.training.step import TrainStep

Mode = Literal["jit", "pmap"]
AXIS = "batch"


def mesh_spec(spec: PartitionSpec) -> PartitionSpec:
    """Logical axes (`data.feeds.feed`) as axes of the mesh: shares are sharded, members are not."""
    return PartitionSpec(*(AXIS if axis == SHARE else None for axis in spec))


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where arrays lie: the state is replicated on all devices, the rows of a batch are sharded over them in order.

    process: the number of this process among those that train together.  processes: how many these are. Each of them
    has equally many devices of the mesh, those of process 0 first.  accumulate: microbatches of a batch.
    """

    mode: Mode
    mesh: Mesh
    process: int = 0
    processes: int = 1
    accumulate: int = 1

    @property
    def devices(self) -> int:
        """Number of devices of the training run."""
        return self.mesh.size

    def padded(self, parts: int, rows: int = 1) -> int:
        """How many parts of a batch, of `rows` rows each, lie on the devices: padding makes them equally many on each.

        The padding comes last and does not count, so that the batch, the numbers of its rows and its losses stay those
        of any number of devices. Every device has whole rows of each microbatch.
        """
        each = -(-parts // self.devices)
        while each * rows % self.accumulate:
            each += 1
        return each * self.devices

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """The sharding of an array over this mesh."""
        return NamedSharding(self.mesh, mesh_spec(spec))

    def free_bytes(self) -> int | None:
        """Bytes that each device can hold, less a margin; None where that is unknown."""
        available = available_memory(self.device)
        return None if available is None else int(available * USABLE / self.sharing)

    @property
    def sharing(self) -> int:
        """How many devices share the same memory, as virtual CPU devices do."""
        return self.devices // self.processes if self.on_cpu else 1

    @property
    def device(self) -> jax.Device:
        """The first device of this process."""
        return self.mesh.devices.flat[self.process * self.devices // self.processes]

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are (virtual) CPU devices."""
        return self.mesh.devices.flat[0].platform == "cpu"

    def replicate(self, tree: Any) -> Any:
        """A tree of arrays, replicated on every device. It is always a copy, so that it can be donated."""
        # By way of the host: from a device, the copy there would be the original itself, and would be donated with it.
        if self.processes > 1:
            return jax.tree.map(lambda leaf: self.put(np.array(leaf), REPLICATED), tree)
        return jax.device_put(jax.tree.map(np.array, tree), self.sharding(REPLICATED), may_alias=False)

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Place a batch of the host on the devices. The transfer goes on after this returns.

        With several processes, the batch has the rows of this process alone.
        """
        if self.processes > 1:
            return {name: self._put_rows(values) for name, values in batch.items()}
        if self.mode == "pmap":
            batch = {k: v.reshape(self.devices, -1, *v.shape[1:]) for k, v in batch.items()}
        return jax.device_put(dict(batch), self.sharding(SHARDED))

    def put(self, array: np.ndarray | np.generic, spec: PartitionSpec) -> jax.Array:
        """Place an array of the host on the devices. The transfer goes on after this returns.

        With several processes, each has the whole array, and places the parts of its own devices.
        """
        if self.processes > 1:
            whole = np.asarray(array)
            return jax.make_array_from_callback(whole.shape, self.sharding(spec), lambda part: whole[part])
        return jax.device_put(array, self.sharding(spec))

    def own(self, count: int) -> slice:
        """Which of `count` shares, which divide over the devices, are on devices of this process."""
        each = count // self.processes
        return slice(self.process * each, (self.process + 1) * each)

    def put_own(self, array: np.ndarray, spec: PartitionSpec) -> jax.Array:
        """`put` for an array [shares, ..] that has the shares of this process alone (`own`)."""
        if self.processes == 1:
            return self.put(array, spec)
        return jax.make_array_from_process_local_data(self.sharding(spec), array)

    def _put_rows(self, values: np.ndarray) -> jax.Array:
        """This process's rows of an array of a batch, as its part of the global array."""
        if self.mode == "pmap":
            values = values.reshape(self.devices // self.processes, -1, *values.shape[1:])
        return jax.make_array_from_process_local_data(self.sharding(SHARDED), values)

    def connect(self, meet: Callable[[], None]) -> None:
        """Make the connections between the devices of all processes, by a sum over them.

        Where they are made, the libraries for collectives wait for the other processes for 30 s only, and later much
        longer; compiling a step can take one process a minute longer than another.  meet: waits until all are here.
        """
        ones = self.put(np.ones(self.devices, np.float32), SHARDED)
        total = jax.jit(jax.numpy.sum, out_shardings=self.sharding(REPLICATED)).lower(ones).compile()
        meet()
        jax.block_until_ready(total(ones))

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype, spec: PartitionSpec) -> jax.Array:
        """An array of zeros that is made on the devices, and lies there in the order of its axes."""
        return jax.jit(lambda: jax.numpy.zeros(shape, dtype), out_shardings=self.in_order(spec, len(shape)))()

    def in_order(self, spec: PartitionSpec, axes: int) -> Format:
        """The sharding of an array that lies in memory in the order of its axes.

        A TPU would order those of a split by what fills its tiles, and turn the whole split for every dispatch.
        """
        return Format(Layout(tuple(range(axes))), self.sharding(spec))

    def on_shares(
        self,
        function: Callable[..., PyTree],
        *,
        specs: PyTree,
        result: PartitionSpec,
        donate: tuple[int, ...] = (),
        finish: Callable[[PyTree], PyTree] | None = None,
        axes: int | None = None,
    ) -> jax.stages.Wrapped:
        """Compile `function` to run on each device for the shares of that device, without communication.

        specs: how the arguments are sharded.  result: how the results are sharded; they may be replicated only where
        the arguments are.  donate: arguments whose memory is reused.  finish: acts on the results row by row.  axes:
        of a result that lies in their order; None: as the compiler likes.
        """
        mapped = jax.shard_map(
            function, mesh=self.mesh, in_specs=jax.tree.map(mesh_spec, specs), out_specs=mesh_spec(result)
        )
        whole = mapped if finish is None else lambda *arguments: finish(mapped(*arguments))
        where = self.sharding(result) if axes is None else self.in_order(result, axes)
        return jax.jit(whole, donate_argnums=donate, out_shardings=where)

    def abstract(
        self, state: Any, arrays: Mapping[str, RowSpec], batch_size: int, members: int = 1
    ) -> tuple[Any, dict[str, Any]]:
        """Shapes of a state and a batch, to compile a step without either. arrays: shape and type of a row of each.

        batch_size: rows with those of padding, as the plan of a feed says (`placed_rows`).
        """
        rows = (self.devices, batch_size // self.devices) if self.mode == "pmap" else (batch_size,)
        rows, spec = ((members, *rows), MEMBER_SHARDED) if members > 1 else (rows, SHARDED)
        sharding, whole = self.sharding(spec), self.sharding(REPLICATED)
        batch = {
            name: jax.ShapeDtypeStruct((*rows, *shape), dtype, sharding=sharding)
            for name, (shape, dtype) in arrays.items()
        }
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), state), batch

    def _on_each(self, step: Callable[..., tuple[Any, Any]], *, members: bool) -> Callable[[Any, Any], tuple[Any, Any]]:
        """The function (state, batch) -> (state, metrics) of all devices together, which is then compiled."""
        one = step if self.devices == 1 else functools.partial(step, axis_name=AXIS)
        one = jax.vmap(one) if members else one
        if self.devices == 1:
            return one
        rows, whole = mesh_spec(MEMBER_SHARDED if members else SHARDED), PartitionSpec()
        return jax.shard_map(one, mesh=self.mesh, in_specs=(whole, rows), out_specs=whole, check_vma=False)

    def compile_train(self, step: TrainStep, *, members: bool = False) -> jax.stages.Wrapped:
        """Compile a step (state, batch) -> (state, metrics). The memory of the state is reused.

        members: whether all of them have an axis of members in front.
        """
        if self.mode == "pmap":
            with_axis = functools.partial(step, axis_name=AXIS)
            devices = list(self.mesh.devices.flat)
            return jax.pmap(with_axis, AXIS, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=0)
        return jax.jit(
            self._on_each(step.__call__, members=members),
            in_shardings=(self.sharding(REPLICATED), self.sharding(MEMBER_SHARDED if members else SHARDED)),
            out_shardings=self.sharding(REPLICATED),
            donate_argnums=0,
        )

    def compile_dispatch(
        self, step: TrainStep, draw: Callable[..., Any], *, steps: int = 1, members: bool = False
    ) -> jax.stages.Wrapped:
        """Compile a dispatch (state, *inputs) -> (state, metrics [steps, ..]) that draws the batches of its steps.

        draw: makes a batch of the inputs, the last of which is the position of the step in the data.  members: whether
        state, batches and metrics have an axis of members in front.  The memory of the state is reused.
        """
        one = self._on_each(step.__call__ if steps == 1 else step.on_flat, members=members)
        flat, tree = (jax.vmap(step.flat), jax.vmap(step.tree)) if members else (step.flat, step.tree)

        def run(state: Any, *inputs: Any) -> tuple[Any, Any]:
            *tables, first = inputs

            def turn(state: Any, place: Any) -> tuple[Any, Any]:
                return one(state, draw(*tables, place))

            if steps == 1:
                return turn(state, first)

            def packed(state: Any, place: Any) -> tuple[Any, list[Any]]:
                state, metrics = turn(state, place)
                return state, _packed(metrics)

            start = flat(state)
            kinds = jax.eval_shape(turn, start, first)[1]
            last, packs = jax.lax.scan(packed, start, first + jax.numpy.arange(steps, dtype=first.dtype))
            return tree(last), _unpacked(packs, kinds)

        return jax.jit(run, out_shardings=self.sharding(REPLICATED), donate_argnums=0)


def make_placement(mode: Mode, devices: int | None, batch_size: int, accumulate: int = 1) -> Placement:
    """The placement on the first `devices` devices (None: on all).

    UserError: there are too few devices, or too many to have a row of each microbatch.
    """
    there = jax.devices()
    count = len(there) if devices is None else devices
    processes = jax.process_count()
    if not 1 <= count <= len(there):
        wanted = f"1 to {len(there)}, as this machine has {len(there)} {there[0].platform} devices"
        way_out = f"use --devices {min(max(count, 1), len(there))}"
        raise UserError("--devices", f"{count} devices are asked for", wanted, way_out)
    if batch_size < count * accumulate:
        check_batch(batch_size, count, accumulate)
    if processes > 1:
        there = _of_each_process(there, count, processes)
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=there[:count])
    return Placement(mode, mesh, jax.process_index(), processes, accumulate)


def _of_each_process(there: list[jax.Device], count: int, processes: int) -> list[jax.Device]:
    """The first devices of each process, `count` in all. UserError: they do not divide, or a process has too few."""
    each, left = divmod(count, processes)
    if left or not each:
        came, near = f"{count} devices over {processes} processes", max(1, each) * processes
        raise UserError("--devices", came, "equally many for each process", f"use --devices {near}")
    chosen = []
    for number in range(processes):
        own = [device for device in there if device.process_index == number]
        if len(own) < each:
            came = f"{count} devices, which are {each} of each process, and process {number} has {len(own)}"
            way_out = f"use --devices {len(own) * processes}, or processes with equally many devices"
            raise UserError("--devices", came, "equally many for each process", way_out)
        chosen += own[:each]
    return chosen


def check_batch(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """UserError: the rows of a batch do not divide over the devices."""
    share = devices * accumulate
    if batch_size % share:
        nearest = max(share, batch_size - batch_size % share)
        parts = f"{devices} devices" + (f" x {accumulate} microbatches" if accumulate > 1 else "")
        came = f"{batch_size} rows do not divide over {parts}"
        way_out = f"use train.batch_size={nearest}, or another number of --devices"
        raise UserError("train.batch_size", came, f"a multiple of {share}", way_out)


def _by_type(metrics: Mapping[str, Any]) -> list[list[str]]:
    """The names of metrics, those of one type together."""
    types = sorted({value.dtype.name for value in metrics.values()})
    return [[name for name, value in metrics.items() if value.dtype.name == each] for each in types]


def _packed(metrics: Mapping[str, Any]) -> list[Any]:
    """The metrics of a step as one array for each type, which a loop writes at once."""
    return [jax.numpy.stack([metrics[name] for name in names]) for names in _by_type(metrics)]


def _unpacked(packs: list[Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of many steps, whose types are those of `kinds`."""
    groups = zip(_by_type(kinds), packs, strict=True)
    return {name: pack[:, place] for names, pack in groups for place, name in enumerate(names)}
