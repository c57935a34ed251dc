"""The state that a step changes: parameters, optimizer state, averages and counters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, UInt32

from demega_jax.config import Config, ModelConfig
from demega_jax.model.demega import DeMEGa
from demega_jax.model.parameters import split_model
from demega_jax.training.optimizer import ParameterGroups


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a training run, a tree of arrays.

    params: nested dicts of parameters.  average: their average, which validation uses; None without averaging.
    buffers: arrays of the model that are not trained (the feature table).  key: threefry key of all random numbers.
    step: number of batches used.
    skipped: how many of them changed nothing because a loss or gradient was not finite.  last_skipped: the last one.
    averaged: number of updates in the average.
    """

    params: Any
    buffers: Any
    opt_state: Any
    average: Any
    key: UInt32[Array, "2"]
    step: Int[Array, ""]
    skipped: Int[Array, ""]
    last_skipped: Int[Array, ""]
    averaged: Int[Array, ""]


def build(config: ModelConfig, seed: int, features: np.ndarray | None = None) -> tuple[Any, Any, Any]:
    """(graphdef, params, buffers) of a new model: its static part, and nested dicts of arrays."""
    return split_model(DeMEGa(config, rngs=np.random.default_rng(seed), features=features))


def abstract(config: ModelConfig, features: np.ndarray | None = None) -> tuple[Any, Any, Any]:
    """`build` with shapes in place of arrays."""
    graphdef, params, buffers = build(config, 0, features)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), [params, buffers])
    return graphdef, shapes[0], shapes[1]


def initial_state(
    config: Config, params: Any, buffers: Any, tx: optax.GradientTransformation, groups: ParameterGroups
) -> TrainState:
    """The state before the first step."""
    average = None if config.train.averaging == "none" else jax.tree.map(jnp.copy, params)
    key = jax.random.key_data(jax.random.key(config.train.seed, impl="threefry2x32"))
    # An array for each counter: a donated array may occur only once.
    counters = {name: jnp.zeros((), jnp.int32) for name in ("step", "skipped", "last_skipped", "averaged")}
    return TrainState(params, buffers, tx.init(groups.vector(params)), average, key, **counters)


def evaluation_params(state: TrainState) -> Any:
    """The parameters that validation and prediction use: the average, where there is one."""
    return state.params if state.average is None else state.average
