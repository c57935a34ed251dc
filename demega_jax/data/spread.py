"""Whether windows are large enough to be normalised: data in tesla are not."""

import numpy as np
from jaxtyping import Float

from demega_jax.data.split import Split
from demega_jax.errors import warn
from demega_jax.names import IQR_EPSILON, VARIANCE_EPSILON
from demega_jax.signal.normalize_numpy import median_and_iqr

SAMPLED = 32  # rows that are looked at
SHARE = 0.01  # of the spread, which the normalisation's epsilon may be


def warn_of_small_spread(where: object, x: Float[np.ndarray, "n C T"], how: str) -> None:
    """One line where windows vary so little that the epsilon of the normalisation `how` drowns them.

    The published arithmetic adds 1e-6 to the interquartile range (or 1e-5 to the variance), which is nothing beside
    standardised data. Beside tesla (1e-12) it is everything: each window becomes zero, and nothing can be learned.
    """
    if how == "none" or not len(x):
        return
    if how == "median_iqr":
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused when it is read
            iqr = median_and_iqr(x)[1]
        spread, epsilon, what = float(np.median(iqr)), IQR_EPSILON, "interquartile range"
    else:
        axes = -1 if how == "instance" else (-2, -1)
        spread, epsilon, what = float(np.median(x.var(axis=axes, dtype=np.float64))), VARIANCE_EPSILON, "variance"
    if spread * SHARE < epsilon:
        warn(
            f"{where}: the windows have a typical {what} of {spread:.2g}, which is small beside the {epsilon:g} that "
            f"the normalisation ({how}) adds to it, so they become nearly zero and all look alike; if the data are in "
            "tesla, standardise them (`demega-jax group` does), or multiply them by 1e12"
        )


def check_spread(split: Split, how: str) -> None:
    """`warn_of_small_spread` of a split that is not normalised yet."""
    if split.normalization is None and how != "none":
        warn_of_small_spread(split.path, split.sample(SAMPLED), how)
