"""Predictions of a trained run."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from demega_jax.config import Config
from demega_jax.data.spread import SAMPLED, warn_of_small_spread
from demega_jax.evaluation.step import mean_probabilities
from demega_jax.training.checkpoint import read_model, unflatten
from demega_jax.training.members import stack
from demega_jax.training.run import RunFolder
from demega_jax.training.state import abstract


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model: its configuration, its static part, its parameters and buffers.

    steps: of its checkpoint; where a run has members, of each one's, and parameters and buffers have members in front.
    class_counts [V]: rows of each class in the training split.
    """

    config: Config
    graphdef: Any
    params: Any
    buffers: Any
    steps: tuple[int, ...]
    class_counts: Int[np.ndarray, " V"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of `predict`'s columns."""
        assert self.config.model.classes is not None  # a run's configuration is resolved
        return self.config.model.classes

    @property
    def window(self) -> tuple[int, int | None]:
        """(sensors, time points) that a window must have; None where the pooling takes any time length."""
        model = self.config.model
        assert model.sensors is not None  # a run's configuration is resolved
        return model.sensors, model.time_points if model.pool == "flatten" else None

    @property
    def members(self) -> bool:
        """Whether several models are averaged."""
        return len(self.steps) > 1

    def predict(self, x: Float[np.ndarray, "B C T"]) -> Float[np.ndarray, "B V"]:
        """Probabilities of the classes for windows as in grouped files (not normalised by the caller)."""
        warn_of_small_spread("input", np.asarray(x[:SAMPLED], np.float32), self.config.model.input_norm)
        return np.asarray(_probabilities(self.graphdef, self.members, self.params, self.buffers, x))


@jax.jit(static_argnums=(0, 1))
def _probabilities(graphdef: Any, members: bool, params: Any, buffers: Any, x: jax.Array) -> jax.Array:
    def of_one(params: Any, buffers: Any) -> jax.Array:
        return nnx.merge(graphdef, params, buffers)(x).logits

    return mean_probabilities(jax.vmap(of_one)(params, buffers)) if members else jax.nn.softmax(of_one(params, buffers))


def load(run: str | Path) -> Model:
    """The model of a run folder: its best checkpoint, of all its members where it has some.

    Raises: `UserError` when there is none that is whole.
    """
    folder = RunFolder(Path(run))
    config = folder.read_config()
    graphdef, params, buffers = abstract(config.model)
    trees, steps = [], []
    for member in folder.members(config):
        arrays, meta = read_model(member)
        trees.append(unflatten({"params": params, "buffers": buffers}, arrays, member.checkpoints))
        steps.append(int(meta["step"]))
    tree = stack(trees)
    counts = np.asarray(meta["class_counts"])
    return Model(config, graphdef, tree["params"], tree["buffers"], tuple(steps), counts)
