"""Disentangled attention (He et al., 2021): content to content, content to position, position to content."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from demega_jax.config import ModelConfig
from demega_jax.model.dropout import Noise, dropout
from demega_jax.model.layers import LayerNorm, Linear
from demega_jax.model.positions import table_rows, table_size

POSITION_INIT_STDDEV = 0.02


class Positions(NamedTuple):
    """A layer's projected position table, expanded to every pair (query t, key s); None: the term is off."""

    keys: Float[Array, "H T S D"] | None
    queries: Float[Array, "H S T D"] | None


def expand_pairs(table: Float[Array, "R2 H D"], rows: Int[np.ndarray, "T S"]) -> Float[Array, "H T S D"]:
    """Rows of the table for every pair, as a product with a constant one-hot, on a CPU looked up.

    The gradient is a product everywhere, where that of a lookup would be a scatter-add.
    """
    one_hot = np.eye(table.shape[0], dtype=np.float32)[rows]

    def product(table: Float[Array, "R2 H D"]) -> Float[Array, "H T S D"]:
        return jnp.einsum("tsr,rhd->htsd", jnp.asarray(one_hot, table.dtype), table)

    @jax.custom_vjp
    def expand(table: Float[Array, "R2 H D"]) -> Float[Array, "H T S D"]:
        return jax.lax.platform_dependent(table, cpu=lambda table: table.swapaxes(0, 1)[:, rows], default=product)

    def transpose(_: None, pairs: Float[Array, "H T S D"]) -> tuple[Float[Array, "R2 H D"]]:
        return jax.linear_transpose(product, table)(pairs)

    expand.defvjp(lambda table: (expand(table), None), transpose)
    return expand(table)


def disentangled_scores(
    q: Float[Array, "B T H D"], k: Float[Array, "B S H D"], positions: Positions
) -> Float[Array, "B H T S"]:
    """Scaled attention scores in float32 (model.md section 4; He et al., 2021, equations 2 to 4).

    q_t . k_s / sqrt(D (1 + n))  +  q_t . kr[t - s] / sqrt(D n)  +  k_s . qr[t - s] / sqrt(D n), with n position terms.

    Both position terms are Toeplitz in (t, s). Expanded to pairs they are plain batched products, batched over
    the query (or key) position: no gather or scatter of [B, H, T, S] in either direction.
    """
    terms = sum(p is not None for p in positions)
    width = q.shape[-1]
    # The scales go on the small operands, not on [B, H, T, S].
    content = _laid_out(q * jnp.asarray(1 / math.sqrt(width * (1 + terms)), q.dtype), 0, 2, 1, 3)
    scores = _product("bhtd,bhsd->bhts", content, _laid_out(k, 0, 2, 1, 3))
    scale = jnp.asarray(1 / math.sqrt(width * max(terms, 1)), q.dtype)
    if positions.keys is not None:
        to_position = _product("htbd,htsd->htbs", _laid_out(q, 2, 1, 0, 3), positions.keys * scale)
        scores += to_position.transpose(2, 0, 1, 3)
    if positions.queries is not None:
        from_position = _product("hsbd,hstd->hsbt", _laid_out(k, 2, 1, 0, 3), positions.queries * scale)
        scores += from_position.transpose(2, 0, 3, 1)
    return _barrier_on_cpu(scores)


def _laid_out(x: Array, *axes: int) -> Array:
    """The axes in this order, in memory, too."""
    return _barrier_on_cpu(x.transpose(axes))


def _product(subscripts: str, *operands: Array) -> Array:
    """A product in float32 whose operands and result lie in memory as they are written here."""
    return _barrier_on_cpu(jnp.einsum(subscripts, *operands, preferred_element_type=jnp.float32))


def _barrier_on_cpu(x: Array) -> Array:
    """Keeps the compiler from merging a product with a transpose, in both directions: on a CPU, products of operands
    that lie otherwise run at a third of the speed. Other backends choose layouts themselves."""
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def masked_softmax(scores: Float[Array, "B H T S"], keep: Bool[Array, "B T"] | None) -> Float[Array, "B H T S"]:
    """Softmax over keys in float32. Positions that are not kept neither attend nor are attended to (rows of 0)."""
    if keep is None:
        return jax.nn.softmax(scores, axis=-1)
    keep_bhts = keep[:, None, :, None] & keep[:, None, None, :]
    # The lowest finite number, not -inf: a row that attends to nothing must be 0 and not NaN.
    hidden = jnp.where(keep_bhts, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(hidden, axis=-1) * keep_bhts


class DisentangledAttention(nnx.Module):
    """Multi-head self-attention with a position table of its own, [B, T, E] -> [B, T, E]."""

    def __init__(self, config: ModelConfig, *, rng: np.random.Generator):
        width, dtype = config.width, jnp.dtype(config.dtype)

        def linear() -> Linear:
            return Linear(width, width, dtype=dtype, rng=rng)

        self.query, self.key, self.value, self.out = linear(), linear(), linear(), linear()
        if config.position_terms:
            rows = 2 * table_size(config.num_buckets, config.max_distance)
            table = rng.normal(0.0, POSITION_INIT_STDDEV, (rows, width))
            self.position_table = nnx.Param(table.astype(np.float32))
            self.position_norm = LayerNorm(width, dtype=dtype)
        if "c2p" in config.position_terms and not config.share_key:
            self.position_key = linear()
        if "p2c" in config.position_terms and not config.share_key:
            self.position_query = linear()
        self.config = config

    def positions(self, time_points: int) -> Positions:
        """The projected position table for windows of `time_points`: once a step, not once a sample."""
        config = self.config
        if not config.position_terms:
            return Positions(None, None)
        rows = table_rows(time_points, config.num_buckets, config.max_distance)
        table = self.position_norm(self.position_table[...])

        def expanded(project: Linear, rows: Int[np.ndarray, "T S"]) -> Float[Array, "H T S D"]:
            return expand_pairs(project(table).reshape(table.shape[0], config.heads, -1), rows)

        keys = queries = None
        if "c2p" in config.position_terms:
            keys = expanded(self.key if config.share_key else self.position_key, rows)
        if "p2c" in config.position_terms:
            queries = expanded(self.query if config.share_key else self.position_query, rows.T)
        return Positions(keys, queries)

    def probabilities(
        self, x: Float[Array, "B T E"], *, keep: Bool[Array, "B T"] | None = None
    ) -> Float[Array, "B H T S"]:
        """Attention probabilities before dropout, float32."""
        q, k = (project(x).reshape(*x.shape[:2], self.config.heads, -1) for project in (self.query, self.key))
        return masked_softmax(disentangled_scores(q, k, self.positions(x.shape[1])), keep)

    def __call__(
        self, x: Float[Array, "B T E"], *, keep: Bool[Array, "B T"] | None = None, noise: Noise | None = None
    ) -> Float[Array, "B T E"]:
        """Attended values. `keep` [B, T] marks real positions; padded ones come out as 0."""
        rate = self.config.dropout
        probs = self.probabilities(x, keep=keep).astype(x.dtype)
        probs = dropout(probs, rate, noise and noise.at(0))
        v = _laid_out(self.value(x).reshape(*x.shape[:2], self.config.heads, -1), 0, 2, 1, 3)
        attended = _barrier_on_cpu(jnp.einsum("bhts,bhsd->bhtd", probs, v))
        y = self.out(attended.swapaxes(1, 2).reshape(x.shape))
        if keep is not None:
            y = jnp.where(keep[:, :, None], y, jnp.zeros((), y.dtype))
        return dropout(y, rate, noise and noise.at(1))
