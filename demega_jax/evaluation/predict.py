"""Predictions of a trained model."""

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

    steps: the step of its checkpoint, or those of all members; parameters and buffers then have an axis of members in
    front.  class_counts [V]: number of rows of each class in the training split.
    """

    config: Config
    graphdef: Any
    params: Any
    buffers: Any
    steps: tuple[int, ...]
    class_counts: Int[np.ndarray, " V"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns of `predict`."""
        assert self.config.model.classes is not None  # filled in when training began
        return self.config.model.classes

    @property
    def window(self) -> tuple[int, int | None]:
        """(sensors, time points) that a window must have; None in place of time points where any number fits."""
        model = self.config.model
        assert model.sensors is not None  # filled in when training began
        return model.sensors, model.time_points if model.pool == "flatten" else None

    @property
    def members(self) -> bool:
        """Whether several models are averaged."""
        return len(self.steps) > 1

    def predict(self, x: Float[np.ndarray, "B C T"]) -> Float[np.ndarray, "B V"]:
        """Probabilities of the classes for windows as grouped files hold them, that is, not normalised."""
        warn_of_small_spread("input", np.asarray(x[:SAMPLED], np.float32), self.config.model.input_norm)
        return np.asarray(_probabilities(self.graphdef, self.members, self.params, self.buffers, x))


@jax.jit(static_argnums=(0, 1))
def _probabilities(graphdef: Any, members: bool, params: Any, buffers: Any, x: jax.Array) -> jax.Array:
    def of_one(params: Any, buffers: Any) -> jax.Array:
        return nnx.merge(graphdef, params, buffers)(x).logits

    return mean_probabilities(jax.vmap(of_one)(params, buffers)) if members else jax.nn.softmax(of_one(params, buffers))


def load(run: str | Path) -> Model:
    """The model of a run folder, from its best checkpoint, with all its members where there are several.

    UserError: no checkpoint can be read.
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
