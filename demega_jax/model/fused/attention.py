"""Attention as one kernel a pass where there is one for the device, and the same numbers by plain JAX elsewhere."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, UInt32

from demega_jax.model.attend import Tables
from demega_jax.model.dropout import Dropped
from demega_jax.model.fused import gpu, tpu
from demega_jax.model.fused.bits import keep_pairs
from demega_jax.model.fused.plan import Plan

# (keep, qkv, tables, dropped) -> attended values, by plain products
Plain = Callable[[Array | None, Array, Tables, Dropped | None], Array]


class _Window(NamedTuple):
    """What the kernels take as it is. words [B, 2]: the rows' keys of dropout.  keep [B, T]: real positions."""

    words: UInt32[Array, "B 2"]
    keep: Bool[Array, "B T"] | None


def attend_fused(
    plan: Plan,
    plain: Plain,
    words: UInt32[Array, "B 2"],
    keep: Bool[Array, "B T"] | None,
    qkv: Float[Array, "B T 3 H D"],
    tables: Tables,
) -> Float[Array, "B T H D"]:
    """Attended values; 0 at positions that are not kept.

    plain: what computes them on devices without a kernel.  words: the rows' keys of dropout.  keep: real positions of
    padded windows; None: all are real.
    """
    with jax.named_scope("attention_fused"):
        return _attend(plan, plain, _Window(words, keep), qkv, tables)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(plan: Plan, plain: Plain, window: _Window, qkv: Array, tables: Tables) -> Float[Array, "B T H D"]:
    return jax.lax.platform_dependent(
        *window,
        qkv,
        tables,
        cuda=partial(gpu.forward, plan),
        tpu=partial(tpu.forward, plan),
        default=partial(_plain_forward, plan, plain),
    )


def _plain_forward(
    plan: Plan, plain: Plain, words: Array, keep: Array | None, qkv: Array, tables: Tables
) -> Float[Array, "B T H D"]:
    dropped = None if plan.bits is None else keep_pairs(words, plan.heads, plan.bits)
    return plain(keep, qkv, tables, dropped)


def _plain_backward(
    plan: Plan, plain: Plain, words: Array, keep: Array | None, qkv: Array, tables: Tables, g: Array
) -> tuple[Float[Array, "B T 3 H D"], Tables]:
    _, back = jax.vjp(partial(_plain_forward, plan, plain, words, keep), qkv, tables)
    return back(g)


Saved = tuple[_Window, Array, Tables]


def _forward(plan: Plan, plain: Plain, window: _Window, qkv: Array, tables: Tables) -> tuple[Array, Saved]:
    return _attend(plan, plain, window, qkv, tables), (window, qkv, tables)


def _backward(plan: Plan, plain: Plain, saved: Saved, g: Array) -> tuple[None, Array, Tables]:
    window, *others = saved
    with jax.named_scope("attention_fused"):
        dqkv, d_tables = jax.lax.platform_dependent(
            *window,
            *others,
            g,
            cuda=partial(gpu.backward, plan),
            tpu=partial(tpu.backward, plan),
            default=partial(_plain_backward, plan, plain),
        )
    return None, dqkv, d_tables


_attend.defvjp(_forward, _backward)
