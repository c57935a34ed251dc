"""Supervised NT-Xent (Khosla et al., 2020; the form with the sum of positives inside the logarithm)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from demega_jax.losses.reduce import gather, share_of_mean

EXP_FLOOR = 1e-8


def supervised_nt_xent(
    projection: Float[Array, "B P"],
    label: Int[Array, " B"],
    valid: Bool[Array, " B"],
    *,
    temperature: float = 0.03,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """-log((sum over positives of exp S + 1e-8) / (sum over the others of exp S + 1e-8)), S = u u' / temperature.

    Averaged over the rows of the global batch that have a positive (another valid row of the same class); 0 when
    none has. The result is what these rows add to that mean. The row's maximum over the others is subtracted first,
    without a gradient.
    """
    others_u, others_label, others_valid = (gather(a, axis_name) for a in (projection, label, valid))
    rows = jnp.arange(label.shape[0])
    if axis_name is not None:
        rows += jax.lax.axis_index(axis_name) * label.shape[0]
    itself = rows[:, None] == jnp.arange(others_label.shape[0])[None, :]
    other = others_valid[None, :] & valid[:, None] & ~itself
    positive = other & (label[:, None] == others_label[None, :])

    similarity = jnp.matmul(projection, others_u.T, precision="highest") / temperature
    # A row without others keeps -inf out of the difference: exp would be fine, its gradient would not.
    highest = jnp.max(similarity, axis=-1, keepdims=True, where=other, initial=-jnp.inf)
    highest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(highest), highest, 0.0))
    exponential = jnp.where(other, jnp.exp(jnp.where(other, similarity - highest, 0.0)), 0.0)
    positives = jnp.sum(jnp.where(positive, exponential, 0.0), axis=-1)
    row_loss = jnp.log(exponential.sum(-1) + EXP_FLOOR) - jnp.log(positives + EXP_FLOOR)
    return share_of_mean(row_loss, jnp.any(positive, axis=-1), axis_name)
