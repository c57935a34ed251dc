"""Where a step goes: its stages, each compiled by itself, forward and backward together."""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demega_jax.benchmark.machine import repeated
from demega_jax.losses.objective import Losses, objective
from demega_jax.model.conformer import ConformerEncoder, ConformerLayer
from demega_jax.model.demega import DeMEGa, Outputs
from demega_jax.model.dropout import Noise, dropout, row_keys
from demega_jax.training.setup import Experiment
from demega_jax.training.step import Batch, TrainStep, inputs


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a step, by itself. times: how often a step has it.  carried: the first argument is given up to `run`,
    and the first of its results is that of the next call, as with a step's state."""

    name: str
    times: int
    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    carried: bool = False

    def seconds(self) -> float:
        """Median time of one call, compiled."""
        compiled = jax.jit(self.run, donate_argnums=0 if self.carried else ()).lower(*self.arguments).compile()
        arguments = list(self.arguments)

        def call() -> Any:
            out = compiled(*arguments)
            if self.carried:
                arguments[0] = out[0]
            return out

        return statistics.median(repeated(call))


def stage_figures(experiment: Experiment, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Each stage of the experiment's step on one device: {"stage", "times", "seconds" (of all its times together),
    "share" (of the sum)}. tell: called with what goes on."""
    found: list[dict[str, Any]] = []
    for stage in stages(experiment):
        tell(f"stage {stage.name}")
        found.append({"stage": stage.name, "times": stage.times, "seconds": stage.times * stage.seconds()})
    total = sum(stage["seconds"] for stage in found)
    return [stage | {"share": stage["seconds"] / total} for stage in found]


def stages(experiment: Experiment) -> list[Stage]:
    """The stages of a step, in its order, with arguments of noise at the experiment's batch size."""
    config, step = experiment.config, experiment.train_step
    state = experiment.fresh_state()
    model = nnx.merge(step.graphdef, state.params, state.buffers)
    batch = _noise_batch(experiment)
    size, sensors, time_points = batch["x"].shape
    dtype = jnp.dtype(config.model.dtype)
    keys = row_keys(jnp.zeros(2, jnp.uint32), jnp.arange(size, dtype=jnp.uint32))
    x = _noise((size, sensors, time_points), dtype)
    found = [Stage("normalise", 1, lambda batch: inputs(batch, config.model.input_norm, step.normalized), (batch,))]
    if isinstance(model.encoder, ConformerEncoder):
        features = _noise((size, time_points, config.model.width), dtype)
        layer, layers = model.encoder.layers[0], config.model.layers
        found += [
            _with_gradient("stem", 1, model.encoder.stem, lambda stem, x: stem(x.swapaxes(1, 2)), (), (x,)),
            _with_gradient("attention", layers, layer, _attention, (features,), (keys,)),
            _with_gradient("convolution and feed-forward", layers, layer, _others, (features,), (keys,)),
        ]
    else:
        features = _noise((size, time_points, 2 * config.model.width), dtype)
        found.append(_with_gradient("encoder", 1, model.encoder, _encoder, (), (x, keys)))
    heads = _without_layers(model)
    found.append(_with_gradient("head", 1, heads, _outputs, (features,), (keys,)))
    outputs = _like(jax.eval_shape(lambda x: _outputs(heads, x, keys), features))

    def loss(outputs: Outputs, batch: Batch, table: Any) -> jax.Array:
        label, valid = batch["label"], batch["valid"]
        return objective(outputs, label, valid, config.loss, table=table, weights=step.weights).loss

    table = model.feature_table[...] if model.ipa is not None else None
    given = _GivenGradients(**vars(step))
    gradients = (_like(jax.eval_shape(step.groups.vector, state.params)), Losses(*jnp.zeros(4)))
    return [
        *found,
        Stage("losses", 1, jax.value_and_grad(loss), (outputs, batch, table)),
        Stage("optimiser", 1, given.__call__, (state, gradients), carried=True),
    ]


