"""Another sampling rate for recordings, on the host: a polyphase filter that keeps what the new rate can hold."""

from fractions import Fraction

import numpy as np
from jaxtyping import Float

LARGEST = 10_000  # of the two numbers whose ratio is that of the rates


def ratio_of(rate: float, wanted: float) -> Fraction | None:
    """wanted / rate as a fraction of small numbers; None: it is none."""
    found = Fraction(wanted / rate).limit_denominator(LARGEST)
    near = found > 0 and abs(float(found) * rate - wanted) <= 1e-9 * wanted
    return found if near and found.numerator <= LARGEST else None


def resampled(x: Float[np.ndarray, "C n"], ratio: Fraction) -> Float[np.ndarray, "C m"]:
    """Signals at `ratio` times their rate, in float32, with m = ceil(n x ratio) samples; sample 0 stays in its place.

    Frequencies above half of the lower rate are filtered out (a linear-phase FIR filter with a Kaiser window, whose
    delay is taken back). At both ends signals are continued along the line from their first to their last value.
    """
    from scipy.signal import resample_poly  # it takes long to import, and few recordings need it

    return resample_poly(x, ratio.numerator, ratio.denominator, axis=1, padtype="line").astype(np.float32, copy=False)
