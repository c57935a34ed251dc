"""Softmax attention with position terms as one function, with a gradient of its own, for accelerators.

Scores (He et al., 2021, equation 4), with n position terms, rows r[t, s] of the position tables, and D the head width:

    s[t, s] = q_t . k_s / sqrt(D (1 + n)) + q_t . kr[r[t, s]] / sqrt(D n) + k_s . qr[r[t, s]] / sqrt(D n)

The position terms are products with the few rows of the tables that occur, [B, H, T, R], and then with an array of
zeros and ones that says which row a pair has: a look-up of [B, H, T, S] would read memory in an order that no
accelerator is fast with. Nothing of [H, T, S, D] exists. What the backward pass needs of [B, H, T, S] are the
probabilities before and after dropout, in the type of the values. With P = softmax(s), A = dropout(P) and O = A V, its
gradients are

    dV = A' dO,   dA = dO V',   ds = A o dA - P o rowsum(dO o O),

since rowsum(A o dA) = rowsum(dO o O) (Dao et al., 2022, appendix B.2); dropout needs no mask for it.

Time and the tables are filled up to multiples of 8, which products of half precision need on a GPU: else the compiler
would copy every array of [B, H, T, S] into one that is.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from demega_jax.model.dropout import Dropped

ALIGNED = 8


class Tables(NamedTuple):
    """The projected rows of a layer's position tables that occur, [R, H, D]; None where a term is off."""

    keys: Float[Array, "R H D"] | None
    queries: Float[Array, "R H D"] | None

    @property
    def terms(self) -> int:
        """How many position terms there are."""
        return sum(table is not None for table in self)


class Saved(NamedTuple):
    """What the backward pass needs: p and a are the probabilities before and after dropout."""

    q: Float[Array, "B H T D"]
    k: Float[Array, "B H T D"]
    v: Float[Array, "B H T D"]
    tables: Tables
    p: Float[Array, "B H T S"]
    a: Float[Array, "B H T S"]
    out: Float[Array, "B H T D"]


class PairRows:
    """The number of the table's row for every pair (query t, key s). It is hashed by its content, for jax.

    rows [T, S]: numbers of the rows that occur, from 0 to R - 1.  filled: the same for as many time points as
    arrays have after filling up.
    """

    def __init__(self, rows: Int[np.ndarray, "T S"]):
        self.rows = rows
        self.filled = np.pad(rows, [(0, -length % ALIGNED) for length in rows.shape])
        self._content = (rows.shape, rows.tobytes())

    def __hash__(self) -> int:
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PairRows) and self._content == other._content


def attend(
    rows: PairRows,
    qkv: Float[Array, "B T 3 H D"],
    tables: Tables,
    dropped: Dropped | None,
) -> Float[Array, "B T H D"]:
    """Attended values. dropped: what dropout does to the probabilities [B, H, T, S]; None: there is none."""
    keep, kept = dropped if dropped is not None else (None, 1.0)
    more_rows = -(int(rows.rows.max()) + 1) % ALIGNED
    tables = Tables(*(None if each is None else jnp.pad(each, ((0, more_rows), (0, 0), (0, 0))) for each in tables))
    if keep is not None:
        keep = jnp.pad(keep, ((0, 0), (0, 0), *(((0, -qkv.shape[1] % ALIGNED),) * 2)))
    return _attend(rows, kept, qkv, tables, keep)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
    rows: PairRows, kept: float, qkv: Float[Array, "B T 3 H D"], tables: Tables, keep: Bool[Array, "B H T T"] | None
) -> Float[Array, "B T H D"]:
    return _forward(rows, kept, qkv, tables, keep)[0]


def _scaled(x: Array, scale: float) -> Array:
    return x * jnp.asarray(scale, x.dtype)


def _scales(width: int, terms: int) -> tuple[float, float]:
    """What content products and position products are multiplied by."""
    return 1 / math.sqrt(width * (1 + terms)), 1 / math.sqrt(width * max(terms, 1))


def _heads_first(x: Float[Array, "B T ... D"]) -> Float[Array, "B ... T D"]:
    """Time beside D, filled up with zeros: each product below then finds its operands as they lie."""
    x = jnp.moveaxis(x, 1, -2)
    more = -x.shape[-2] % ALIGNED
    return jax.lax.optimization_barrier(jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, more), (0, 0)]))


def _of_every_row(table: Float[Array, "R H D"], batch: int, scale: float) -> Float[Array, "B H R D"]:
    """A table once for each row of the batch: small, and it spares copies of larger arrays in another order."""
    return jnp.broadcast_to(
        _scaled(table, scale).swapaxes(0, 1), (batch, table.shape[1], table.shape[0], table.shape[2])
    )


