"""How large the values of each kind of sensor are, and whether sensors come in the order that is expected."""

import dataclasses
import time
from collections.abc import Iterable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from demega_jax.data.inspect.report import SECONDS
from demega_jax.data.recordings.statistics import pooled

NEAR_CONSTANT = 1e-3  # of the median deviation of a sensor's type: what varies less carries nothing
APART = 3.0  # by which factor two types differ at least; in published recordings it is about 20
AGREE = 0.9  # share of sensors whose amplitude must be that of their place

Verdict = Literal["holds", "does not hold", "cannot tell"]


@dataclasses.dataclass(frozen=True)
class TypeAmplitude:
    """Standard deviations of a type's sensors over the sample: median and quartiles, in the data's unit.

    largest: magnitude of a value.  near_constant: places of sensors that vary by less than a thousandth of the median.
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
    """sampled: samples in time of each sensor that were read.  not_finite: places of sensors with NaN or infinity."""

    sampled: int
    types: tuple[TypeAmplitude, ...]
    order: Verdict
    order_reason: str
    not_finite: tuple[int, ...]


def measure(blocks: Iterable[Float[np.ndarray, "C n"]], seconds: float = SECONDS) -> Amplitude:
    """Amplitudes over blocks of time, which are read until they end or `seconds` are over; at least one."""
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
    """Which sensors are of which type, if they come in triplets of two gradiometers and a magnetometer."""
    if sensors % 3:
        return {"sensors": np.ones(sensors, bool)}
    third = np.arange(sensors) % 3 == 2
    return {"gradiometers": ~third, "magnetometers": third}


def sensor_order(deviation: Float[np.ndarray, " C"]) -> tuple[Verdict, str]:
    """Whether a third of the sensors differs in amplitude and stands at 2, 5, 8 .., and the reason in words."""
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
        return "cannot tell", "all sensors are about as large, as in standardised data"
    # The third that is alone: magnetometers are the smaller ones in tesla, and may be the larger in other units.
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
    """The cut in two groups with the least variance within them (Otsu, 1979, IEEE Trans. SMC 9)."""
    ordered = np.sort(level)
    count = np.arange(1, len(ordered))
    below = ordered.cumsum()[:-1] / count
    above = (ordered.sum() - ordered.cumsum()[:-1]) / (len(ordered) - count)
    cut = int(np.argmax(count * (len(ordered) - count) * (below - above) ** 2))
    return float((ordered[cut] + ordered[cut + 1]) / 2)


def _places(index: Int[np.ndarray, " n"]) -> str:
    """2, 5, 8 .. or 204 to 305 or 0, 7, 9 .."""
    if len(index) > 2 and (np.diff(index) == 1).all():
        return f"{index[0]} to {index[-1]}"
    return ", ".join(map(str, index[:3])) + (" .." if len(index) > 3 else "")


def _of_type(
    name: str, places: Int[np.ndarray, " n"], deviation: Float[np.ndarray, " C"], largest: Float[np.ndarray, " C"]
) -> TypeAmplitude:
    low, median, high = np.quantile(deviation[places], [0.25, 0.5, 0.75]).tolist()
    still = places[deviation[places] <= NEAR_CONSTANT * median]
    return TypeAmplitude(
        name, len(places), median, low, high, float(largest[places].max()), tuple(still.tolist())
    )  # fmt: skip
