"""Devices: the only place that makes meshes and shardings.

Both modes run the step on each device for its own rows, with an axis name for what crosses devices: `jit` as one
program over a mesh, `pmap` by the transformation of that name. Left to place collectives itself, the compiler would sum
over devices what is larger than the gradients that are made of it. Any number of devices gives the same numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from demega_jax.data.feeds.sharded import Lie
from demega_jax.errors import UserError
from demega_jax.training.step import EvaluateStep, TrainStep

Mode = Literal["jit", "pmap"]
AXIS = "batch"


def partition(lie: Lie) -> PartitionSpec:
    """The partition of an array that lies on the devices so."""
    return PartitionSpec(*[None] * lie.startswith("member"), *[AXIS] * lie.endswith("shares"))


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where arrays live: the state on every device, the rows of a batch dealt to the devices in order."""

    mode: Mode
    mesh: Mesh

    @property
    def devices(self) -> int:
        """Number of devices of the run."""
        return self.mesh.size

    @property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def _by_row(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    @property
    def _by_member_row(self) -> NamedSharding:
        return NamedSharding(self.mesh, partition("member shares"))

    def replicate(self, tree: Any) -> Any:
        """A tree of arrays, whole, on every device; always a copy, so that it can be donated."""
        # By way of the host: put from a device, the copy there would be the original itself, and donated with it.
        return jax.device_put(jax.tree.map(np.array, tree), self._everywhere, may_alias=False)

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """A host batch on the devices; the transfer goes on after the call returns."""
        if self.mode == "pmap":
            batch = {k: v.reshape(self.devices, -1, *v.shape[1:]) for k, v in batch.items()}
        return jax.device_put(dict(batch), self._by_row)

    def dealt(self, array: np.ndarray) -> jax.Array:
        """A host array whose first axis is shares: whole shares on each device, in order."""
        return jax.device_put(array, self._by_row)

    def zeros(self, shape: tuple[int, ...], dtype: Any, *, dealt: bool) -> jax.Array:
        """Zeros, made on the devices: dealt along their first axis, which is shares, or whole on every device."""
        return jax.jit(
            lambda: jax.numpy.zeros(shape, dtype), out_shardings=self._by_row if dealt else self._everywhere
        )()

    def by_share(
        self, function: Callable[..., Any], *, lie: Any, donate: tuple[int, ...] = (), result: Lie = "shares",
        finish: Callable[[Any], Any] | None = None,
    ) -> jax.stages.Wrapped:  # fmt: skip
        """`function` compiled to run on each device for its own shares; nothing crosses devices.

        lie: how arguments lie on the devices; by name, for a dictionary.  result: how the results do; whole ones come
        of arguments that are.  finish: acts on the results row by row.
        """
        mapped = jax.shard_map(
            function, mesh=self.mesh, in_specs=jax.tree.map(partition, lie), out_specs=partition(result)
        )
        whole = mapped if finish is None else lambda *arguments: finish(mapped(*arguments))
        return jax.jit(whole, donate_argnums=donate, out_shardings=NamedSharding(self.mesh, partition(result)))

    def abstract(
        self, state: Any, arrays: Mapping[str, tuple[tuple[int, ...], Any]], batch_size: int, members: int = 1
    ) -> tuple[Any, dict[str, Any]]:
        """Shapes in place of a state and a batch, to compile a step without either. arrays: (shape, type) of a row."""
        rows = (self.devices, batch_size // self.devices) if self.mode == "pmap" else (batch_size,)
        rows, lie = ((members, *rows), self._by_member_row) if members > 1 else (rows, self._by_row)
        batch = {
            name: jax.ShapeDtypeStruct((*rows, *shape), dtype, sharding=lie) for name, (shape, dtype) in arrays.items()
        }
        whole = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._everywhere)  # noqa: E731
        return jax.tree.map(whole, state), batch

    def _on_each(self, step: TrainStep, *, members: bool) -> Callable[[Any, Any], tuple[Any, Any]]:
        """(state, batch) -> (state, metrics) by all devices together, to be compiled."""
        one = step.__call__ if self.devices == 1 else functools.partial(step.__call__, axis_name=AXIS)
        one = jax.vmap(one) if members else one
        if self.devices == 1:
            return one
        rows, whole = partition("member shares" if members else "shares"), PartitionSpec()
        return jax.shard_map(one, mesh=self.mesh, in_specs=(whole, rows), out_specs=whole, check_vma=False)

    def compile_train(self, step: TrainStep, *, members: bool = False) -> jax.stages.Wrapped:
        """(state, batch) -> (state, metrics), with members in front of all where there are members; the state's
        buffers are reused."""
        if self.mode == "pmap":
            with_axis = functools.partial(step, axis_name=AXIS)
            return jax.pmap(
                with_axis,
                AXIS,
                in_axes=(None, 0),
                out_axes=None,
                devices=list(self.mesh.devices.flat),
                donate_argnums=0,
            )
        return jax.jit(
            self._on_each(step, members=members),
            in_shardings=(self._everywhere, self._by_member_row if members else self._by_row),
            out_shardings=self._everywhere,
            donate_argnums=0,
        )

    def compile_dispatch(
        self, step: TrainStep, draw: Callable[..., Any], *, steps: int = 1, members: bool = False
    ) -> jax.stages.Wrapped:
        """(state, *inputs) -> (state, metrics of the last step): so many steps in one program that draws their batches.

        draw: inputs to batch; the last of the inputs is the place of the first step.  members: state, batches and
        metrics have an axis of members in front.  The state's buffers are reused.
        """
        one = self._on_each(step, members=members)

        def run(state: Any, *inputs: Any) -> tuple[Any, Any]:
            *tables, first = inputs

            def turn(state: Any, place: Any) -> tuple[Any, Any]:
                return one(state, draw(*tables, place))

            if steps == 1:
                return turn(state, first)
            state, metrics = jax.lax.scan(turn, state, first + jax.numpy.arange(steps, dtype=first.dtype))
            return state, jax.tree.map(lambda each: each[-1], metrics)

        return jax.jit(run, out_shardings=self._everywhere, donate_argnums=0)

    def compile_evaluate(self, step: EvaluateStep) -> jax.stages.Wrapped:
        """(params, buffers, counts, batch) -> counts."""
        if self.mode == "pmap":
            with_axis = functools.partial(step, axis_name=AXIS)
            devices = list(self.mesh.devices.flat)
            return jax.pmap(with_axis, AXIS, in_axes=(None, None, None, 0), out_axes=None, devices=devices)
        whole = self._everywhere
        return jax.jit(step.__call__, in_shardings=(whole, whole, whole, self._by_row), out_shardings=whole)


def make_placement(mode: Mode, devices: int | None, batch_size: int, accumulate: int = 1) -> Placement:
    """The placement on the first `devices` devices (None: all). Raises `UserError` for what cannot be divided."""
    there = jax.devices()
    count = len(there) if devices is None else devices
    if not 1 <= count <= len(there):
        raise UserError(
            "--devices", str(count), f"1 to {len(there)}: this machine has {len(there)} {there[0].platform} devices",
            f"use --devices {min(max(count, 1), len(there))}",
        )  # fmt: skip
    share = count * accumulate
    if batch_size % share:
        nearest = max(share, batch_size - batch_size % share)
        parts = f"{count} devices" + (f" x {accumulate} microbatches" if accumulate > 1 else "")
        raise UserError(
            "train.batch_size", f"{batch_size} rows over {parts}", f"a multiple of {share}",
            f"use train.batch_size={nearest}, or another --devices",
        )  # fmt: skip
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=there[:count])
    return Placement(mode, mesh)
