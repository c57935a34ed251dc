"""Normalisation of single windows. Statistics belong to the sample alone and carry no gradient."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from demega_jax.names import IQR_EPSILON, VARIANCE_EPSILON, Norm

NONE: Mapping[str, Array] = {}


def sorted_over_time(x: Float[Array, "*B C T"]) -> Float[Array, "T *B C"]:
    """The values of each sensor in ascending order, by a bitonic network (Batcher, 1968) with time in front.

    A fixed sequence of elementwise minima and maxima over whole windows, exact, and several times faster than a
    sort of each row (benchmarks/NOTES.md). Rows must be free of NaN.
    """
    count = x.shape[-1]
    size = 1 << (count - 1).bit_length()
    y = jnp.moveaxis(x, -1, 0)
    y = jnp.pad(y, [(0, size - count)] + [(0, 0)] * (y.ndim - 1), constant_values=jnp.inf)
    block = 2
    while block <= size:
        distance = block // 2
        while distance:
            pairs = y.reshape(-1, 2, distance, *y.shape[1:])
            low, high = pairs[:, 0], pairs[:, 1]
            if distance == block // 2:  # merging two ascending runs: the second is taken backwards
                high = high[:, ::-1]
            low, high = jnp.minimum(low, high), jnp.maximum(low, high)
            if distance == block // 2:
                high = high[:, ::-1]
            # Each stage is a pass of its own: fused, the compiler would compute a stage anew for every reader.
            y = jax.lax.optimization_barrier(jnp.stack([low, high], 1).reshape(y.shape))
            distance //= 2
        block *= 2
    return y[:count]


def median_iqr(x: Float[Array, "*B C T"]) -> Float[Array, "*B C T"]:
    """(x - median) / (q75 - q25 + 1e-6) per sensor over time.

    Quartiles interpolate linearly; the median of an even number of time points is the lower middle value.
    """
    ordered = sorted_over_time(x)
    last = x.shape[-1] - 1

    def quantile(share: float) -> Float[Array, "*B C 1"]:
        low, part = divmod(share * last, 1.0)
        below = ordered[int(low), ..., None]
        above = ordered[min(int(low) + 1, last), ..., None]
        return below + jnp.asarray(part, x.dtype) * (above - below)

    median = ordered[last // 2, ..., None]
    return (x - median) / (quantile(0.75) - quantile(0.25) + IQR_EPSILON)


def standardised(x: Float[Array, "*B C T"], axes: tuple[int, ...]) -> Float[Array, "*B C T"]:
    """Zero mean and unit variance over these axes."""
    centred = x - jnp.mean(x, axis=axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + VARIANCE_EPSILON)


def normalize(
    x: Float[Array, "*B C T"], how: Norm, statistics: Mapping[str, Float[Array, "*B C"]] = NONE
) -> Float[Array, "*B C T"]:
    """The window normalised in float32, as `model.input_norm` says, without a gradient.

    instance: standardised per sensor over time (Ulyanov et al., 2016).  zscore: over sensors and time together, which
    keeps the amplitudes between sensors.  statistics: `median` and `iqr` of the sensors where they are known, which
    median_iqr then uses.
    """
    x = x.astype(jnp.float32)
    if how == "median_iqr" and "median" in statistics:
        x = (x - statistics["median"][..., None]) / (statistics["iqr"][..., None] + IQR_EPSILON)
    elif how == "median_iqr":
        x = median_iqr(x)
    elif how != "none":
        x = standardised(x, (-1,) if how == "instance" else (-2, -1))
    return jax.lax.stop_gradient(x)
