"""Which sensors and times a prediction depends on: gradients with respect to the window."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from demega_jax.data.feeds.host_batch import BatchReader
from demega_jax.data.feeds.order import PADDING
from demega_jax.data.split import Split
from demega_jax.evaluation.model import Model
from demega_jax.training.setup import is_normalized
from demega_jax.training.step import Batch, inputs

MOST_ROWS = 1024  # rows that a saliency is averaged over; it hardly changes with more
BATCH = 64


def saliency_of(model: Model, split: Split, most: int = MOST_ROWS) -> Float[np.ndarray, "C T"]:
    """The mean over rows of |d log p(label) / d x|, with x the normalised window and p averaged over members.

    After Simonyan, Vedaldi and Zisserman (2014). Unit: nats for one unit of the normalised window. most: rows, evenly
    spread over the split.
    """
    rows = np.unique(np.linspace(0, split.rows - 1, min(most, split.rows)).round().astype(np.int64))
    size = min(BATCH, len(rows))
    reader = BatchReader(split, split.reader(), size, 2)
    step = jax.jit(_gradient_sum(model, is_normalized(model.config, split)))
    total = np.zeros(split.window)
    for first in range(0, len(rows), size):
        chosen = rows[first : first + size]
        batch = reader.read(np.pad(chosen, (0, size - len(chosen)), constant_values=PADDING))
        total += np.asarray(step(model.member_params, model.member_buffers, batch), np.float64)
    return total / len(rows)


def _gradient_sum(model: Model, normalized: bool) -> Callable[[PyTree, PyTree, Batch], Float[Array, "C T"]]:
    """The function (params, buffers, batch) -> sum of |gradients| over the valid rows."""

    def log_probability(x: Float[Array, "B C T"], params: PyTree, buffers: PyTree, batch: Batch) -> Float[Array, ""]:
        def of_member(params: PyTree, buffers: PyTree) -> Float[Array, "B V"]:
            return jax.nn.log_softmax(nnx.merge(model.graphdef, params, buffers)(x, normalized=True).logits)

        each = jax.vmap(of_member)(params, buffers)
        mean = jax.nn.logsumexp(each, axis=0) - jnp.log(each.shape[0])
        return jnp.take_along_axis(mean, batch["label"][:, None], axis=1).sum()

    def gradient_sum(params: PyTree, buffers: PyTree, batch: Batch) -> Float[Array, "C T"]:
        # The rows of a batch do not depend on each other, so the gradient of their sum has that of each.
        x = inputs(batch, model.config.model.input_norm, normalized)
        gradient = jax.grad(log_probability)(x, params, buffers, batch)
        return jnp.sum(jnp.abs(gradient) * batch["valid"][:, None, None], axis=0)

    return gradient_sum
