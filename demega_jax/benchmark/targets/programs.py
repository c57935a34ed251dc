"""The programs of training and evaluation, compiled for a target."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, Mesh, PartitionSpec, use_abstract_mesh
from jaxtyping import PyTree

from demega_jax.benchmark.targets.devices import Target
from demega_jax.benchmark.targets.modelled import Modelled, memory_of, modelled
from demega_jax.data.feeds.feed import REPLICATED, SHARDED
from demega_jax.evaluation.compiled import compile_evaluate
from demega_jax.evaluation.evaluate import make_evaluate_step
from demega_jax.evaluation.step import EvaluationCounts
from demega_jax.training.dispatch import lower_dispatch
from demega_jax.training.parallel import AXIS, Placement
from demega_jax.training.setup import Experiment

# Autotuning would run candidates on the device, which is not here.
OPTIONS: Mapping[str, dict[str, Any]] = {
    "cuda": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False},
    "tpu": {},
}


class ShapesOnly(Placement):
    """A placement on devices that are not here: what is put on them is its shape, type and sharding alone."""

    def free_bytes(self) -> int | None:
        """Unknown: memory is compared with the target's after compiling."""
        return None

    def replicate(self, tree: Any) -> Any:
        """Shapes of a tree of arrays or shapes, replicated."""
        return jax.tree.map(lambda leaf: self._shape(leaf, REPLICATED), tree)

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Shapes of a batch of the host, sharded by rows."""
        return {name: self._shape(values, SHARDED) for name, values in batch.items()}

    def put(self, array: np.ndarray | np.generic, spec: PartitionSpec) -> Any:
        """The shape of an array of the host."""
        return self._shape(array, spec)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype, spec: PartitionSpec) -> Any:
        """The shape of an array on the devices."""
        return jax.ShapeDtypeStruct(shape, dtype, sharding=self.in_order(spec, len(shape)))

    def on_shares(
        self,
        function: Callable[..., PyTree],
        *,
        specs: PyTree,
        result: PartitionSpec,
        donate: tuple[int, ...] = (),
        finish: Callable[[PyTree], PyTree] | None = None,
        axes: int | None = None,
    ) -> Any:
        """`function` for shapes: it gives the shapes of its results. Within a program it is compiled with that."""
        compiled = super().on_shares(function, specs=specs, result=result, donate=donate, finish=finish, axes=axes)

        def run(*arguments: Any) -> Any:
            if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(arguments)):
                return compiled(*arguments)
            return jax.tree.map(lambda leaf: self._shape(leaf, result), jax.eval_shape(compiled, *arguments))

        return run

    def _shape(self, leaf: Any, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding(spec))


def placement_on(target: Target, devices: int) -> Placement:
    """A placement on so many devices of a target. UserError: the extra aot is not installed."""
    mesh = Mesh(np.array(target.devices(devices)), (AXIS,), axis_types=(AxisType.Auto,))
    return ShapesOnly("jit", mesh)


def _as_there(placement: Placement) -> AbstractContextManager[None]:
    """Within it, kernels that ask for the kind of GPU that they are lowered for find the placement's."""
    device = placement.mesh.devices.flat[0]
    kind = AbstractDevice(device_kind=device.device_kind, num_cores=None, platform=device.platform)
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=kind))


def lower_train(experiment: Experiment) -> jax.stages.Lowered:
    """The dispatch that training runs: `train.steps_per_dispatch` steps with the draw of their batches."""
    feed = experiment.feed()
    try:
        state = experiment.placement.replicate(jax.eval_shape(experiment.fresh_state))
        with _as_there(experiment.placement):
            return lower_dispatch(experiment, feed, state).lowered
    finally:
        feed.close()


def lower_evaluation(experiment: Experiment) -> jax.stages.Lowered:
    """The evaluation step of one model on a batch from the host."""
    config, data, placement = experiment.config, experiment.data, experiment.placement
    step = make_evaluate_step(config, experiment.train_step.graphdef, data.train.class_counts(), data.validation)
    state = jax.eval_shape(experiment.fresh_state)
    if config.train.members > 1:
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state)
    features = state.buffers["feature_table"].shape[-1] if "feature_table" in state.buffers else 0
    counts = EvaluationCounts.zero(len(data.validation.classes), features)
    _, batch = placement.abstract(state, data.plan.batch, data.plan.placed_rows(placement))
    whole = placement.replicate((state.params, state.buffers, counts))
    with _as_there(placement):
        return compile_evaluate(placement, step).lower(*whole, batch)


def compile_for(lowered: jax.stages.Lowered, target: Target, devices: int) -> tuple[Modelled, str]:
    """(the model of the compiled program, its text)."""
    began = time.perf_counter()
    compiled = lowered.compile(compiler_options=OPTIONS[target.platform])
    seconds = time.perf_counter() - began
    text = compiled.as_text() or ""
    return modelled(text, target, devices, memory_of(compiled), seconds), text
