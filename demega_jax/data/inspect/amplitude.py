"""How large the values of each type of sensor are, and whether the sensors are in the expected order."""

import dataclasses
import time
from collections.abc import Iterable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from demega_jax.data.inspect.report import SECONDS
from demega_jax.data.recordings.statistics import pooled
from demega_jax.errors import listed

NEAR_CONSTANT = 1e-3  # a sensor that varies less than this share of its type's median carries no signal
APART = 3.0  # least factor between the amplitudes of two types; in published recordings it is about 20
AGREE = 0.9  # least share of sensors whose amplitude is that of the type expected at their place

Verdict = Literal["holds", "does not hold", "cannot tell"]


@dataclasses.dataclass(frozen=True)
class TypeAmplitude:
    """Standard deviations of the sensors of a type: median and quartiles, in the data's unit.

    largest: largest absolute value.  near_constant: places of sensors that vary less than a thousandth of the median.
    """

    name: str
    sensors: int
    median: float
    low_quartile: float
    high_quartile: float
    largest: float
    near_constant: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Amplitude:
    """sampled: number of samples of each sensor that were read.  not_finite: places of sensors with NaN or infinity."""

    sampled: int
    types: tuple[TypeAmplitude, ...]
    order: Verdict
    order_reason: str
    not_finite: tuple[int, ...]


def measure(blocks: Iterable[Float[np.ndarray, "C n"]], seconds: float = SECONDS) -> Amplitude:
    """Amplitudes over blocks of time. At least one is read, then more until `seconds` have passed."""
    until = time.monotonic() + seconds
    parts, largest, finite, sampled = [], None, None, 0
    for block in blocks:
        good = np.isfinite(block)
        x = np.where(good, block, 0).astype(np.float64)
        top, whole = np.abs(x).max(axis=1), good.all(axis=1)
        largest = top if largest is None else np.maximum(largest, top)
        finite = whole if finite is None else finite & whole
        parts.append((x.shape[1], x.mean(axis=1), x.std(axis=1)))
        sampled += x.shape[1]
        if time.monotonic() > until:
            break
    assert largest is not None and finite is not None, "no block"
    deviation = pooled(parts).std
    kinds = sensor_types(len(deviation))
    verdict, reason = sensor_order(deviation)
    types = tuple(_of_type(name, np.flatnonzero(member), deviation, largest) for name, member in kinds.items())
    return Amplitude(sampled, types, verdict, reason, tuple(np.flatnonzero(~finite).tolist()))


def sensor_types(sensors: int) -> dict[str, Bool[np.ndarray, " C"]]:
    """Which sensors are of which type, assuming triplets of two gradiometers and a magnetometer."""
    if sensors % 3:
        return {"sensors": np.ones(sensors, bool)}
    third = np.arange(sensors) % 3 == 2
    return {"gradiometers": ~third, "magnetometers": third}


def sensor_order(deviation: Float[np.ndarray, " C"]) -> tuple[Verdict, str]:
    """Whether a third of the sensors differs in amplitude and is at places 2, 5, 8 .., and the reason in words."""
    sensors = len(deviation)
    if sensors % 3 or sensors < 6:
        return "cannot tell", f"{sensors} sensors are not two triplets or more"
    alive = deviation > NEAR_CONSTANT * np.median(deviation)
    if alive.sum() < 6:
        return "cannot tell", "too few sensors vary"
    level = np.log(np.where(alive, deviation, 1.0))
    small = level < _threshold(level[alive])
    factor = float(np.exp(np.median(level[alive & ~small]) - np.median(level[alive & small])))
    if factor < APART:
        return "cannot tell", "all sensors have about the same amplitude, as in standardised data"
    # Magnetometers are the third that differs. They are smaller in tesla, and can be larger in other units.
    share = small[alive].mean()
    odd = small if abs(share - 1 / 3) < abs(share - 2 / 3) else ~small
    if not 0.2 < odd[alive].mean() < 0.47:
        return "cannot tell", "no third of the sensors differs from the others"
    agree = (odd == (np.arange(sensors) % 3 == 2))[alive].mean()
    places = _places(np.flatnonzero(odd & alive))
    how = f"{factor:.0f} times {'smaller' if odd is small else 'larger'}"
    if agree < AGREE:
        return "does not hold", f"the third that is {how} is at {places}, not at 2, 5, 8 .."
    return "holds", f"the sensors at {places} are {how}"


def _threshold(level: Float[np.ndarray, " n"]) -> float:
    """The threshold between two groups with the least variance within them (Otsu, 1979, IEEE Trans. SMC 9)."""
    ordered = np.sort(level)
    count = np.arange(1, len(ordered))
    below = ordered.cumsum()[:-1] / count
    above = (ordered.sum() - ordered.cumsum()[:-1]) / (len(ordered) - count)
    cut = int(np.argmax(count * (len(ordered) - count) * (below - above) ** 2))
    return float((ordered[cut] + ordered[cut + 1]) / 2)


def _places(index: Int[np.ndarray, " n"]) -> str:
    """Places in words, such as `204 to 305` or `2, 5, 8, ..`."""
    if len(index) > 2 and (np.diff(index) == 1).all():
        return f"{index[0]} to {index[-1]}"
    return listed(index, 3)


def _of_type(
    name: str, places: Int[np.ndarray, " n"], deviation: Float[np.ndarray, " C"], largest: Float[np.ndarray, " C"]
) -> TypeAmplitude:
    low, median, high = np.quantile(deviation[places], [0.25, 0.5, 0.75]).tolist()
    still = places[deviation[places] <= NEAR_CONSTANT * median]
    return TypeAmplitude(
        name, len(places), median, low, high, float(largest[places].max()), tuple(still.tolist())
    )  # fmt: skip
