"""Disentangled attention (He et al., 2021): content to content, content to position, position to content."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from demega_jax.config import ModelConfig
from demega_jax.model import cpu_layout
from demega_jax.model.dropout import Noise, dropout
from demega_jax.model.layers import LayerNorm, linear
from demega_jax.model.positions import table_rows, table_size


class Positions(NamedTuple):
    """A layer's projected position table, expanded to every pair (query t, key s); None where a term is off."""

    keys: Float[Array, "H T S D"] | None
    queries: Float[Array, "H S T D"] | None


def disentangled_scores(
    q: Float[Array, "B T H D"], k: Float[Array, "B S H D"], positions: Positions
) -> Float[Array, "B H T S"]:
    """Scaled attention scores in float32 (model.md section 4; He et al., 2021, equations 2 to 4).

    q_t . k_s / sqrt(D (1 + n))  +  q_t . kr[t - s] / sqrt(D n)  +  k_s . qr[t - s] / sqrt(D n), with n position terms.

    Position terms depend on t - s alone. Expanded to pairs they are plain products, with no gather or scatter of
    [B, H, T, S] in either direction. The scales are on the small operands instead of on [B, H, T, S].
    """
    terms = sum(term is not None for term in positions)
    width = q.shape[-1]
    content_scale = jnp.asarray(1 / math.sqrt(width * (1 + terms)), q.dtype)
    position_scale = jnp.asarray(1 / math.sqrt(width * max(terms, 1)), q.dtype)
    scores = cpu_layout.einsum("bthd,bshd->bhts", q * content_scale, k, dtype=jnp.float32)
    if positions.keys is not None:
        scores += cpu_layout.einsum("bthd,htsd->bhts", q, positions.keys * position_scale, dtype=jnp.float32)
    if positions.queries is not None:
        scores += cpu_layout.einsum("bshd,hstd->bhts", k, positions.queries * position_scale, dtype=jnp.float32)
    return scores


def masked_softmax(scores: Float[Array, "B H T S"], keep: Bool[Array, "B T"] | None) -> Float[Array, "B H T S"]:
    """Softmax over keys in float32. Positions that are not kept neither attend nor are attended to (rows of 0)."""
    if keep is None:
        return jax.nn.softmax(scores, axis=-1)
    keep_bhts = keep[:, None, :, None] & keep[:, None, None, :]
    # The lowest finite number instead of -inf: a row that attends to nothing must be 0 and not NaN.
    hidden = jnp.where(keep_bhts, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(hidden, axis=-1) * keep_bhts


class DisentangledAttention(nnx.Module):
    """Multi-head self-attention with a position table of its own, [B, T, E] -> [B, T, E]."""

    def __init__(self, config: ModelConfig, *, rng: np.random.Generator):
        width, dtype = config.width, jnp.dtype(config.dtype)

        def projection() -> nnx.Linear:
            return linear(width, width, dtype=dtype, rng=rng)

        self.query, self.key, self.value, self.out = projection(), projection(), projection(), projection()
        if config.position_terms:
            rows = 2 * table_size(config.num_buckets, config.max_distance)
            table = rng.normal(0.0, config.position_init, (rows, width))
            self.position_table = nnx.Param(table.astype(np.float32))
            self.position_norm = LayerNorm(width, dtype=dtype)
        if "c2p" in config.position_terms and not config.share_key:
            self.position_key = projection()
        if "p2c" in config.position_terms and not config.share_key:
            self.position_query = projection()
        self.config = config

    def positions(self, time_points: int) -> Positions:
        """The projected position table for windows of `time_points`: made once a step and shared by all rows."""
        config = self.config
        if not config.position_terms:
            return Positions(None, None)
        rows = table_rows(time_points, config.num_buckets, config.max_distance)
        table = self.position_norm(self.position_table[...])

        def expanded(project: nnx.Linear, rows: Int[np.ndarray, "T S"]) -> Float[Array, "H T S D"]:
            return cpu_layout.expand_pairs(project(table).reshape(table.shape[0], config.heads, -1), rows)

        keys = queries = None
        if "c2p" in config.position_terms:
            keys = expanded(self.key if config.share_key else self.position_key, rows)
        if "p2c" in config.position_terms:
            queries = expanded(self.query if config.share_key else self.position_query, rows.T)
        return Positions(keys, queries)

    def _heads(self, x: Float[Array, "B T E"]) -> Float[Array, "B T H D"]:
        return x.reshape(*x.shape[:2], self.config.heads, -1)

    def probabilities(
        self, x: Float[Array, "B T E"], *, keep: Bool[Array, "B T"] | None = None
    ) -> Float[Array, "B H T S"]:
        """Attention probabilities before dropout, float32."""
        q, k = self._heads(self.query(x)), self._heads(self.key(x))
        return masked_softmax(disentangled_scores(q, k, self.positions(x.shape[1])), keep)

    def __call__(
        self, x: Float[Array, "B T E"], *, keep: Bool[Array, "B T"] | None = None, noise: Noise | None = None
    ) -> Float[Array, "B T E"]:
        """Attended values. `keep` [B, T] marks real positions; at padded ones the result is 0."""
        rate = self.config.dropout
        probs = self.probabilities(x, keep=keep).astype(x.dtype)
        probs = dropout(probs, rate, noise and noise.at(0))
        attended = cpu_layout.einsum("bhts,bshd->bthd", probs, self._heads(self.value(x)))
        y = self.out(attended.reshape(x.shape))
        if keep is not None:
            y = jnp.where(keep[:, :, None], y, jnp.zeros((), y.dtype))
        return dropout(y, rate, noise and noise.at(1))