def _scores(rows: PairRows, q: Array, k: Array, tables: Tables) -> Float[Array, "B H T S"]:
    content, position = _scales(q.shape[-1], tables.terms)
    with jax.named_scope("attention_content"):
        scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=jnp.float32) * content
    with jax.named_scope("attention_positions"):
        if tables.keys is not None:
            terms = jnp.einsum("bhtd,bhrd->bhtr", q, _of_every_row(tables.keys, len(q), position))
            scores += jnp.einsum("bhtr,tsr->bhts", terms, _occurs(rows, tables.keys)).astype(jnp.float32)
        if tables.queries is not None:
            terms = jnp.einsum("bhsd,bhrd->bhsr", k, _of_every_row(tables.queries, len(q), position))
            scores += jnp.einsum("bhsr,tsr->bhts", terms, _occurs(rows, tables.queries)).astype(jnp.float32)
    there = np.arange(scores.shape[-1]) < rows.rows.shape[1]
    return jnp.where(there, scores, jnp.finfo(scores.dtype).min)


def _forward(rows: PairRows, kept: float, qkv: Array, tables: Tables, keep: Array | None) -> tuple[Array, Saved]:
    q, k, v = (_heads_first(qkv[:, :, i]) for i in range(3))
    scores = _scores(rows, q, k, tables)
    with jax.named_scope("attention_softmax"):
        p = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
        a = p if keep is None else jnp.where(keep, _scaled(p, 1 / kept), jnp.zeros((), p.dtype))
        p, a = jax.lax.optimization_barrier((p, a))  # else the backward pass computes the softmax again
    with jax.named_scope("attention_values"):
        out = jnp.einsum("bhts,bhsd->bhtd", a, v)
    return out[:, :, : qkv.shape[1]].swapaxes(1, 2), Saved(q, k, v, tables, p, a, out)


def _backward(
    rows: PairRows, kept: float, saved: Saved, g: Float[Array, "B T H D"]
) -> tuple[Float[Array, "B T 3 H D"], Tables, None]:
    q, k, v, tables, p, a, out = saved
    time, g = g.shape[1], _heads_first(g)
    content, position = _scales(q.shape[-1], tables.terms)
    with jax.named_scope("attention_values"):
        dv = jnp.einsum("bhts,bhtd->bhsd", a, g)
        da = jnp.einsum("bhtd,bhsd->bhts", g, v)
    with jax.named_scope("attention_softmax"):
        row = jnp.sum(g.astype(jnp.float32) * out.astype(jnp.float32), axis=-1, keepdims=True)
        ds = a.astype(jnp.float32) * da.astype(jnp.float32) - p.astype(jnp.float32) * row
        # With the scale of content, so that its products need none; `ratio` makes up for it in those of positions.
        ds, ratio = (content * ds).astype(q.dtype), position / content
    with jax.named_scope("attention_content"):
        dq = jnp.einsum("bhts,bhsd->bhtd", ds, k)
        dk = jnp.einsum("bhts,bhtd->bhsd", ds, q)
    with jax.named_scope("attention_positions"):
        of_q, of_k, d_tables = _position_gradients(rows, ds, q, k, tables, ratio)
        dq, dk = dq + of_q, dk + of_k
    dqkv = jnp.stack([dq, dk, dv], axis=1)[..., :time, :]  # [B, 3, H, T, D]
    return jnp.moveaxis(dqkv, 3, 1), d_tables, None


def _position_gradients(
    rows: PairRows, ds: Float[Array, "B H T S"], q: Array, k: Array, tables: Tables, ratio: float
) -> tuple[Array, Array, Tables]:
    """What the position terms add to the gradients of q and k, and the gradients of the tables."""
    dq = dk = jnp.zeros((), q.dtype)
    d_keys = d_queries = None
    if tables.keys is not None:
        terms = jnp.einsum("bhts,tsr->bhtr", ds, _occurs(rows, tables.keys))
        dq = jnp.einsum("bhtr,bhrd->bhtd", terms, _of_every_row(tables.keys, len(q), ratio))
        d_keys = _table_gradient(terms, q, ratio).astype(tables.keys.dtype)
    if tables.queries is not None:
        terms = jnp.einsum("bhts,tsr->bhsr", ds, _occurs(rows, tables.queries))
        dk = jnp.einsum("bhsr,bhrd->bhsd", terms, _of_every_row(tables.queries, len(q), ratio))
        d_queries = _table_gradient(terms, k, ratio).astype(tables.queries.dtype)
    return dq, dk, Tables(d_keys, d_queries)


def _occurs(rows: PairRows, table: Float[Array, "R H D"]) -> Float[Array, "T S R"]:
    """1 where a pair has that row of the table."""
    return jnp.asarray(rows.filled[..., None] == np.arange(table.shape[0]), table.dtype)


def _table_gradient(terms: Float[Array, "B H T R"], x: Float[Array, "B H T D"], scale: float) -> Float[Array, "R H D"]:
    """The gradient of a table, a sum over all rows and time points, in float32."""
    of_rows = jnp.einsum("bhtr,bhtd->bhrd", terms, x, preferred_element_type=jnp.float32)
    return scale * jnp.sum(of_rows, axis=0).swapaxes(0, 1)


_attend.defvjp(_forward, _backward)
