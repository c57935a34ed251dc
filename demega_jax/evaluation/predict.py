"""Predictions of a trained run."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from demega_jax.config import Config
from demega_jax.training.checkpoint import unflatten
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import read_model
from demega_jax.training.state import abstract


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model: its configuration, its static part, its parameters and buffers.

    step: of the checkpoint.  class_counts [V]: rows of each class in the training split.
    """

    config: Config
    graphdef: Any
    params: Any
    buffers: Any
    step: int
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

    def predict(self, x: Float[np.ndarray, "B C T"]) -> Float[np.ndarray, "B V"]:
        """Probabilities of the classes for windows as in grouped files (not normalised by the caller)."""
        return np.asarray(_probabilities(self.graphdef, self.params, self.buffers, x))


@jax.jit(static_argnums=0)
def _probabilities(graphdef: Any, params: Any, buffers: Any, x: jax.Array) -> jax.Array:
    return jax.nn.softmax(nnx.merge(graphdef, params, buffers)(x).logits)


def load(run: str | Path) -> Model:
    """The model of a run folder: its best checkpoint. Raises `UserError` when there is none that is whole."""
    folder = RunFolder(Path(run))
    config = folder.read_config()
    arrays, meta = read_model(folder)
    graphdef, params, buffers = abstract(config.model)
    tree = unflatten({"params": params, "buffers": buffers}, arrays, folder.checkpoints)
    return Model(config, graphdef, tree["params"], tree["buffers"], meta["step"], np.asarray(meta["class_counts"]))
