"""Flax's Linear and Conv with our initial values, and the layers that we write ourselves, each with its reason.

Kernels and biases start uniform in +-1/sqrt(fan in), the convention of the published system's layers. Parameters are
float32; a layer computes in its `dtype`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from demega_jax.model import cpu_layout

LAYER_NORM_EPSILON = 1e-5


def uniform_fan_in(rng: np.random.Generator, shape: Sequence[int], fan_in: int) -> Float[np.ndarray, "..."]:
    """Uniform in +-1/sqrt(fan in), float32.

    Drawn on the host: the same numbers on every backend, and nothing to compile before the first step.
    """
    bound = 1 / math.sqrt(fan_in)
    return rng.uniform(-bound, bound, tuple(shape)).astype(np.float32)


class _NoKeys(nnx.Rngs):
    """Stands where Flax asks for random keys: our initial values are drawn by numpy, so no key is made."""

    def __init__(self) -> None:
        super().__init__()

    def params(self) -> None:
        """No key."""
        return None


def _drawn(rng: np.random.Generator, fan_in: int) -> nnx.Initializer:
    """`uniform_fan_in` as an initialiser of Flax, which gives a key, a shape and a type."""

    def draw(key: Any, shape: Sequence[int], dtype: Any, out_sharding: Any = None) -> Any:
        return uniform_fan_in(rng, shape, fan_in)

    return draw


def linear(inputs: int, outputs: int, *, dtype: jnp.dtype, rng: np.random.Generator) -> nnx.Linear:
    """y = x W + b, [.., I] -> [.., O]; kernel [I, O]."""
    draw = _drawn(rng, inputs)
    return nnx.Linear(inputs, outputs, dtype=dtype, kernel_init=draw, bias_init=draw, rngs=_NoKeys())


def product(layer: nnx.Linear, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
    """What a linear layer gives before its bias."""
    dtype = layer.dtype or x.dtype
    return x.astype(dtype) @ layer.kernel[...].astype(dtype)


def affine(layer: nnx.Linear, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
    """`layer(x)`, as `beside` computes it."""
    return beside(x, [layer])[0]


def beside(x: Float[Array, "*B I"], layers: Sequence[nnx.Linear]) -> list[Float[Array, "*B O"]]:
    """What linear layers, each of its own width, give for the same input, computed as one product.

    On a GPU a bias is added in what comes after: within the product, it would first be copied.
    """
    dtype = layers[0].dtype or x.dtype
    kernels = [layer.kernel[...] for layer in layers]
    widths = [kernel.shape[1] for kernel in kernels]
    # A GPU's product wants whole lines of eight numbers: its compiler would fill them up on both sides by copies.
    more = jnp.zeros((kernels[0].shape[0], -sum(widths) % 8), kernels[0].dtype)
    kernel = jnp.concatenate([*kernels, more], axis=1).astype(dtype)
    y = cpu_layout.apart_on_gpu(x.astype(dtype) @ kernel)
    ends = np.cumsum(widths).tolist()
    parts = (y[..., end - width : end] for end, width in zip(ends, widths, strict=True))
    biases = (layer.bias for layer in layers)
    return [part if bias is None else part + bias[...].astype(dtype) for part, bias in zip(parts, biases, strict=True)]


def side_by_side(x: Float[Array, "*B I"], layers: Sequence[nnx.Linear]) -> Float[Array, "*B n O"]:
    """What several linear layers give for the same input, computed as one product."""
    dtype = layers[0].dtype or x.dtype
    kernel = jnp.concatenate([layer.kernel[...] for layer in layers], axis=1)
    bias = jnp.concatenate([layer.bias[...] for layer in layers if layer.bias is not None])
    y = jnp.matmul(x.astype(dtype), kernel.astype(dtype)) + bias.astype(dtype)
    return y.reshape(*x.shape[:-1], len(layers), -1)


def conv(inputs: int, outputs: int, size: int, *, dtype: jnp.dtype, rng: np.random.Generator) -> nnx.Conv:
    """Convolution over time with the same length out, [B, T, I] -> [B, T, O]; kernel [k, I, O].

    Zeros stand beyond both ends; an even size has its extra zero at the end.
    """
    draw = _drawn(rng, inputs * size)
    return nnx.Conv(inputs, outputs, size, dtype=dtype, kernel_init=draw, bias_init=draw, rngs=_NoKeys())


def layer_norm(x: Float[Array, "*B E"], scale: Float[Array, " E"], bias: Float[Array, " E"]) -> Float[Array, "*B E"]:
    """Normalised over the last axis, in float32."""
    x = x.astype(jnp.float32)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON) * scale + bias


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis (Ba et al., 2016): computed in float32, with the result in `dtype`.

    Ours because Flax's takes the whole training step a tenth more processor time on a CPU (benchmarks/NOTES.md), and
    in half precision rounds input, scale and bias before it normalises. The parameters are those of Flax's layer.
    """

    def __init__(self, width: int, *, dtype: jnp.dtype):
        self.scale = nnx.Param(jnp.ones(width, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*B E"]) -> Float[Array, "*B E"]:
        return layer_norm(x, self.scale[...], self.bias[...]).astype(self.dtype)


class DepthwiseConv(nnx.Module):
    """One filter for each channel over time, [B, T, E] -> [B, T, E]; kernel [k, E].

    Ours because a sum of k shifted products is fused with its neighbours on every backend. Flax's grouped convolution
    takes 27 times as long on a CPU (benchmarks/NOTES.md).
    """

    def __init__(self, width: int, size: int, *, dtype: jnp.dtype, rng: np.random.Generator):
        self.kernel = nnx.Param(uniform_fan_in(rng, (size, width), size))
        self.bias = nnx.Param(uniform_fan_in(rng, (width,), size))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
        # As one array: else each place of the filter would be copied by itself.
        weights = cpu_layout.apart(jnp.concatenate([self.kernel[...], self.bias[...][None]]).astype(self.dtype))
        return jax.lax.platform_dependent(x.astype(self.dtype), weights, cuda=_depthwise_on_gpu, default=_depthwise)


def _taps(x: Float[Array, "B T E"], size: int) -> list[Float[Array, "B T E"]]:
    """What each place of a filter meets; an even size has its extra zero at the end, as Flax's padding SAME has."""
    before = (size - 1) // 2
    padded = jnp.pad(x, ((0, 0), (before, size - 1 - before), (0, 0)))
    return [padded[:, tap : tap + x.shape[1]] for tap in range(size)]


def _depthwise(x: Float[Array, "B T E"], weights: Float[Array, "k+1 E"]) -> Float[Array, "B T E"]:
    """weights: the filter of each channel, and its bias."""
    taps = [each * weights[tap] for tap, each in enumerate(_taps(x, len(weights) - 1))]
    return sum(taps[1:], taps[0]) + weights[-1]


@jax.custom_vjp
def _depthwise_on_gpu(x: Array, weights: Array) -> Float[Array, "B T E"]:
    """`_depthwise` with the gradient of the weights as one sum in float32, where each tap would have several."""
    return _depthwise(x, weights)


def _depthwise_forward(x: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(x, weights), (x, weights)


def _depthwise_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, weights = saved
    (dx,) = jax.linear_transpose(lambda x: _depthwise(x, weights.at[-1].set(0)), x)(g)
    met = [*_taps(x, len(weights) - 1), jnp.ones_like(x)]
    sums = jnp.sum(jnp.stack(met).astype(jnp.float32) * g.astype(jnp.float32), axis=(1, 2))
    return dx, sums.astype(weights.dtype)


_depthwise_on_gpu.defvjp(_depthwise_forward, _depthwise_backward)
