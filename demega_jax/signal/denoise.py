"""Wavelet denoising of windows on the host: soft thresholds on the details of a discrete wavelet transform.

The universal threshold with a robust estimate of the noise (Donoho and Johnstone, 1994, Biometrika 81, 425-455), as in
the published system: Daubechies-4 wavelets on three levels, 0.6 of the threshold, and each sensor's mean and standard
deviation restored afterwards.
"""

import dataclasses
from typing import Literal

import numpy as np
import pywt
from jaxtyping import Float

MEDIAN_OF_NORMAL = 0.6745  # the median of |x| where x is normal with standard deviation 1


@dataclasses.dataclass(frozen=True)
class Denoising:
    """How windows are denoised.

    mode: soft thresholds shrink all details, hard ones only remove small details.  strength: the share of the universal
    threshold that is used.  keep_scale: whether each sensor keeps its mean and standard deviation over time.
    """

    wavelet: str = "db4"
    levels: int = 3
    mode: Literal["soft", "hard"] = "soft"
    strength: float = 0.6
    keep_scale: bool = True


def denoise(x: Float[np.ndarray, "*N T"], how: Denoising = Denoising()) -> Float[np.ndarray, "*N T"]:
    """Windows with less noise, each sensor on its own, in float32.

    Short windows have fewer levels, as many as the wavelet allows.
    """
    points = x.shape[-1]
    y = np.asarray(x, np.float64)
    levels = min(how.levels, pywt.dwt_max_level(points, pywt.Wavelet(how.wavelet).dec_len))
    if levels < 1:
        return np.asarray(x, np.float32)
    coarse, *details = pywt.wavedec(y, how.wavelet, mode="symmetric", level=levels, axis=-1)
    sigma = np.median(np.abs(details[-1]), axis=-1, keepdims=True) / MEDIAN_OF_NORMAL
    threshold = how.strength * sigma * np.sqrt(2 * np.log(points))
    shrunk = [_shrink(detail, threshold, how.mode) for detail in details]
    z = pywt.waverec([coarse, *shrunk], how.wavelet, mode="symmetric", axis=-1)[..., :points]
    return (_rescaled(z, y) if how.keep_scale else z).astype(np.float32)


def _shrink(
    detail: Float[np.ndarray, "*N n"], threshold: Float[np.ndarray, "*N 1"], mode: str
) -> Float[np.ndarray, "*N n"]:
    size = np.abs(detail)
    if mode == "hard":
        return np.where(size >= threshold, detail, 0)
    return np.sign(detail) * np.maximum(size - threshold, 0)


def _rescaled(z: Float[np.ndarray, "*N T"], like: Float[np.ndarray, "*N T"]) -> Float[np.ndarray, "*N T"]:
    """`z` with the mean and the population standard deviation of `like`, sensor by sensor."""
    spread, wanted = (a.std(axis=-1, keepdims=True) for a in (z, like))
    factor = np.divide(wanted, spread, out=np.ones_like(spread), where=spread > 0)
    return (z - z.mean(axis=-1, keepdims=True)) * factor + like.mean(axis=-1, keepdims=True)
