"""The feed-forward branch, y = dropout(silu(x U + b)) D, as kernels that keep nothing of its hidden features.

On NVIDIA GPUs one kernel computes y. The backward pass computes the hidden features again, once for the gradient of x
and once for those of the weights. Elsewhere plain JAX does the same, and keeps them.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from demega_jax.model.dropout import Noise
from demega_jax.model.fused.gpu import feedforward as gpu
from demega_jax.model.fused.masks import Words, apply, draw
from demega_jax.model.fused.plan import Branch


class Weights(NamedTuple):
    """The weights of all layers in the type that is computed in, as slices of them would each be copied for a kernel.

    up, bias, down: U, b and D of every layer.
    """

    up: Float[Array, "L E I"]
    bias: Float[Array, "L I"]
    down: Float[Array, "L I E"]


def weights_of(layers: Sequence[tuple[nnx.Linear, nnx.Linear]], dtype: jnp.dtype) -> Weights:
    """The weights of several layers (the first and the second product of each)."""
    biases = [up.bias[...] for up, _ in layers if up.bias is not None]
    stacks = ([up.kernel[...] for up, _ in layers], biases, [down.kernel[...] for _, down in layers])
    return Weights(*(jnp.stack(stack).astype(dtype) for stack in stacks))


def feedforward(
    x: Float[Array, "B T E"], weights: Weights, layer: int, noise: Noise | None, rate: float
) -> Float[Array, "B T E"]:
    """The branch of a layer before its last bias and dropout. noise: of the dropout of the hidden features;
    None in evaluation."""
    masks, words = draw([noise], rate, x.shape[1] * weights.bias.shape[1])
    of = Branch(layer, masks)
    with jax.named_scope("feedforward_fused"):
        return jax.lax.platform_dependent(words, x, weights, cuda=partial(_on_gpu, of), default=partial(plain, of))


def plain(of: Branch, words: Words, x: Float[Array, "B T E"], weights: Weights) -> Float[Array, "B T E"]:
    """The branch by plain JAX."""
    up, bias, down = (each[of.layer] for each in weights)
    return apply(of.masks, words, jax.nn.silu(x @ up + bias)) @ down


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _on_gpu(of: Branch, words: Words, x: Array, weights: Weights) -> Float[Array, "B T E"]:
    return gpu.forward(of, words, x, *weights)


def _forward(of: Branch, words: Words, x: Array, weights: Weights) -> tuple[Array, tuple[Words, Array, Weights]]:
    return gpu.forward(of, words, x, *weights), (words, x, weights)


def _backward(of: Branch, saved: tuple[Words, Array, Weights], g: Array) -> tuple[None, Array, Weights]:
    words, x, weights = saved
    with jax.named_scope("feedforward_fused"):
        dx, *found = gpu.backward(of, words, x, *weights, g)
        each = (
            jnp.zeros_like(whole).at[of.layer].set(gradient.astype(whole.dtype))
            for whole, gradient in zip(weights, found, strict=True)
        )
        return None, dx, Weights(*each)


_on_gpu.defvjp(_forward, _backward)
