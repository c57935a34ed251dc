"""Normalisation of single windows. Statistics belong to the sample alone and carry no gradient."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

InputNorm = Literal["median_iqr", "instance", "zscore", "none"]

IQR_EPSILON = 1e-6  # model.md section 1: what the original adds to the interquartile range
VARIANCE_EPSILON = 1e-5


def median_iqr(x: Float[Array, "*B C T"]) -> Float[Array, "*B C T"]:
    """(x - median) / (q75 - q25 + 1e-6) per sensor over time.

    Quartiles interpolate linearly; the median of an even number of time points is the lower middle value.
    """
    ordered = jnp.sort(x, axis=-1)
    last = x.shape[-1] - 1

    def quantile(share: float) -> Float[Array, "*B C 1"]:
        low, part = divmod(share * last, 1.0)
        below = ordered[..., int(low), None]
        above = ordered[..., min(int(low) + 1, last), None]
        return below + jnp.asarray(part, x.dtype) * (above - below)

    median = ordered[..., last // 2, None]
    return (x - median) / (quantile(0.75) - quantile(0.25) + IQR_EPSILON)


def instance(x: Float[Array, "*B C T"]) -> Float[Array, "*B C T"]:
    """Zero mean and unit variance per sensor over time (instance normalisation; Ulyanov et al., 2016)."""
    return _standardise(x, (-1,))


def zscore(x: Float[Array, "*B C T"]) -> Float[Array, "*B C T"]:
    """Zero mean and unit variance over sensors and time together: amplitudes between sensors are kept."""
    return _standardise(x, (-2, -1))


def _standardise(x: Float[Array, "*B C T"], axes: tuple[int, ...]) -> Float[Array, "*B C T"]:
    centred = x - jnp.mean(x, axis=axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + VARIANCE_EPSILON)


def normalize(x: Float[Array, "*B C T"], how: InputNorm) -> Float[Array, "*B C T"]:
    """The window normalised in float32, as `model.input_norm` says, without a gradient."""
    ways = {"median_iqr": median_iqr, "instance": instance, "zscore": zscore, "none": lambda window: window}
    return jax.lax.stop_gradient(ways[how](x.astype(jnp.float32)))
