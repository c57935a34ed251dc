"""The kernels for NVIDIA GPUs, by Pallas' Triton lowering: the one file that knows it.

A program has one head and a few neighbouring rows of the batch, which it takes one after the other, and queries in
tiles that see all keys, so that the softmax of a tile is whole. What crosses lanes goes through a few pages that belong
to the program and stay in the cache: q kr' [T, R] and k qr' [S, R], in which a pair finds its row, and the gradient of
the scores by distance, [T, 2T], whose product with zeros and ones is the sum over the pairs of a row.

Lines of a page are read and written along their last axis by neighbouring threads: the terms of k are therefore looked
up as [S, T] and turned.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, UInt32

from demega_jax.model.attend import Tables
from demega_jax.model.fused.plan import Plan, power_of_two

LEAST = 16  # products have no smaller axis
TILE_BYTES = 2 * 8192  # of a tile's pairs: at eight warps, 32 registers of a thread hold a number of each
ROWS = 8  # rows of the batch that a program takes at most
WARPS = 8

Ref = Array  # what a kernel reads and writes: an array in memory


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Axes as products want them. keys: S.  tile: queries of a tile.  table: R.  share: rows of a program.

    interpret: whether the kernel is run line by line, where there is no GPU.
    """

    plan: Plan
    keys: int
    tile: int
    table: int
    share: int
    interpret: bool

    @classmethod
    def of(cls, plan: Plan, value_bytes: int, interpret: bool) -> "Sizes":
        """The sizes of a plan. value_bytes: of a number in memory."""
        keys = power_of_two(plan.time, LEAST)
        share = next(count for count in range(min(ROWS, plan.batch), 0, -1) if plan.batch % count == 0)
        table = power_of_two(int(plan.rows.rows.max()) + 1, LEAST)
        return cls(plan, keys, min(keys, max(LEAST, TILE_BYTES // value_bytes // keys)), table, share, interpret)

    def wait(self) -> None:
        """Within a kernel, let every thread of the program see what the others wrote."""
        if not self.interpret:
            triton.debug_barrier()

    @property
    def grid(self) -> tuple[int, int]:
        """A program for each head and each share of the rows."""
        return self.plan.heads, self.plan.batch // self.share

    @property
    def pair_rows(self) -> Array:
        """The table's row of every pair and, below, of every pair the other way round, [2, S, S]."""
        rows = np.pad(self.plan.rows.rows, (0, self.keys - self.plan.time)).astype(np.int32)
        return jnp.asarray(np.stack([rows, rows.T]))

    def of_distances(self, dtype: np.dtype) -> Array:
        """1 where a distance t - s, from -(S - 1) on, has that row of the table, [2S, R]."""
        there, more = self.plan.by_distance, self.keys - self.plan.time
        padded = np.pad(there, (more, 2 * self.keys - len(there) - more), constant_values=-1)
        return jnp.asarray(padded[:, None] == np.arange(self.table), dtype)

    def filled(self, table: Float[Array, "R H D"] | None, like: Array) -> Float[Array, "H R D"]:
        """A table with rows of zeros up to `table`; zeros for one that is not there."""
        if table is None:
            return jnp.zeros((self.plan.heads, self.table, self.plan.width), like.dtype)
        return jnp.pad(table, ((0, self.table - len(table)), (0, 0), (0, 0))).swapaxes(0, 1)


def _dot(a: Array, b: Array, *, trans_a: bool = False, trans_b: bool = False) -> Array:
    """A product with sums in float32, and with all bits of float32 operands."""
    return triton.dot(a, b, trans_a=trans_a, trans_b=trans_b, allow_tf32=False)


def _down(count: int, first: Array | int = 0) -> Array:
    return first + jax.lax.broadcasted_iota(jnp.int32, (count, 1), 0)


def _along(count: int) -> Array:
    return jax.lax.broadcasted_iota(jnp.int32, (1, count), 1)


def _places(*indices: Array | int) -> tuple[Array, ...]:
    """Indices as loads and stores take them."""
    return tuple(jnp.asarray(index, jnp.int32) for index in indices)


class _Window:
    """One row of the batch and one head, within a kernel: reads and writes [B, T, 3, H, D] and [B, T, H, D]."""

    def __init__(self, sizes: Sizes, head: Array, row: Array):
        self.sizes, self.head, self.row = sizes, head, row

    def _at(self, t: Array, part: tuple[int, ...]) -> tuple[Array, ...]:
        return _places(self.row, t, *part, self.head, _along(self.sizes.plan.width))

    def read(self, ref: Ref, t: Array, *part: int) -> Float[Array, "t D"]:
        """The lines t [t, 1], zeros where there is no such time point."""
        # Every element of the block has an answer of its own, as a mask of one column would be refused.
        there = jnp.broadcast_to(t < self.sizes.plan.time, (t.shape[0], self.sizes.plan.width))
        return triton.load(ref.at[self._at(t, part)], mask=there, other=0.0)

    def write(self, ref: Ref, t: Array, value: Float[Array, "t D"], *part: int) -> None:
        """Write the lines t [t, 1] that are time points."""
        there = jnp.broadcast_to(t < self.sizes.plan.time, value.shape)
        triton.store(ref.at[self._at(t, part)], value.astype(ref.dtype), mask=there)


class _Lookups:
    """The position terms of a window: pages [1, 1, T, R] of the program, filled from the tables."""

    def __init__(self, sizes: Sizes, tables: Tables, pair_rows: Ref, pages: tuple[Ref, Ref]):
        self.sizes, self.tables, self.pair_rows, self.pages = sizes, tables, pair_rows, pages
        self.scale = sizes.plan.scales[1]

    def fill(self, which: int, lines: Float[Array, "t D"], at: Array) -> None:
        """Write the products of `lines` with a table to its page, from line `at` [t, 1] on."""
        if self.sizes.plan.terms[which]:
            page = self.pages[which]
            terms = _dot(lines, self.tables[which][0], trans_b=True) * self.scale
            triton.store(page.at[_places(0, 0, at, _along(self.sizes.table))], terms.astype(page.dtype))

    def of_tile(self, first: Array) -> Float[Array, "t S"] | float:
        """What the position terms add to the scores of the queries from `first` on."""
        tile, keys, added = self.sizes.tile, self.sizes.keys, 0.0
        if self.sizes.plan.terms[0]:
            t, s = _down(tile), _along(keys)
            number = triton.load(self.pair_rows.at[_places(0, first + t, s)])
            added += triton.load(self.pages[0].at[_places(0, 0, t, number)]).astype(jnp.float32)
        if self.sizes.plan.terms[1]:
            s, t = _down(keys), first + _along(tile)
            number = triton.load(self.pair_rows.at[_places(1, s, t)])
            added += triton.load(self.pages[1].at[_places(0, 0, s, number)]).astype(jnp.float32).T
        return added


def _probabilities(
    sizes: Sizes, q: Array, k: Array, added: Array | float, words: Ref, window: _Window, first: Array
) -> tuple[Float[Array, "t S"], Float[Array, "t S"]]:
    """The probabilities of a tile before and after dropout, float32."""
    plan = sizes.plan
    scores = _dot(q, k, trans_b=True) * plan.scales[0] + added
    scores = jnp.where(_along(sizes.keys) < plan.time, scores, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
    p = weights / jnp.sum(weights, axis=1, keepdims=True)
    if plan.bits is None:
        return p, p
    key = (triton.load(words.at[_places(window.row, 0)]), triton.load(words.at[_places(window.row, 1)]))
    query, s = _down(sizes.tile).astype(jnp.uint32), _along(sizes.keys).astype(jnp.uint32)
    keep = plan.bits.keep(key, window.head, first, query, s)
    return p, jnp.where(keep, p * (1 / plan.kept), 0.0)


def _forward_kernel(
    sizes: Sizes, words: Ref, qkv: Ref, of_keys: Ref, of_queries: Ref, pair_rows: Ref, out: Ref, *pages: Ref
) -> None:
    head, first_row = pl.program_id(0), pl.program_id(1) * sizes.share

    def one_row(number: Array, _: None) -> None:
        window = _Window(sizes, head, first_row + number)
        all_keys = _down(sizes.keys)
        k, v = window.read(qkv, all_keys, 1), window.read(qkv, all_keys, 2)
        lookups = _Lookups(sizes, Tables(of_keys, of_queries), pair_rows, pages)
        lookups.fill(1, k, all_keys)

        def one_tile(turn: Array, _: None) -> None:
            first = turn * sizes.tile
            queries = _down(sizes.tile, first)
            q = window.read(qkv, queries, 0)
            lookups.fill(0, q, _down(sizes.tile))
            sizes.wait()
            _, a = _probabilities(sizes, q, k, lookups.of_tile(first), words, window, first)
            window.write(out, queries, _dot(a.astype(v.dtype), v))
            sizes.wait()

        jax.lax.fori_loop(0, sizes.keys // sizes.tile, one_tile, None)

    jax.lax.fori_loop(0, sizes.share, one_row, None)


class _Sums:
    """Sums of the scores' gradient over the pairs that have the same row of a table.

    A page [1, 1, t, 2S] of the program holds the gradient by distance; a product with zeros and ones sums it.
    """

    def __init__(self, sizes: Sizes, of_distances: Ref, page: Ref):
        self.sizes, self.of_distances, self.page = sizes, of_distances, page

    def put(self, gradient: Array, line: Array, distance: Array) -> None:
        """Write a part of the gradient. line, distance: of each of its elements, the distance from 0 on."""
        triton.store(self.page.at[_places(0, 0, line, distance)], gradient)

    def rows(self, line: Array, sign: int) -> Float[Array, "t R"]:
        """The sums of the lines [t, 1] of a page, float32. sign: 1 for lines of t, and -1 for lines of s."""
        keys, table, part = self.sizes.keys, self.sizes.table, min(64, 2 * self.sizes.keys)
        here = _down(line.shape[0])

        def one_part(turn: Array, total: Array) -> Array:
            place = turn * part + _along(part)
            # the other time point of the pair: the page holds something only where there is one
            other = line - sign * (place - keys + 1)
            values = triton.load(self.page.at[_places(0, 0, here, place)], mask=(other >= 0) & (other < keys), other=0.0)
            ones = triton.load(self.of_distances.at[_down(part, turn * part), _along(table)])
            return total + _dot(values, ones)

        return jax.lax.fori_loop(0, 2 * keys // part, one_part, jnp.zeros((line.shape[0], table), jnp.float32))


class _Pass(NamedTuple):
    """What the backward kernel reads and writes in memory."""

    words: Ref
    qkv: Ref
    of_keys: Ref
    of_queries: Ref
    pair_rows: Ref
    of_distances: Ref
    g: Ref
    dqkv: Ref
    d_keys: Ref
    d_queries: Ref
    page_of_q: Ref
    page_of_k: Ref
    sums_of_t: Ref
    sums_of_s: Ref


class _Gradients(NamedTuple):
    """Sums over the tiles of a window, and over windows for the tables, float32."""

    k: Float[Array, "S D"]
    v: Float[Array, "S D"]
    keys: Float[Array, "R D"]


def _tile_gradients(
    sizes: Sizes, refs: _Pass, window: _Window, k: Array, v: Array, lookups: _Lookups, first: Array, sums: _Gradients
) -> _Gradients:
    """Write the gradient of a tile's queries, and add its part to the others'."""
    content, position = sizes.plan.scales
    queries, ratio = _down(sizes.tile, first), position / content
    q, g = window.read(refs.qkv, queries, 0), window.read(refs.g, queries)
    lookups.fill(0, q, _down(sizes.tile))
    sizes.wait()
    p, a = _probabilities(sizes, q, k, lookups.of_tile(first), refs.words, window, first)
    da = _dot(g, v, trans_b=True)
    of_row = jnp.sum(a * da, axis=1, keepdims=True)
    ds = (content * (a * da - p * of_row)).astype(q.dtype)
    dv = sums.v + _dot(a.astype(q.dtype), g, trans_a=True)
    dk = sums.k + _dot(ds, q, trans_a=True)
    dq, d_keys = _dot(ds, k), sums.keys
    t, s = _down(sizes.tile), _along(sizes.keys)
    if sizes.plan.terms[0]:
        of_t = _Sums(sizes, refs.of_distances, refs.sums_of_t)
        of_t.put(ds, t, first + t - s + sizes.keys - 1)
        sizes.wait()
        terms = of_t.rows(first + t, 1).astype(q.dtype)
        dq = dq + ratio * _dot(terms, refs.of_keys[0])
        d_keys = d_keys + ratio * _dot(terms, q, trans_a=True)
    if sizes.plan.terms[1]:
        t, s = first + _along(sizes.tile), _down(sizes.keys)
        _Sums(sizes, refs.of_distances, refs.sums_of_s).put(ds.T, s, t - s + sizes.keys - 1)
    window.write(refs.dqkv, queries, dq, 0)
    sizes.wait()
    return _Gradients(dk, dv, d_keys)


def _backward_kernel(sizes: Sizes, *memory: Ref) -> None:
    refs = _Pass(*memory)
    ratio, zeros = sizes.plan.scales[1] / sizes.plan.scales[0], partial(jnp.zeros, dtype=jnp.float32)
    keys, table, width = sizes.keys, sizes.table, sizes.plan.width
    head, first_row = pl.program_id(0), pl.program_id(1) * sizes.share

    def one_row(number: Array, tables: tuple[Array, Array]) -> tuple[Array, Array]:
        window = _Window(sizes, head, first_row + number)
        all_keys = _down(keys)
        k, v = window.read(refs.qkv, all_keys, 1), window.read(refs.qkv, all_keys, 2)
        pages = (refs.page_of_q, refs.page_of_k)
        lookups = _Lookups(sizes, Tables(refs.of_keys, refs.of_queries), refs.pair_rows, pages)
        lookups.fill(1, k, all_keys)

        def one_tile(turn: Array, sums: _Gradients) -> _Gradients:
            return _tile_gradients(sizes, refs, window, k, v, lookups, turn * sizes.tile, sums)

        none = _Gradients(zeros((keys, width)), zeros((keys, width)), tables[0])
        dk, dv, d_keys = jax.lax.fori_loop(0, keys // sizes.tile, one_tile, none)
        d_queries = tables[1]
        if sizes.plan.terms[1]:
            terms = _Sums(sizes, refs.of_distances, refs.sums_of_s).rows(all_keys, -1).astype(k.dtype)
            dk = dk + ratio * _dot(terms, refs.of_queries[0])
            d_queries = d_queries + ratio * _dot(terms, k, trans_a=True)
        window.write(refs.dqkv, all_keys, dk, 1)
        window.write(refs.dqkv, all_keys, dv, 2)
        sizes.wait()
        return d_keys, d_queries

    d_keys, d_queries = jax.lax.fori_loop(0, sizes.share, one_row, (zeros((table, width)),) * 2)
    refs.d_keys[0, 0], refs.d_queries[0, 0] = d_keys, d_queries


def _call(sizes: Sizes, kernel: Callable[..., None], inputs: Sequence[Array], tables: Sequence[int],
          outputs: Sequence[tuple[tuple[int, ...], np.dtype, bool]], cost: dict[str, int]) -> list[Array]:
    """Run a kernel. tables: which inputs have a block for each head.  outputs: shape, type, and whether each program
    has a block [1, 1, ..] of its own; the others are whole for every program."""

    def whole(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec(shape, lambda *_: (0,) * len(shape))

    def of_head(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec((1, *shape[1:]), lambda head, share: (head,) + (0,) * (len(shape) - 1))

    def of_program(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec((1, 1, *shape[2:]), lambda head, share: (head, share) + (0,) * (len(shape) - 2))

    return pl.pallas_call(
        partial(kernel, sizes),
        grid=sizes.grid,
        in_specs=[(of_head if i in tables else whole)(x.shape) for i, x in enumerate(inputs)],
        out_specs=[(of_program if own else whole)(shape) for shape, _, own in outputs],
        out_shape=[jax.ShapeDtypeStruct(shape, dtype) for shape, dtype, _ in outputs],
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        # This lowering drops a `cost_estimate`; `benchmark --target` reads it here.
        metadata={name: str(value) for name, value in cost.items()},
        interpret=sizes.interpret,
        name="fused_attention" + kernel.__name__.removesuffix("_kernel"),
    )(*inputs)


def forward(
    plan: Plan, words: UInt32[Array, "B 2"], qkv: Float[Array, "B T 3 H D"], tables: Tables, *, interpret: bool = False
) -> Float[Array, "B T H D"]:
    """Attended values."""
    sizes = Sizes.of(plan, qkv.dtype.itemsize, interpret)
    inputs = [words, qkv, *(sizes.filled(table, qkv) for table in tables), sizes.pair_rows]
    pages = [(*sizes.grid, lines, sizes.table) for lines in (sizes.tile, sizes.keys)]
    outputs = [((plan.batch, plan.time, plan.heads, plan.width), qkv.dtype, False)]
    outputs += [(page, qkv.dtype, True) for page in pages]
    return _call(sizes, _forward_kernel, inputs, (2, 3), outputs, plan.cost(4, 2, qkv.dtype.itemsize))[0]


def backward(
    plan: Plan, words: UInt32[Array, "B 2"], qkv: Float[Array, "B T 3 H D"], tables: Tables, g: Float[Array, "B T H D"],
    *, interpret: bool = False,
) -> tuple[Float[Array, "B T 3 H D"], Tables]:  # fmt: skip
    """The gradients of q, k and v, and of the tables."""
    sizes = Sizes.of(plan, qkv.dtype.itemsize, interpret)
    inputs = [words, qkv, *(sizes.filled(table, qkv) for table in tables), sizes.pair_rows]
    inputs += [sizes.of_distances(qkv.dtype), g]
    each, tile, keys, table = sizes.grid, sizes.tile, sizes.keys, sizes.table
    outputs = [(qkv.shape, qkv.dtype, False)]
    outputs += [((*each, table, plan.width), np.dtype(np.float32), True)] * 2
    pages = ((tile, table), (keys, table), (tile, 2 * keys), (keys, 2 * keys))
    outputs += [((*each, *page), qkv.dtype, True) for page in pages]
    cost = plan.cost(7, 5, qkv.dtype.itemsize)
    dqkv, d_keys, d_queries, *_ = _call(sizes, _backward_kernel, inputs, (2, 3), outputs, cost)

    def whole(partial_sums: Array, table: Array | None) -> Array | None:
        return None if table is None else jnp.sum(partial_sums, axis=1)[:, : len(table)].swapaxes(0, 1).astype(table.dtype)

    return dqkv, Tables(whole(d_keys, tables.keys), whole(d_queries, tables.queries))
