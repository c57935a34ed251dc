"""A branch added to the residual stream and the LayerNorm after it, as one kernel a pass where there is one.

A layer's branch ends with a product, y = h W. Then come a bias, dropout, the sum and the normalisation before the next
branch: x' = x + dropout(y + b), n = LayerNorm(x'). Nothing of this but x' and n is kept for the backward pass.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from demega_jax.model.dropout import Noise
from demega_jax.model.fused.gpu import residual as gpu
from demega_jax.model.fused.masks import Words, apply, draw
from demega_jax.model.fused.plan import Sum
from demega_jax.model.layers import LayerNorm, layer_norm

Gains = Float[Array, "N 3 E"]


def gains_of(ends: Sequence[nnx.Linear], norms: Sequence[LayerNorm]) -> Gains:
    """What each of N sums adds and multiplies: the bias of its branch's last layer; scale and shift of its LayerNorm.

    One array, as its rows would each be copied for a kernel.
    """
    rows = [(end.bias, norm.scale, norm.bias) for end, norm in zip(ends, norms, strict=True)]
    return jnp.stack([jnp.stack([each[...] for each in row if each is not None]) for row in rows])


class Stream(NamedTuple):
    """The residual stream.

    x: its values.  room: where the backward pass of GPUs gathers the gradients of the gains, P parts of each of the N
    sums, which are then added up at once; the forward pass does not use it.
    """

    x: Float[Array, "B T E"]
    room: Float[Array, "N P 3 E"]


def stream_of(x: Float[Array, "B T E"], gains: Gains) -> Stream:
    """A stream that begins."""
    return Stream(x, _room(gpu.parts(x), gains))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _room(parts: int, gains: Gains) -> Float[Array, "N P 3 E"]:
    return jnp.zeros((gains.shape[0], parts, *gains.shape[1:]), gains.dtype)


_room.defvjp(lambda parts, gains: (_room(parts, gains), None), lambda parts, _, g: (jnp.sum(g, axis=1),))


def add_and_normalize(
    stream: Stream, y: Float[Array, "B T E"], gains: Gains, number: int, sites: Sequence[Noise | None], rate: float
) -> tuple[Stream, Float[Array, "B T E"]]:
    """(the stream of x', LayerNorm(x')) with x' = x + dropout(y + bias).

    y: the product that a branch ends with.  number: of this sum in `gains`.  sites: where dropout acts, one after the
    other; None in evaluation.
    """
    masks, words = draw(sites, rate, y.shape[1] * y.shape[2])
    with jax.named_scope("residual_fused"):
        return _add(Sum(number, masks), words, stream, y, gains)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _add(of: Sum, words: Words, stream: Stream, y: Array, gains: Gains) -> tuple[Stream, Array]:
    total, normed = jax.lax.platform_dependent(
        words, stream.x, y, gains, cuda=partial(gpu.forward, of), default=partial(plain_forward, of)
    )
    return Stream(total, stream.room), normed


def plain_forward(of: Sum, words: Words, x: Array, y: Array, gains: Gains) -> tuple[Array, Array]:
    """The sum and its normalisation by plain JAX."""
    bias, scale, shift = gains[of.number]
    total = x + apply(of.masks, words, y + bias.astype(y.dtype))
    return total, layer_norm(total, scale, shift).astype(x.dtype)


def plain_backward(
    of: Sum, words: Words, total: Array, gains: Gains, g: tuple[Array, Array], room: Float[Array, "N P 3 E"]
) -> tuple[Array, Array, Float[Array, "N P 3 E"], Gains]:
    """Gradients of x, y, the room and the gains. total: x'.  g: gradients of x' and of its normalisation."""
    _, scale, shift = gains[of.number]
    _, back = jax.vjp(layer_norm, total, scale, shift)
    through, d_scale, d_shift = back(g[1].astype(jnp.float32))
    dx = g[0] + through
    dy = apply(of.masks, words, dx)  # dropout is linear, and its own transpose
    d_bias = jnp.sum(dy.astype(jnp.float32), axis=(0, 1))
    return dx, dy, room, jnp.zeros_like(gains).at[of.number].set(jnp.stack([d_bias, d_scale, d_shift]))


def _forward(of: Sum, words: Words, stream: Stream, y: Array, gains: Gains) -> tuple[tuple[Stream, Array], tuple]:
    after, normed = _add(of, words, stream, y, gains)
    return (after, normed), (words, after.x, gains)


def _backward(of: Sum, saved: tuple[Words, Array, Gains], g: tuple[Stream, Array]) -> tuple[None, Stream, Array, Gains]:
    (g_total, room), g_normed = g
    with jax.named_scope("residual_fused"):
        dx, dy, room, d_gains = jax.lax.platform_dependent(
            *saved, (g_total, g_normed), room, cuda=partial(gpu.backward, of), default=partial(plain_backward, of)
        )
        return None, Stream(dx, room), dy, d_gains


_add.defvjp(_forward, _backward)
