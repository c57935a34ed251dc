"""The programs of evaluation and prediction, over all devices of a placement.

Each device works on its own rows, and the program says so: a compiler that shares the rows itself gathers all of them
on every device for a kernel of ours.
"""

import functools
from collections.abc import Callable, Mapping

import jax
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from demega_jax.data.feeds.feed import MEMBER_SHARDED, REPLICATED, SHARDED
from demega_jax.training.parallel import AXIS, Placement, mesh_spec


def compile_evaluate(placement: Placement, step: Callable[..., PyTree]) -> jax.stages.Wrapped:
    """Compile an evaluation step (params, buffers, counts, batch) -> counts."""
    with_axis = functools.partial(step, axis_name=AXIS)
    if placement.mode == "pmap":
        devices = list(placement.mesh.devices.flat)
        return jax.pmap(with_axis, AXIS, in_axes=(None, None, None, 0), out_axes=None, devices=devices)
    on_all = step if placement.devices == 1 else _on_rows(placement, with_axis, REPLICATED)
    whole, rows = placement.sharding(REPLICATED), placement.sharding(SHARDED)
    return jax.jit(on_all, in_shardings=(whole, whole, whole, rows), out_shardings=whole)


def compile_predict(placement: Placement, step: Callable[..., PyTree]) -> jax.stages.Wrapped:
    """Compile a step (params, buffers, first, batch) -> arrays [M, B, ..], for mode `jit`.

    first: the number of the first row of the batch.  With several processes, every device has the whole of the results,
    so that each process can read all rows.
    """

    def of_share(params: PyTree, buffers: PyTree, first: jax.Array, batch: Mapping[str, jax.Array]) -> PyTree:
        here = next(iter(batch.values())).shape[0]
        return step(params, buffers, first + jax.lax.axis_index(AXIS).astype(first.dtype) * here, batch)

    on_all = step if placement.devices == 1 else _on_rows(placement, of_share, MEMBER_SHARDED)
    whole, rows = placement.sharding(REPLICATED), placement.sharding(SHARDED)
    results = placement.sharding(MEMBER_SHARDED) if placement.processes == 1 else whole
    return jax.jit(on_all, in_shardings=(whole, whole, whole, rows), out_shardings=results)


def _on_rows(placement: Placement, step: Callable[..., PyTree], result: PartitionSpec) -> Callable[..., PyTree]:
    """A function of three arguments and a batch that each device runs on its own rows. result: how results lie."""
    specs = (*(mesh_spec(REPLICATED),) * 3, mesh_spec(SHARDED))
    return jax.shard_map(step, mesh=placement.mesh, in_specs=specs, out_specs=mesh_spec(result), check_vma=False)
