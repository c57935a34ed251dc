"""The forward kernel, and the probabilities of a tile, which the backward kernel computes again."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Bool, Float, UInt32

from demega_jax.model.attend import Tables
from demega_jax.model.fused.gpu.kernel import Ref, along, dot, down, load, store
from demega_jax.model.fused.gpu.window import Sizes, Window, call
from demega_jax.model.fused.plan import Plan
from demega_jax.model.fused.softmax import softmax_of


class Lookups:
    """The position terms of a window: pages [1, 1, T, R] of the program, filled from the tables."""

    def __init__(self, sizes: Sizes, tables: tuple[Ref, Ref], pair_rows: Ref, pages: tuple[Ref, Ref]):
        self.sizes, self.tables, self.pair_rows, self.pages = sizes, tables, pair_rows, pages
        self.scale = sizes.plan.scales[1]

    def fill(self, which: int, lines: Float[Array, "t D"], at: Array) -> None:
        """Write the products of `lines` with a table to its page, from line `at` [t, 1] on."""
        if self.sizes.plan.terms[which]:
            page = self.pages[which]
            terms = dot(lines, self.tables[which][0], trans_b=True) * self.scale
            store(page, terms.astype(page.dtype), 0, 0, at, along(self.sizes.table))

    def of_tile(self, first: Array) -> Float[Array, "t S"] | float:
        """What the position terms add to the scores of the queries from `first` on."""
        tile, keys = self.sizes.tile, self.sizes.keys
        added: Array | float = 0.0
        if self.sizes.plan.terms[0]:
            t, s = down(tile), along(keys)
            number = load(self.pair_rows, 0, first + t, s)
            added = added + load(self.pages[0], 0, 0, t, number).astype(jnp.float32)
        if self.sizes.plan.terms[1]:
            s, t = down(keys), first + along(tile)
            number = load(self.pair_rows, 1, s, t)
            added = added + load(self.pages[1], 0, 0, s, number).astype(jnp.float32).T
        return added


def probabilities(
    sizes: Sizes, q: Array, k: Array, added: Array | float, words: Ref, keep: Ref, window: Window, first: Array
) -> tuple[Float[Array, "t S"], Float[Array, "t S"]]:
    """The probabilities of a tile before and after dropout, float32."""
    plan, there = sizes.plan, along(sizes.keys) < sizes.plan.time
    if plan.masked:
        real = [load(keep, window.row, t) > 0 for t in (down(sizes.tile, first), along(sizes.keys))]
        there = real[0] & real[1]
    scores = dot(q, k, trans_b=True) * plan.scales[0] + added
    p = softmax_of(scores, there, masked=plan.masked)
    if plan.bits is None:
        return p, p
    key = (load(words, window.row, 0), load(words, window.row, 1))
    query, s = down(sizes.tile).astype(jnp.uint32), along(sizes.keys).astype(jnp.uint32)
    stays = plan.bits.keep(key, window.head, first, query, s)
    return p, jnp.where(stays, p * (1 / plan.kept), 0.0)


def _forward_kernel(
    sizes: Sizes,
    words: Ref,
    keep: Ref,
    qkv: Ref,
    of_keys: Ref,
    of_queries: Ref,
    pair_rows: Ref,
    out: Ref,
    page_of_q: Ref,
    page_of_k: Ref,
) -> None:
    head, first_row = pl.program_id(0), pl.program_id(1) * sizes.share

    def one_row(number: Array, _: None) -> None:
        window = Window(sizes, head, first_row + number)
        all_keys = down(sizes.keys)
        k, v = window.read(qkv, all_keys, 1), window.read(qkv, all_keys, 2)
        lookups = Lookups(sizes, (of_keys, of_queries), pair_rows, (page_of_q, page_of_k))
        lookups.fill(1, k, all_keys)

        def one_tile(turn: Array, _: None) -> None:
            first = turn * sizes.tile
            queries = down(sizes.tile, first)
            q = window.read(qkv, queries, 0)
            lookups.fill(0, q, down(sizes.tile))
            sizes.wait()
            a = probabilities(sizes, q, k, lookups.of_tile(first), words, keep, window, first)[1]
            window.write(out, queries, dot(a.astype(v.dtype), v))
            sizes.wait()

        jax.lax.fori_loop(0, sizes.keys // sizes.tile, one_tile, None)

    jax.lax.fori_loop(0, sizes.share, one_row, None)


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
    sizes = Sizes.of(plan, qkv.dtype.itemsize, interpret)
    inputs = [words, sizes.kept(keep), qkv, *(sizes.filled(table, qkv) for table in tables), sizes.pair_rows]
    pages = [(*sizes.grid, lines, sizes.table) for lines in (sizes.tile, sizes.keys)]
    out = (plan.batch, plan.time, plan.heads, plan.width)
    outputs = [(out, qkv.dtype, False), *((page, qkv.dtype, True) for page in pages)]
    return call(sizes, _forward_kernel, inputs, (3, 4), outputs, plan.cost(4, 2, qkv.dtype.itemsize))[0]
