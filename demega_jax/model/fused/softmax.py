"""The softmax within the kernels of attention."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def softmax_of(scores: Float[Array, "t S"], there: Bool[Array, "#t S"], *, masked: bool) -> Float[Array, "t S"]:
    """The softmax of each line over the pairs that there are, float32.

    masked: whether a line may have none of them, which is then 0; else there are keys that every line has.
    """
    scores = jnp.where(there, scores, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
    p = weights / jnp.sum(weights, axis=1, keepdims=True)
    return jnp.where(there, p, 0.0) if masked else p
