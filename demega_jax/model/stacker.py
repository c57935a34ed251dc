"""The MLP stacker: from the logits of base models, side by side, to logits of the classes (model.md section 8)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray


class Stacker(nnx.Module):
    """BatchNorm -> Linear -> SiLU -> BatchNorm -> dropout -> Linear, [B, n V] -> [B, V]."""

    def __init__(self, features: int, classes: int, *, width: int, dropout: float, rngs: nnx.Rngs):
        self.norm1 = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        self.hidden = nnx.Linear(features, width, rngs=rngs)
        self.norm2 = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.out = nnx.Linear(width, classes, rngs=rngs)
        self.rate = dropout

    def __call__(self, x: Float[Array, "B I"], *, key: PRNGKeyArray | None = None) -> Float[Array, "B V"]:
        """Logits. key: of the dropout in training, where the statistics are those of the batch; None: evaluation."""
        evaluating = key is None
        hidden = jax.nn.silu(self.hidden(self.norm1(x, use_running_average=evaluating)))
        hidden = self.norm2(hidden, use_running_average=evaluating)
        if key is not None and self.rate:
            keep = jax.random.bernoulli(key, 1 - self.rate, hidden.shape)
            hidden = jnp.where(keep, hidden / (1 - self.rate), 0)
        return self.out(hidden)
