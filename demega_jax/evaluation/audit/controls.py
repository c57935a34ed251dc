"""Windows without a brain response: what they keep of a row, and what they replace by noise.

Three things are kept in turn. The amplitude spectrum of each sensor, with random phases (Theiler et al., 1992, "Testing
for nonlinearity in time series: the method of surrogate data", Physica D 58; phases are drawn for each sensor alone, so
that the pattern of a response over the sensors goes as well). The mean and standard deviation of each sensor. The noise
level, which is one number for a window, and tells how many windows were averaged.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Complex, Float

from demega_jax.data.changed import Change
from demega_jax.data.split import Split

ROWS_AT_ONCE = 128  # rows that are read together
LEAST = 1e-30  # a power in a logarithm

Window = Float[np.ndarray, "C T"]
Keep = Callable[[Window, np.random.Generator], Window]


def blocks(split: Split) -> Iterator[Float[np.ndarray, "n C T"]]:
    """The rows of a split in its order, some at a time, in float32."""
    reader = split.reader()
    for first in range(0, split.rows, ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, split.rows))
        yield reader.read(rows).astype(np.float32, copy=False)


def power(x: Float[np.ndarray, "n C T"]) -> Float[np.ndarray, "n C F"]:
    """The power spectrum of each sensor, without its mean: F = T // 2 frequencies, from the lowest one on."""
    spectrum = np.fft.rfft(x, axis=-1)[..., 1:]
    return np.square(np.abs(spectrum))


def noise_level(spectrum: Float[np.ndarray, "n C F"]) -> Float[np.ndarray, " n"]:
    """The logarithm of the power in the upper half of the spectrum, averaged over frequencies, then over sensors.

    A response lies below some 40 Hz. So this is the noise that is left after averaging, about 1 / K of a window's.
    """
    upper = spectrum[..., spectrum.shape[-1] // 2 :].mean(axis=-1)
    return np.log(np.maximum(upper, LEAST)).mean(axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Typical:
    """What windows of all classes have in common, which noise is made of.

    amplitude [C, F]: root of the mean power spectrum.  deviation [C]: standard deviation over time.  level: the mean
    noise level.
    """

    amplitude: Float[np.ndarray, "C F"]
    deviation: Float[np.ndarray, " C"]
    level: float

    @classmethod
    def of(cls, split: Split) -> "Typical":
        """That of the rows of a split, which are read once."""
        total = np.zeros((split.sensors, split.time_points // 2))
        variance, level = np.zeros(split.sensors), 0.0
        for x in blocks(split):
            spectrum = power(x)
            total += spectrum.sum(axis=0, dtype=np.float64)
            variance += x.var(axis=-1, dtype=np.float64).sum(axis=0)
            level += float(noise_level(spectrum).sum())
        return cls(np.sqrt(total / split.rows), np.sqrt(variance / split.rows), level / split.rows)

    def noise(self, time_points: int, rng: np.random.Generator) -> Window:
        """Noise with this spectrum, and with mean 0 and standard deviation 1 in each sensor."""
        parts = rng.standard_normal((2, *self.amplitude.shape))
        x = _series(self.amplitude * (parts[0] + 1j * parts[1]), time_points)
        x -= x.mean(axis=-1, keepdims=True)
        return x / np.maximum(x.std(axis=-1, keepdims=True), LEAST)


def _series(spectrum: Complex[np.ndarray, "C F"], time_points: int) -> Window:
    """The time series of mean 0 with this spectrum."""
    return np.fft.irfft(np.concatenate([np.zeros_like(spectrum[:, :1]), spectrum], axis=1), time_points)


def scramble_phases(x: Window, rng: np.random.Generator) -> Window:
    """A window with the same mean and amplitude spectrum in each sensor, and random phases."""
    spectrum = np.fft.rfft(x, axis=-1)[:, 1:]
    phases = rng.uniform(0, 2 * np.pi, spectrum.shape)
    if x.shape[-1] % 2 == 0:  # the highest frequency is real: its phase is 0 or pi
        phases[:, -1] = np.pi * (phases[:, -1] > np.pi)
    return _series(np.abs(spectrum) * np.exp(1j * phases), x.shape[-1]) + x.mean(axis=-1, keepdims=True)


def keep_moments(typical: Typical) -> Keep:
    """Noise with the mean and standard deviation that each sensor has in the window."""

    def keep(x: Window, rng: np.random.Generator) -> Window:
        noise = typical.noise(x.shape[-1], rng)
        return noise * x.std(axis=-1, keepdims=True) + x.mean(axis=-1, keepdims=True)

    return keep


def keep_noise_level(typical: Typical) -> Keep:
    """Noise of mean 0 whose standard deviation follows the noise level of the window, alike in all sensors."""

    def keep(x: Window, rng: np.random.Generator) -> Window:
        ratio = np.exp((noise_level(power(x[None]))[0] - typical.level) / 2)
        return typical.noise(x.shape[-1], rng) * typical.deviation[:, None] * ratio

    return keep


def change_of(keep: Keep, seed: tuple[int, ...]) -> Change:
    """The change of a split's rows. The random numbers of a row come from the seed and its number alone."""

    def change(x: Float[np.ndarray, "n C T"], rows: np.ndarray) -> Float[np.ndarray, "n C T"]:
        made = [keep(window, np.random.default_rng((*seed, row))) for window, row in zip(x, rows.tolist(), strict=True)]
        return np.array(made, np.float32)

    return change