class _GivenGradients(TrainStep):
    """A step that is given its gradients and losses in place of a batch: what is left is the optimizer."""

    def gradients(self, state: Any, batch: Any, axis_name: str | None) -> Any:
        """What was given: the vector of gradients, and losses."""
        return batch


class _FinalNorm(nnx.Module):
    """An encoder of which only the end is left."""

    def __init__(self, encoder: nnx.Module):
        self.norm = encoder.final_norm if isinstance(encoder, ConformerEncoder) else None

    def __call__(self, x: Any, **_: Any) -> Any:
        return x if self.norm is None else self.norm(x)


def _without_layers(model: DeMEGa) -> DeMEGa:
    """A model that begins where the layers end."""
    heads = nnx.clone(model)
    heads.encoder = _FinalNorm(heads.encoder)  # type: ignore[assignment]
    return heads


def _with_gradient(
    name: str,
    times: int,
    part: nnx.Module,
    forward: Callable[..., Any],
    moving: tuple[Any, ...],
    fixed: tuple[Any, ...],
) -> Stage:
    """`forward(part, *moving, *fixed)` and its gradient in the part's parameters and `moving`.

    The result is given back as well, so that the compiler leaves none of it out."""
    graphdef, *parts = nnx.split(part, nnx.Param, ...)
    trained, kept = (nnx.to_pure_dict(each) for each in parts)

    def run(trained: Any, kept: Any, moving: Any, fixed: Any, cotangent: Any) -> Any:
        def of(trained: Any, moving: Any) -> Any:
            return forward(nnx.merge(graphdef, trained, kept), *moving, *fixed)

        out, back = jax.vjp(of, trained, moving)
        return out, back(cotangent)

    cotangent = _like(jax.eval_shape(lambda moving, fixed: forward(part, *moving, *fixed), moving, fixed))
    return Stage(name, times, run, (trained, kept, moving, fixed, cotangent))


def _noise(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32), dtype)


def _like(tree: Any) -> Any:
    """Noise in the shapes and types of a tree of arrays."""
    return jax.tree.map(lambda leaf: _noise(leaf.shape, leaf.dtype), tree)


def _noise_batch(experiment: Experiment) -> dict[str, jax.Array]:
    """A batch of noise, with labels of all classes."""
    size, classes = experiment.config.train.batch_size, len(experiment.data.train.classes)
    given = {"label": jnp.arange(size, dtype=jnp.int32) % classes, "valid": jnp.ones(size, bool)}
    arrays = experiment.data.plan.batch.items()
    return given | {name: _noise((size, *shape), dtype) for name, (shape, dtype) in arrays if name not in given}


def _encoder(encoder: Any, x: Any, keys: Any) -> Any:
    return encoder(x, noise=Noise(keys))


def _outputs(model: DeMEGa, features: Any, keys: Any) -> Any:
    return model(features, normalized=True, noise=Noise(keys))


def _attention(layer: ConformerLayer, x: Any, keys: Any) -> Any:
    """A layer's attention with its norm, dropout and residual."""
    noise = Noise(keys)
    if layer.pre_norm:
        return x + dropout(layer.attention(layer.norm2(x), noise=noise.at(1)), layer.rate, noise.at(2))
    return layer.norm2(x + dropout(layer.attention(x, noise=noise.at(1)), layer.rate, noise.at(2)))


def _others(layer: ConformerLayer, x: Any, keys: Any) -> Any:
    """The rest of a layer."""
    noise = Noise(keys)
    if layer.pre_norm:
        x = x + dropout(layer.conv(layer.norm1(x)), layer.rate, noise.at(0))
        return x + layer.feedforward(layer.norm3(x), noise=noise.at(3))
    x = layer.norm1(x + layer.conv(x))
    return layer.norm3(x + layer.feedforward(x, noise=noise.at(3)))
