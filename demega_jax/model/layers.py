"""Weight-owning building blocks: linear maps, normalisation and convolutions over time.

Kernels and biases start uniform in +-1/sqrt(fan in), the convention of the published system's layers.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

LAYER_NORM_EPSILON = 1e-5


def uniform_fan_in(rng: np.random.Generator, shape: Sequence[int], fan_in: int) -> Float[np.ndarray, "..."]:
    """Uniform in +-1/sqrt(fan in), float32.

    Drawn on the host: the same numbers on every backend, and nothing to compile before the first step.
    """
    bound = 1 / math.sqrt(fan_in)
    return rng.uniform(-bound, bound, tuple(shape)).astype(np.float32)


class Linear(nnx.Module):
    """y = x W + b, [.., I] -> [.., O]; computed in `dtype`, parameters float32."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, rng: np.random.Generator):
        self.kernel = nnx.Param(uniform_fan_in(rng, (inputs, outputs), inputs))
        self.bias = nnx.Param(uniform_fan_in(rng, (outputs,), inputs))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        return x.astype(self.dtype) @ self.kernel[...].astype(self.dtype) + self.bias[...].astype(self.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis (Ba et al., 2016), statistics in float32, result in `dtype`."""

    def __init__(self, width: int, *, dtype: jnp.dtype):
        self.scale = nnx.Param(jnp.ones(width, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*B E"]) -> Float[Array, "*B E"]:
        x = x.astype(jnp.float32)
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
        return (y * self.scale[...] + self.bias[...]).astype(self.dtype)


def pad_time(x: Float[Array, "B T I"], size: int) -> Float[Array, "B T_plus I"]:
    """Zeros for a convolution of `size` that keeps T; an even size has its extra zero at the end."""
    before = (size - 1) // 2
    return jnp.pad(x, ((0, 0), (before, size - 1 - before), (0, 0)))


class Conv(nnx.Module):
    """Convolution over time with the same length out, [B, T, I] -> [B, T, O]; kernel [k, I, O]."""

    def __init__(self, inputs: int, outputs: int, size: int, *, dtype: jnp.dtype, rng: np.random.Generator):
        self.kernel = nnx.Param(uniform_fan_in(rng, (size, inputs, outputs), inputs * size))
        self.bias = nnx.Param(uniform_fan_in(rng, (outputs,), inputs * size))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "B T I"]) -> Float[Array, "B T O"]:
        kernel = self.kernel[...].astype(self.dtype)
        size = kernel.shape[0]
        before = (size - 1) // 2
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype), kernel, (1,), [(before, size - 1 - before)], dimension_numbers=("NWC", "WIO", "NWC")
        )
        return y + self.bias[...].astype(self.dtype)


class DepthwiseConv(nnx.Module):
    """One filter a channel over time, [B, T, E] -> [B, T, E]; kernel [k, E].

    A sum of k shifted products, which fuses with its neighbours on every backend.
    """

    def __init__(self, width: int, size: int, *, dtype: jnp.dtype, rng: np.random.Generator):
        self.kernel = nnx.Param(uniform_fan_in(rng, (size, width), size))
        self.bias = nnx.Param(uniform_fan_in(rng, (width,), size))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
        kernel = self.kernel[...].astype(self.dtype)
        size, time = kernel.shape[0], x.shape[1]
        padded = pad_time(x.astype(self.dtype), size)
        taps = [padded[:, i : i + time] * kernel[i] for i in range(size)]
        return sum(taps[1:], taps[0]) + self.bias[...].astype(self.dtype)
