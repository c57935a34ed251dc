"""Disentangled attention (He et al., 2021): content to content, content to position, position to content."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from demega_jax.config import ModelConfig
from demega_jax.config.model import MOST_KERNEL_TIME_POINTS
from demega_jax.model import cpu_layout
from demega_jax.model.attend import PairRows, Tables, attend
from demega_jax.model.dropout import Dropped, Noise, apply_dropout, at, dropout
from demega_jax.model.fused.attention import attend_fused
from demega_jax.model.fused.bits import PairBits
from demega_jax.model.fused.plan import Plan
from demega_jax.model.layers import LayerNorm, affine, layer_norm, linear, product, side_by_side
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
    # Without a barrier a CPU's program would turn each term into an array of its own before the softmax adds them.
    return cpu_layout.apart_on_cpu(scores)


def masked_softmax(scores: Float[Array, "B H T S"], keep: Bool[Array, "B T"] | None) -> Float[Array, "B H T S"]:
    """Softmax over keys in float32. Positions that are not kept neither attend nor are attended to (rows of 0)."""
    if keep is None:
        return jax.nn.softmax(scores, axis=-1)
    keep_bhts = keep[:, None, :, None] & keep[:, None, None, :]
    # The lowest finite number instead of -inf: a row that attends to nothing must be 0 and not NaN.
    hidden = jnp.where(keep_bhts, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(hidden, axis=-1) * keep_bhts


def expanded(tables: Tables, rows: PairRows) -> Positions:
    """Position tables expanded to every pair."""
    keys, queries = tables
    return Positions(
        None if keys is None else cpu_layout.expand_pairs(keys, rows.rows),
        None if queries is None else cpu_layout.expand_pairs(queries, rows.rows.T),
    )


def attend_by_pairs(
    rows: PairRows,
    keep: Bool[Array, "B T"] | None,
    qkv: Float[Array, "B T 3 H D"],
    tables: Tables,
    dropped: Dropped | None,
) -> Float[Array, "B T H D"]:
    """`attend`, for windows of which `keep` marks the real positions, by plain products that a CPU does fast."""
    q, k, v = jnp.unstack(qkv, axis=2)
    probs = masked_softmax(disentangled_scores(q, k, expanded(tables, rows)), keep).astype(v.dtype)
    return cpu_layout.einsum("bhts,bshd->bthd", apply_dropout(probs, dropped), v)


LayerTables = tuple[Tables, PairRows]


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

    def tables(self, time_points: int) -> LayerTables:
        """The projected rows of the position table that windows of `time_points` use, and the row of every pair."""
        return tables_of([self], time_points)[0]

    def position_projections(self) -> dict[str, nnx.Linear]:
        """What projects the position table, by term: c2p to keys, p2c to queries."""
        found = {}
        if "c2p" in self.config.position_terms:
            found["c2p"] = self.key if self.config.share_key else self.position_key
        if "p2c" in self.config.position_terms:
            found["p2c"] = self.query if self.config.share_key else self.position_query
        return found

    def _heads(self, x: Float[Array, "B T E"]) -> Float[Array, "B T H D"]:
        return x.reshape(*x.shape[:2], self.config.heads, -1)

    def probabilities(
        self, x: Float[Array, "B T E"], *, keep: Bool[Array, "B T"] | None = None
    ) -> Float[Array, "B H T S"]:
        """Attention probabilities before dropout, float32."""
        q, k = self._heads(self.query(x)), self._heads(self.key(x))
        return masked_softmax(disentangled_scores(q, k, expanded(*self.tables(x.shape[1]))), keep)

    def _joint(self, x: Float[Array, "B T E"]) -> Float[Array, "B T 3 H D"]:
        """Queries, keys and values."""
        joint = side_by_side(x, (self.query, self.key, self.value))
        return joint.reshape(*joint.shape[:3], self.config.heads, -1)

    def branch(
        self, x: Float[Array, "B T E"], keep: Bool[Array, "B T"] | None, noise: Noise | None, tables: LayerTables
    ) -> Float[Array, "B T E"]:
        """Attended values by the kernels for accelerators, before the bias and dropout that come last."""
        return product(self.out, self._fused(self._joint(x), *tables, keep, at(noise, 0)).reshape(x.shape))

    def _fused(
        self,
        qkv: Float[Array, "B T 3 H D"],
        tables: Tables,
        rows: PairRows,
        keep: Bool[Array, "B T"] | None,
        noise: Noise | None,
    ) -> Float[Array, "B T H D"]:
        """Attended values by the kernels for accelerators."""
        batch, time, _, heads, width = qkv.shape
        terms = (tables.keys is not None, tables.queries is not None)
        bits = None if noise is None else PairBits.of(noise.site, time, self.config.dropout)
        words = jnp.zeros((batch, 2), jnp.uint32) if noise is None else noise.keys
        plan = Plan(batch, time, heads, width, rows, terms, bits, masked=keep is not None)
        return attend_fused(plan, functools.partial(attend_by_pairs, rows), words, keep, qkv, tables)

    def __call__(
        self,
        x: Float[Array, "B T E"],
        *,
        keep: Bool[Array, "B T"] | None = None,
        noise: Noise | None = None,
        tables: LayerTables | None = None,
    ) -> Float[Array, "B T E"]:
        """Attended values.

        keep: real positions of padded windows; at the others the result is 0.  tables: those of this layer, if they
        are at hand.
        """
        rate, time = self.config.dropout, x.shape[1]
        tables = tables or self.tables(time)
        qkv, (of_layer, rows) = self._joint(x), tables
        by_pairs = functools.partial(attend_by_pairs, rows, keep)
        if self.config.attention == "fused" and time <= MOST_KERNEL_TIME_POINTS:
            y = self.out(self._fused(qkv, of_layer, rows, keep, at(noise, 0)).reshape(x.shape))
        else:
            dropped = noise.at(0).keep((self.config.heads, time, time), rate) if noise is not None and rate else None
            if keep is None:
                attended = cpu_layout.on_cpu_or_not(by_pairs, functools.partial(attend, rows), qkv, of_layer, dropped)
            else:
                attended = by_pairs(qkv, of_layer, dropped)
            y = affine(self.out, attended.reshape(x.shape))
        if keep is not None:
            y = jnp.where(keep[:, :, None], y, jnp.zeros((), y.dtype))
        return dropout(y, rate, at(noise, 1))


def tables_of(layers: Sequence[DisentangledAttention], time_points: int) -> list[LayerTables]:
    """`DisentangledAttention.tables` of several layers with the same settings, each step as one for all of them."""
    config = layers[0].config
    if not config.position_terms:
        rows = PairRows(np.zeros((time_points, time_points), np.int64))
        return [(Tables(None, None), rows)] * len(layers)
    of_pairs = table_rows(time_points, config.num_buckets, config.max_distance)
    used, numbers = np.unique(of_pairs, return_inverse=True)
    table = jnp.stack([layer.position_table[...] for layer in layers])[:, used]
    scale, shift = (
        jnp.stack([getattr(layer.position_norm, name)[...] for layer in layers])[:, None] for name in ("scale", "bias")
    )
    dtype = layers[0].position_norm.dtype
    projections = [layer.position_projections() for layer in layers]
    kernel = jnp.stack([jnp.concatenate([each.kernel[...] for each in of.values()], axis=1) for of in projections])
    bias = jnp.stack(
        [jnp.concatenate([each.bias[...] for each in of.values() if each.bias is not None]) for of in projections]
    )[:, None]
    projected = layer_norm(table, scale, shift).astype(dtype) @ kernel.astype(dtype) + bias.astype(dtype)
    projected = projected.reshape(len(layers), len(used), len(projections[0]), config.heads, -1)  # [L, R, n, H, D]
    place = {term: number for number, term in enumerate(projections[0])}
    pairs = PairRows(numbers.reshape(of_pairs.shape))
    return [
        (Tables(*(each[:, place[term]] if term in place else None for term in ("c2p", "p2c"))), pairs)
        for each in projected
    ]
