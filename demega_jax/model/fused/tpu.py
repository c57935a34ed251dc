"""The kernels for TPUs, by Pallas.

A program has one row of the batch and all heads. The position tables come by distance, [2S, E]: products with them
are [T, 2S], and a roll of line t by its number turns them into [T, S]. The backward pass rolls the other way.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu
from jaxtyping import Array, Bool, Float, UInt32

from demega_jax.model.attend import Tables
from demega_jax.model.fused.plan import Plan
from demega_jax.model.fused.softmax import softmax_of

LANES = 128

Ref = Array  # what a kernel reads and writes: an array in memory


@dataclasses.dataclass(frozen=True)
class Sizes:
    """keys: S, the time points filled up to whole lines of lanes."""

    plan: Plan
    keys: int
    interpret: bool

    @classmethod
    def of(cls, plan: Plan, interpret: bool) -> "Sizes":
        """The sizes of a plan."""
        return cls(plan, math.ceil(plan.time / LANES) * LANES, interpret)

    @property
    def width(self) -> int:
        """E."""
        return self.plan.heads * self.plan.width

    def kept(self, keep: Bool[Array, "B T"] | None) -> Float[Array, "B 1 S"]:
        """1 at the real positions of each row; without `keep`, one line that no kernel reads."""
        if keep is None:
            return jnp.zeros((1, 1, self.keys), jnp.float32)
        return jnp.pad(keep.astype(jnp.float32), ((0, 0), (0, self.keys - self.plan.time)))[:, None]

    def of_distances(self, falling: bool) -> Float[Array, "2S R"]:
        """1 where a place of a line of [T, 2S] has that row of the table.

        Place j is the distance t - s = j - S + 1, or, falling, S - 1 - j.
        """
        more = self.keys - self.plan.time
        rows = np.pad(self.plan.by_distance, (more, more), constant_values=-1)
        rows = np.append(rows[::-1] if falling else rows, -1)
        return jnp.asarray(rows[:, None] == np.arange(int(self.plan.rows.rows.max()) + 1), jnp.float32)

    def by_distance(self, tables: Tables, falling: tuple[bool, bool], like: Array) -> list[Float[Array, "2S E"]]:
        """The tables by distance, and zeros for one that is not there."""

        def one(table: Float[Array, "R H D"] | None, falling: bool) -> Float[Array, "2S E"]:
            if table is None:
                return jnp.zeros((2 * self.keys, self.width), like.dtype)
            ones = self.of_distances(falling).astype(table.dtype)
            return jnp.einsum("er,rhd->ehd", ones, table).reshape(-1, self.width)

        return [one(*each) for each in zip(tables, falling, strict=True)]

    def by_row(
        self, gradient: Float[Array, "2S E"], falling: bool, table: Float[Array, "R H D"] | None
    ) -> Float[Array, "R H D"] | None:
        """The gradient of a table from that of the table by distance."""
        if table is None:
            return None
        whole = jnp.einsum("er,ehd->rhd", self.of_distances(falling), gradient.reshape(-1, *table.shape[1:]))
        return whole.astype(table.dtype)


# Whether the tables of keys and of queries are by falling distance, in the forward pass: a roll goes one way alone.
FORWARD, BACKWARD = (True, False), (False, True)


def _dot(a: Array, b: Array, contract: tuple[int, int] = (1, 0)) -> Float[Array, "m n"]:
    """A product with sums in float32. contract: the axes over which it sums."""
    # Said for both: a product of bfloat16 numbers is refused where jax is asked for exact ones everywhere.
    exact = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    axes = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(a, b, axes, precision=exact, preferred_element_type=jnp.float32)


def rolled(sizes: Sizes, x: Float[Array, "T n"], shift: int) -> Float[Array, "T n"]:
    """Line t moved to the right by shift + t places, around the end."""
    if not sizes.interpret:
        return tpu.roll(x, shift, 1, stride=1, stride_axis=0)
    # off a TPU that would be an operation for every line
    line, place = (jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (0, 1))
    return jnp.take_along_axis(x, (place - line - shift) % x.shape[1], axis=1)


def _pairs_of(sizes: Sizes, terms: Float[Array, "T 2S"]) -> Float[Array, "T S"]:
    """Line t from place S - 1 - t on."""
    return rolled(sizes, terms, sizes.keys + 1)[:, : sizes.keys]


def _places_of(sizes: Sizes, pairs: Float[Array, "T S"]) -> Float[Array, "T 2S"]:
    """The pair (t, s) at place t - s + S - 1 of line t: the columns in reverse order, and line t rolled by t.

    The product that reverses them is one with zeros and ones, and therefore exact.
    """
    keys = sizes.keys
    down, along = (jax.lax.broadcasted_iota(jnp.int32, (keys, keys), axis) for axis in (0, 1))
    reverse = jnp.where(down + along == keys - 1, 1.0, 0.0).astype(pairs.dtype)
    reverse_order = _dot(pairs, reverse)
    wide = jnp.concatenate([reverse_order, jnp.zeros_like(reverse_order)], axis=1)
    return rolled(sizes, wide, 0).astype(pairs.dtype)


class _Head(NamedTuple):
    """The arrays of one head of a window, with zeros at time points that there are not."""

    q: Float[Array, "T D"]
    k: Float[Array, "S D"]
    v: Float[Array, "S D"]
    of_keys: Float[Array, "2S D"]
    of_queries: Float[Array, "2S D"]


def _lines(sizes: Sizes, ref: Ref, part: int, head: int) -> Float[Array, "T D"]:
    """The columns of a head in the given part of [1, T, n E]."""
    start = part * sizes.width + head * sizes.plan.width
    values = ref[0, :, start : start + sizes.plan.width]
    there = jax.lax.broadcasted_iota(jnp.int32, values.shape, 0) < sizes.plan.time
    return jnp.where(there, values, jnp.zeros_like(values))


def _head(sizes: Sizes, qkv: Ref, of_keys: Ref, of_queries: Ref, head: int) -> _Head:
    columns = slice(head * sizes.plan.width, (head + 1) * sizes.plan.width)
    q, k, v = (_lines(sizes, qkv, part, head) for part in range(3))
    return _Head(q, k, v, of_keys[:, columns], of_queries[:, columns])


def _probabilities(sizes: Sizes, words: Ref, keep: Ref, row: Array, head: int, of: _Head) -> tuple[Array, Array]:
    """The probabilities of a head before and after dropout, [T, S], float32."""
    plan, keys = sizes.plan, sizes.keys
    content, position = plan.scales
    scores = _dot(of.q, of.k, (1, 1)) * content
    if plan.terms[0]:
        scores = scores + _pairs_of(sizes, _dot(of.q, of.of_keys, (1, 1)) * position)
    if plan.terms[1]:
        scores = scores + _pairs_of(sizes, _dot(of.k, of.of_queries, (1, 1)) * position).T
    there = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1) < plan.time
    if plan.masked:
        there = _dot(keep[0], keep[0], (0, 0)) > 0.5  # every pair of real positions
    p = softmax_of(scores, there, masked=plan.masked)
    if plan.bits is None:
        return p, p
    query = jax.lax.broadcasted_iota(jnp.int32, (keys, 1), 0).astype(jnp.uint32)
    line = jax.lax.broadcasted_iota(jnp.int32, (1, keys), 1).astype(jnp.uint32)
    stays = plan.bits.keep((words[row, 0], words[row, 1]), head, 0, query, line)
    return p, jnp.where(stays, p * (1 / plan.kept), 0.0)


def _forward_kernel(sizes: Sizes, words: Ref, keep: Ref, qkv: Ref, of_keys: Ref, of_queries: Ref, out: Ref) -> None:
    row = pl.program_id(0)
    heads = []
    for head in range(sizes.plan.heads):
        of = _head(sizes, qkv, of_keys, of_queries, head)
        _, a = _probabilities(sizes, words, keep, row, head, of)
        heads.append(_dot(a.astype(of.v.dtype), of.v).astype(out.dtype))
    out[0] = jnp.concatenate(heads, axis=1)


def _head_gradients(sizes: Sizes, of: _Head, g: Array, p: Array, a: Array) -> _Head:
    """The gradients of the arrays of a head, float32. of: with the tables in the order of the backward pass."""
    ratio = sizes.plan.scales[1] / sizes.plan.scales[0]
    da = _dot(g, of.v, (1, 1))
    ds = sizes.plan.scales[0] * (a * da - p * jnp.sum(a * da, axis=1, keepdims=True))
    dv, half = _dot(a.astype(g.dtype), g, (0, 0)), ds.astype(g.dtype)
    dq, dk = _dot(half, of.k), _dot(half, of.q, (0, 0))
    d_keys = d_queries = jnp.zeros(of.of_keys.shape, jnp.float32)
    if sizes.plan.terms[0]:
        places = _places_of(sizes, half)
        dq, d_keys = dq + ratio * _dot(places, of.of_keys), ratio * _dot(places, of.q, (0, 0))
    if sizes.plan.terms[1]:
        places = _places_of(sizes, ds.T.astype(g.dtype))
        dk, d_queries = dk + ratio * _dot(places, of.of_queries), ratio * _dot(places, of.k, (0, 0))
    return _Head(dq, dk, dv, d_keys, d_queries)


def _backward_kernel(
    sizes: Sizes,
    words: Ref,
    keep: Ref,
    qkv: Ref,
    of_keys: Ref,
    of_queries: Ref,
    keys_back: Ref,
    queries_back: Ref,
    g: Ref,
    dqkv: Ref,
    d_keys: Ref,
    d_queries: Ref,
) -> None:
    row = pl.program_id(0)
    found = []
    for head in range(sizes.plan.heads):
        p, a = _probabilities(sizes, words, keep, row, head, _head(sizes, qkv, of_keys, of_queries, head))
        of = _head(sizes, qkv, keys_back, queries_back, head)
        found.append(_head_gradients(sizes, of, _lines(sizes, g, 0, head), p, a))
    whole = _Head(*(jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))
    dqkv[0] = jnp.concatenate([each.astype(dqkv.dtype) for each in (whole.q, whole.k, whole.v)], axis=1)

    @pl.when(row == 0)
    def _() -> None:
        d_keys[...], d_queries[...] = jnp.zeros_like(d_keys), jnp.zeros_like(d_queries)

    d_keys[...] += whole.of_keys
    d_queries[...] += whole.of_queries


def _call(
    sizes: Sizes,
    kernel: Callable[..., None],
    lines: Sequence[Array],
    words: Array,
    keep: Array,
    tables: Sequence[Array],
    outputs: Sequence[jax.ShapeDtypeStruct],
    cost: dict[str, int],
) -> list[Array]:
    """Run a kernel, row by row. lines: arrays [B, T, n E], the first before the tables and the others after them."""

    def of_row(shape: Sequence[int]) -> pl.BlockSpec:
        # Filled up to S: what is read beyond T is undefined, and what is written there is lost.
        return pl.BlockSpec((1, sizes.keys, shape[2]), lambda row: (row, 0, 0))

    def of_kept() -> pl.BlockSpec:
        return pl.BlockSpec((1, 1, sizes.keys), lambda row: (row if sizes.plan.masked else 0, 0, 0))

    def whole(shape: Sequence[int]) -> pl.BlockSpec:
        return pl.BlockSpec(tuple(shape), lambda row: (0, 0))

    first, *others = lines
    return pl.pallas_call(
        partial(kernel, sizes),
        grid=(sizes.plan.batch,),
        in_specs=[
            pl.BlockSpec(memory_space=tpu.SMEM),
            of_kept(),
            of_row(first.shape),
            *(whole(table.shape) for table in tables),
            *(of_row(other.shape) for other in others),
        ],
        out_specs=[(of_row if len(each.shape) == 3 else whole)(each.shape) for each in outputs],
        out_shape=list(outputs),
        cost_estimate=pl.CostEstimate(**cost),
        interpret=sizes.interpret,
        name="fused_attention" + kernel.__name__.removesuffix("_kernel"),
    )(words, keep, first, *tables, *others)


def forward(
    plan: Plan,
    words: UInt32[Array, "B 2"],
    keep: Bool[Array, "B T"] | None,
    qkv: Float[Array, "B T 3 H D"],
    tables: Tables,
    *,
    interpret: bool = False,
) -> Float[Array, "B T H D"]:
    """Attended values."""
    sizes = Sizes.of(plan, interpret)
    outputs = [jax.ShapeDtypeStruct((plan.batch, plan.time, sizes.width), qkv.dtype)]
    cost = plan.cost(4, 2, qkv.dtype.itemsize)
    by_distance = sizes.by_distance(tables, FORWARD, qkv)
    (out,) = _call(sizes, _forward_kernel, [_flat(qkv)], words, sizes.kept(keep), by_distance, outputs, cost)
    return out.reshape(plan.batch, plan.time, plan.heads, plan.width)


def backward(
    plan: Plan,
    words: UInt32[Array, "B 2"],
    keep: Bool[Array, "B T"] | None,
    qkv: Float[Array, "B T 3 H D"],
    tables: Tables,
    g: Float[Array, "B T H D"],
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "B T 3 H D"], Tables]:
    """The gradients of q, k and v, and of the tables."""
    sizes = Sizes.of(plan, interpret)
    of_table = jax.ShapeDtypeStruct((2 * sizes.keys, sizes.width), jnp.float32)
    outputs = [jax.ShapeDtypeStruct((plan.batch, plan.time, 3 * sizes.width), qkv.dtype), of_table, of_table]
    by_distance = [each for order in (FORWARD, BACKWARD) for each in sizes.by_distance(tables, order, qkv)]
    cost = plan.cost(7, 5, qkv.dtype.itemsize)
    lines = [_flat(qkv), _flat(g)]
    dqkv, *sums = _call(sizes, _backward_kernel, lines, words, sizes.kept(keep), by_distance, outputs, cost)
    gradients = (sizes.by_row(*each) for each in zip(sums, BACKWARD, tables, strict=True))
    return dqkv.reshape(qkv.shape), Tables(*gradients)


def _flat(x: Array) -> Float[Array, "B T n"]:
    return x.reshape(*x.shape[:2], -1)
