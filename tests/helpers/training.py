"""A train step of a tiny model with its state and placement, as `train` would make them."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import optax

from demega_jax.config import Config
from demega_jax.data.open import TrainingData, plan_rows
from demega_jax.evaluation.compiled import compile_evaluate
from demega_jax.evaluation.step import EvaluateStep
from demega_jax.training.optimizer import ParameterGroups, learning_rate_schedule, make_optimizer
from demega_jax.training.parallel import Placement, make_placement
from demega_jax.training.setup import Experiment, make_experiment
from demega_jax.training.state import TrainState, build, initial_state
from demega_jax.training.step import TrainStep


@dataclasses.dataclass(frozen=True)
class Training:
    """parts: (graphdef, parameters, buffers) before the first step."""

    config: Config
    parts: tuple[Any, Any, Any]
    step: TrainStep
    placement: Placement

    @functools.cached_property
    def compiled(self):
        """(state, batch), both placed -> (state, metrics)."""
        return self.placement.compile_train(self.step)

    def fresh_state(self) -> TrainState:
        """The state before the first step, not placed."""
        _, params, buffers = self.parts
        return initial_state(self.config, params, buffers, self.step.tx, self.step.groups)

    def placed_state(self) -> TrainState:
        """That state on the devices."""
        return self.placement.replicate(self.fresh_state())

    def evaluate_step(self):
        """(parameters, buffers, counts, batch), all placed -> counts."""
        return compile_evaluate(self.placement, EvaluateStep(self.parts[0], self.config, None))


def placement_of(mode: str, devices: int, batch_size: int, accumulate: int = 1) -> Placement:
    """How a step and its arrays lie on the first virtual devices."""
    return make_placement(mode, devices, batch_size, accumulate)


def make_training(
    config: Config,
    *,
    mode: str = "jit",
    devices: int = 1,
    steps_per_epoch: int = 2,
    weights=None,
    swa_start: int = 0,
    normalized: bool = False,
    parts: tuple[Any, Any, Any] | None = None,
    tx: optax.GradientTransformation | None = None,
) -> Training:
    """A run of config.train.steps steps; weights [V]: of the classes.  parts: of a model that is there already."""
    graphdef, params, buffers = parts = parts or build(config.model, 0)
    schedule = learning_rate_schedule(config, steps_per_epoch, config.train.steps)
    groups = ParameterGroups.of(config, params)
    tx = tx or make_optimizer(config, schedule, groups)
    weights = None if weights is None else jnp.asarray(weights)
    step = TrainStep(graphdef, config, weights, groups, tx, swa_start, normalized)
    return Training(config, parts, step, placement_of(mode, devices, config.train.batch_size, config.train.accumulate))


def experiment_of(config: Config, split, *, mode: str = "jit", devices: int = 1) -> Experiment:
    """A run before its first step, with one split for training and for validation."""
    data = TrainingData(plan_rows(config, split), split)
    return make_experiment(config, data, placement_of(mode, devices, config.train.batch_size))
