"""The backward kernel: it computes the probabilities again, so that nothing but q, k and v is kept for it."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jaxtyping import Array, Bool, Float, UInt32

from demega_jax.model.attend import Tables
from demega_jax.model.fused.gpu.forward import Lookups, probabilities
from demega_jax.model.fused.gpu.kernel import Ref, along, dot, down, load, store
from demega_jax.model.fused.gpu.window import Sizes, Window, call
from demega_jax.model.fused.plan import Plan


class _Sums:
    """Sums of the scores' gradient over the pairs that have the same row of a table.

    A page [1, 1, t, 2S] of the program holds the gradient by distance; a product with zeros and ones sums it.
    """

    def __init__(self, sizes: Sizes, of_distances: Ref, page: Ref):
        self.sizes, self.of_distances, self.page = sizes, of_distances, page

    def put(self, gradient: Array, line: Array, distance: Array) -> None:
        """Write a part of the gradient. line, distance: of each of its elements, the distance from 0 on."""
        store(self.page, gradient, 0, 0, line, distance)

    def rows(self, line: Array, sign: int) -> Float[Array, "t R"]:
        """The sums of the lines [t, 1] of a page, float32. sign: 1 for lines of t, and -1 for lines of s."""
        keys, table, part = self.sizes.keys, self.sizes.table, min(64, 2 * self.sizes.keys)
        here = down(line.shape[0])

        def one_part(turn: Array, total: Array) -> Array:
            place = turn * part + along(part)
            # the other time point of the pair: the page holds something only where there is one
            other = line - sign * (place - keys + 1)
            values = load(self.page, 0, 0, here, place, mask=(other >= 0) & (other < keys))
            ones = load(self.of_distances, down(part, turn * part), along(table))
            return total + dot(values, ones)

        return jax.lax.fori_loop(0, 2 * keys // part, one_part, jnp.zeros((line.shape[0], table), jnp.float32))


class _Pass(NamedTuple):
    """What the backward kernel reads and writes in memory."""

    words: Ref
    keep: Ref
    qkv: Ref
    of_keys: Ref
    of_queries: Ref
    pair_rows: Ref
    of_distances: Ref
    g: Ref
    dqkv: Ref
    d_tables: Ref
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
    sizes: Sizes, refs: _Pass, window: Window, k: Array, v: Array, lookups: Lookups, first: Array, sums: _Gradients
) -> _Gradients:
    """Write the gradient of a tile's queries, and add its part to the others'."""
    content, position = sizes.plan.scales
    queries, ratio = down(sizes.tile, first), position / content
    q, g = window.read(refs.qkv, queries, 0), window.read(refs.g, queries)
    lookups.fill(0, q, down(sizes.tile))
    sizes.wait()
    p, a = probabilities(sizes, q, k, lookups.of_tile(first), refs.words, refs.keep, window, first)
    da = dot(g, v, trans_b=True)
    of_row = jnp.sum(a * da, axis=1, keepdims=True)
    ds = (content * (a * da - p * of_row)).astype(q.dtype)
    dv = sums.v + dot(a.astype(q.dtype), g, trans_a=True)
    dk = sums.k + dot(ds, q, trans_a=True)
    dq, d_keys = dot(ds, k), sums.keys
    t, s = down(sizes.tile), along(sizes.keys)
    if sizes.plan.terms[0]:
        of_t = _Sums(sizes, refs.of_distances, refs.sums_of_t)
        of_t.put(ds, t, first + t - s + sizes.keys - 1)
        sizes.wait()
        terms = of_t.rows(first + t, 1).astype(q.dtype)
        dq = dq + ratio * dot(terms, refs.of_keys[0])
        d_keys = d_keys + ratio * dot(terms, q, trans_a=True)
    if sizes.plan.terms[1]:
        t, s = first + along(sizes.tile), down(sizes.keys)
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
        window = Window(sizes, head, first_row + number)
        all_keys = down(keys)
        k, v = window.read(refs.qkv, all_keys, 1), window.read(refs.qkv, all_keys, 2)
        pages = (refs.page_of_q, refs.page_of_k)
        lookups = Lookups(sizes, (refs.of_keys, refs.of_queries), refs.pair_rows, pages)
        lookups.fill(1, k, all_keys)

        def one_tile(turn: Array, sums: _Gradients) -> _Gradients:
            return _tile_gradients(sizes, refs, window, k, v, lookups, turn * sizes.tile, sums)

        none = _Gradients(zeros((keys, width)), zeros((keys, width)), tables[0])
        dk, dv, d_keys = jax.lax.fori_loop(0, keys // sizes.tile, one_tile, none)
        d_queries = tables[1]
        if sizes.plan.terms[1]:
            terms = _Sums(sizes, refs.of_distances, refs.sums_of_s).rows(all_keys, -1).astype(k.dtype)
            dk = dk + ratio * dot(terms, refs.of_queries[0])
            d_queries = d_queries + ratio * dot(terms, k, trans_a=True)
        window.write(refs.dqkv, all_keys, dk, 1)
        window.write(refs.dqkv, all_keys, dv, 2)
        sizes.wait()
        return d_keys, d_queries

    d_keys, d_queries = jax.lax.fori_loop(0, sizes.share, one_row, (zeros((table, width)),) * 2)
    refs.d_tables[0, 0, 0], refs.d_tables[0, 0, 1] = d_keys, d_queries


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
    sizes = Sizes.of(plan, qkv.dtype.itemsize, interpret)
    inputs = [words, sizes.kept(keep), qkv, *(sizes.filled(table, qkv) for table in tables), sizes.pair_rows]
    inputs += [sizes.of_distances(qkv.dtype), g]
    each, tile, keys, table = sizes.grid, sizes.tile, sizes.keys, sizes.table
    outputs = [(qkv.shape, qkv.dtype, False)]
    outputs.append(((*each, 2, table, plan.width), np.dtype(np.float32), True))
    pages = ((tile, table), (keys, table), (tile, 2 * keys), (keys, 2 * keys))
    outputs += [((*each, *page), qkv.dtype, True) for page in pages]
    cost = plan.cost(7, 5, qkv.dtype.itemsize)
    dqkv, shares, *_ = call(sizes, _backward_kernel, inputs, (3, 4), outputs, cost)

    found = jnp.sum(shares, axis=1)  # [H, 2, R, D]

    def whole(which: int, table: Array | None) -> Array | None:
        return None if table is None else found[:, which].swapaxes(0, 1)[: len(table)].astype(table.dtype)

    return dqkv, Tables(whole(0, tables.keys), whole(1, tables.queries))
