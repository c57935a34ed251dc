"""Supervised NT-Xent (Khosla et al., 2020; the form with the sum of positives inside the logarithm)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from demega_jax.losses.reduce import Rows, gather

EXP_FLOOR = 1e-8


def supervised_nt_xent(
    projection: Float[Array, "B P"],
    rows: Rows,
    *,
    temperature: float = 0.03,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """-log((sum over positives of exp S + 1e-8) / (sum over the others of exp S + 1e-8)), S = u u' / temperature.

    Averaged over the rows of the global batch that have a positive (another valid row of the same class); 0 when
    none has. The result is what these rows add to that mean. The row's maximum over the others is subtracted first,
    without a gradient.
    """
    label, valid = rows.label, rows.valid
    others_u, others_label, others_valid = (gather(a, axis_name) for a in (projection, label, valid))
    number = jnp.arange(label.shape[0])
    if axis_name is not None:
        number += jax.lax.axis_index(axis_name) * label.shape[0]
    itself = number[:, None] == jnp.arange(others_label.shape[0])[None, :]
    other = others_valid[None, :] & valid[:, None] & ~itself
    positive = other & (label[:, None] == others_label[None, :])

    similarity = jnp.matmul(projection, others_u.T, precision="highest") / temperature
    # A row without others keeps -inf out of the difference: exp would be fine, its gradient would not.
    highest = jnp.max(similarity, axis=-1, keepdims=True, where=other, initial=-jnp.inf)
    highest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(highest), highest, 0.0))
    exponential = jnp.where(other, jnp.exp(jnp.where(other, similarity - highest, 0.0)), 0.0)
    positives = jnp.sum(jnp.where(positive, exponential, 0.0), axis=-1)
    row_loss = jnp.log(exponential.sum(-1) + EXP_FLOOR) - jnp.log(positives + EXP_FLOOR)
    with_positive = jnp.sum(jnp.where(rows.counts > 1, rows.counts, 0.0))
    return jnp.sum(jnp.where(jnp.any(positive, axis=-1), row_loss, 0.0)) / jnp.maximum(with_positive, 1)
