"""Whether the values of windows are large enough to be normalised; in tesla they are not."""

import numpy as np
from jaxtyping import Float

from demega_jax.data.split import Split
from demega_jax.errors import warn
from demega_jax.names import IQR_EPSILON, VARIANCE_EPSILON
from demega_jax.signal.normalize_numpy import median_and_iqr

SAMPLED = 32  # rows that are checked
SHARE = 0.01  # the normalisation's epsilon can be this share of the spread without harm


def warn_of_small_spread(where: object, x: Float[np.ndarray, "n C T"], how: str) -> None:
    """Warn if windows vary so little that the epsilon of the normalisation `how` is not small beside them.

    The published arithmetic adds 1e-6 to the interquartile range (or 1e-5 to the variance), which changes standardised
    data very little. In tesla (1e-12), however, every window becomes nearly zero, and nothing can be learned.
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
    """`warn_of_small_spread` for a split, unless it is normalised already."""
    if split.normalization is None and how != "none":
        warn_of_small_spread(split.path, split.sample(SAMPLED), how)
