"""How large the values of each type of sensor are, and whether the sensors are in the expected order."""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from demega_jax.data.recordings.statistics import pooled
from demega_jax.errors import listed
from demega_jax.names import PUBLISHED_SENSORS

SECONDS = 5.0  # after which no more samples are read
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
    """sampled: number of samples of each sensor that were read.  not_finite: places of sensors with NaN or infinity.

    order: whether sensors are in triplets; None: nothing expects it, as the file names their types, or as they are not
    the 306 of the published system.
    """

    sampled: int
    types: tuple[TypeAmplitude, ...]
    order: Verdict | None
    order_reason: str
    not_finite: tuple[int, ...]


def measure(
    blocks: Iterable[Float[np.ndarray, "C n"]], seconds: float = SECONDS, types: Sequence[str] = ()
) -> Amplitude:
    """Amplitudes over blocks of time. At least one is read, then more until `seconds` have passed.

    types: of the sensors; where they are not known, 306 sensors are taken for the triplets of the published system.
    """
    until = time.monotonic() + seconds
    parts, tops, finite = [], [], []
    for block in blocks:
        good = np.isfinite(block)
        x = np.where(good, block, 0).astype(np.float64)
        parts.append((x.shape[1], x.mean(axis=1), x.std(axis=1)))
        tops.append(np.abs(x).max(axis=1))
        finite.append(good.all(axis=1))
        if time.monotonic() > until:
            break
    deviation, largest = pooled(parts).std, np.max(tops, axis=0)
    order, reason = _order(deviation, types)
    if types:
        members = {kind: np.array(types) == kind for kind in dict.fromkeys(types)}
    elif order is not None:
        magnetometers = np.arange(len(deviation)) % 3 == 2
        members = {"gradiometers": ~magnetometers, "magnetometers": magnetometers}
    else:
        members = {"sensors": np.ones(len(deviation), bool)}
    return Amplitude(
        sum(samples for samples, _, _ in parts),
        tuple(_of_type(name, member, deviation, largest) for name, member in members.items()),
        order,
        reason,
        _places(~np.all(finite, axis=0)),
    )


def _of_type(
    name: str, member: Bool[np.ndarray, " C"], deviation: Float[np.ndarray, " C"], largest: Float[np.ndarray, " C"]
) -> TypeAmplitude:
    low, median, high = np.quantile(deviation[member], [0.25, 0.5, 0.75]).tolist()
    still = _places(member & (deviation <= NEAR_CONSTANT * median))
    return TypeAmplitude(name, int(member.sum()), median, low, high, float(largest[member].max()), still)


def _places(which: Bool[np.ndarray, " C"]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(which).tolist())


def _order(deviation: Float[np.ndarray, " C"], types: Sequence[str]) -> tuple[Verdict | None, str]:
    if types:
        return None, "the file names the type of each sensor"
    if len(deviation) != PUBLISHED_SENSORS:
        return None, f"the types of the {len(deviation)} sensors are not known"
    return sensor_order(deviation)


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
    odd = small if small[alive].mean() < 0.5 else ~small
    if not 0.2 < odd[alive].mean() < 0.47:
        return "cannot tell", "no third of the sensors differs from the others"
    agree = (odd == (np.arange(sensors) % 3 == 2))[alive].mean()
    found = np.flatnonzero(odd & alive)
    places = f"{found[0]} to {found[-1]}" if len(found) > 2 and (np.diff(found) == 1).all() else listed(found, 3)
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
