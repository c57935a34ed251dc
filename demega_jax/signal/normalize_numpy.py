"""The normalisation of `signal/normalize.py` on the host, for files that are written once: numpy, float32, no JAX."""

import numpy as np
from jaxtyping import Float

from demega_jax.names import IQR_EPSILON, VARIANCE_EPSILON, Norm


def median_and_iqr(x: Float[np.ndarray, "n C T"]) -> tuple[Float[np.ndarray, "n C"], Float[np.ndarray, "n C"]]:
    """Median and interquartile range of each sensor over time, in float32.

    Quartiles interpolate linearly; the median of an even number of time points is the lower middle value. The
    epsilon of the normalisation is not in the range.
    """
    ordered = np.sort(x, axis=-1)  # a whole sort: numpy's selection of five places takes ten times as long
    last = x.shape[-1] - 1

    def quantile(share: float) -> Float[np.ndarray, "n C"]:
        low, part = divmod(share * last, 1.0)
        below = ordered[..., int(low)]
        return below + np.float32(part) * (ordered[..., min(int(low) + 1, last)] - below)

    return ordered[..., last // 2].copy(), quantile(0.75) - quantile(0.25)


def normalize_rows(x: Float[np.ndarray, "n C T"], how: Norm) -> Float[np.ndarray, "n C T"]:
    """Windows (float32) normalised as `signal.normalize.normalize` does it, within rounding.

    A finite window can become infinite or NaN where float32 overflows; nothing is said about that here.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if how == "median_iqr":
            median, iqr = median_and_iqr(x)
            return (x - median[..., None]) / (iqr + np.float32(IQR_EPSILON))[..., None]
        if how == "none":
            return x
        axes = (-1,) if how == "instance" else (-2, -1)
        centred = x - x.mean(axis=axes, keepdims=True, dtype=np.float32)
        variance = np.square(centred).mean(axis=axes, keepdims=True, dtype=np.float32)
        return centred / np.sqrt(variance + np.float32(VARIANCE_EPSILON))
