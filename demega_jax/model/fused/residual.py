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
from jaxtyping import Array, Float, UInt32

from demega_jax.model.dropout import Noise, Share, apply_dropout, mask_of
from demega_jax.model.fused.gpu import residual as gpu
from demega_jax.model.fused.plan import Gains, Masks
from demega_jax.model.layers import LayerNorm, layer_norm

Words = UInt32[Array, "S B count"] | None


class Branch(NamedTuple):
    """The output of a branch before its last bias: product and bias."""

    product: Float[Array, "B T E"]
    bias: Float[Array, " E"]

    @classmethod
    def of(cls, layer: nnx.Linear, x: Float[Array, "B T I"]) -> "Branch":
        """What a linear layer gives for x [B, T, I]."""
        dtype = layer.dtype or x.dtype
        assert layer.bias is not None  # `layers.linear` always has one
        return cls(x.astype(dtype) @ layer.kernel[...].astype(dtype), layer.bias[...])

    @property
    def total(self) -> Float[Array, "B T E"]:
        """The sum of both."""
        return self.product + self.bias.astype(self.product.dtype)


def add_and_normalize(
    x: Float[Array, "B T E"], branch: Branch, sites: Sequence[Noise], norm: LayerNorm, rate: float
) -> tuple[Float[Array, "B T E"], Float[Array, "B T E"]]:
    """(x', LayerNorm(x')) with x' = x + dropout(branch), dropout once at each of `sites`."""
    masks: Masks | None = None
    words: Words = None
    if rate and sites:
        share = Share.of(rate)
        drawn = sites[0].words(sites, share.words(x.shape[1] * x.shape[2]))
        masks, words = Masks(share, tuple(drawn.place(site) for site in sites)), drawn.words
    gains = Gains(branch.bias, norm.scale[...], norm.bias[...])
    with jax.named_scope("residual_fused"):
        return _add(masks, words, x, branch.product, gains)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _add(masks: Masks | None, words: Words, x: Array, y: Array, gains: Gains) -> tuple[Array, Array]:
    return jax.lax.platform_dependent(
        words, x, y, gains, cuda=partial(gpu.forward, masks), default=partial(plain_forward, masks)
    )


def plain_forward(masks: Masks | None, words: Words, x: Array, y: Array, gains: Gains) -> tuple[Array, Array]:
    """The sum and its normalisation by plain JAX."""
    total = x + _dropped(masks, words, Branch(y, gains.bias).total)
    return total, layer_norm(total, gains.scale, gains.shift).astype(x.dtype)


def plain_backward(
    masks: Masks | None, words: Words, total: Array, gains: Gains, g: tuple[Array, Array]
) -> tuple[Array, Array, Gains]:
    """Gradients of x, y and the gains. total: x'.  g: gradients of x' and of its normalisation."""
    _, back = jax.vjp(layer_norm, total, gains.scale, gains.shift)
    through, d_scale, d_shift = back(g[1].astype(jnp.float32))
    dx = g[0] + through
    dy = _dropped(masks, words, dx)  # dropout is linear, and its own transpose
    d_bias = jnp.sum(dy.astype(jnp.float32), axis=(0, 1))
    return dx, dy, Gains(d_bias, d_scale, d_shift)


def _dropped(masks: Masks | None, words: Words, y: Array) -> Array:
    if masks is not None and words is not None:
        for place in masks.places:
            y = apply_dropout(y, mask_of(words[place], y.shape[1:], masks.share))
    return y


def _forward(masks: Masks | None, words: Words, x: Array, y: Array, gains: Gains) -> tuple[tuple[Array, Array], tuple]:
    total, normed = _add(masks, words, x, y, gains)
    return (total, normed), (words, total, gains)


def _backward(
    masks: Masks | None, saved: tuple[Words, Array, Gains], g: tuple[Array, Array]
) -> tuple[None, Array, Array, Gains]:
    with jax.named_scope("residual_fused"):
        dx, dy, d_gains = jax.lax.platform_dependent(
            *saved, g, cuda=partial(gpu.backward, masks), default=partial(plain_backward, masks)
        )
    return None, dx, dy, d_gains


_add.defvjp(_forward, _backward)
