"""Random changes of training windows, on the device, inside the step. Each window draws from a key of its own.

What the field does to M/EEG windows (Rommel et al., 2022, Journal of Neural Engineering 19, 066020): shifts and masks
in time, lost and masked sensors, noise, other amplitudes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from demega_jax.config import AugmentConfig
from demega_jax.names import PUBLISHED_RATE

# Folded into a row's key, so that no augmentation shares bits with another, or with dropout.
STREAM = 0x61756700

Window = Float[Array, "C T"]


def augment(x: Float[Array, "B C T"], keys: UInt32[Array, "B 2"], config: AugmentConfig) -> Float[Array, "B C T"]:
    """Windows, each changed by every augmentation that its key draws; `x` itself where none is switched on.

    config: with the values of the data filled in (`for_data`).  keys: threefry keys of the rows.  Order: shift,
    amplitude, noise, lost sensors, masks; so zeros stay zeros.
    """
    config = config.for_data(x.shape[1], None, None)  # where they were not
    steps: list[tuple[float, Callable[[PRNGKeyArray, Window], Window]]] = [
        (config.time_shift, lambda key, w: shift(key, w, _samples(config))),
        (config.amplitude, lambda key, w: jitter(key, w, config.amplitude_spread, config.magnetometers or "none")),
        (config.noise, lambda key, w: w + config.noise_scale * jnp.std(w) * jax.random.normal(key, w.shape, w.dtype)),
        (config.sensor_dropout, lambda key, w: lose_sensors(key, w, config.sensor_dropout_share)),
        (config.time_mask, lambda key, w: mask(key, w, config.time_mask_share, axis=1)),
        (config.sensor_mask, lambda key, w: mask(key, w, config.sensor_mask_share, axis=0)),
    ]

    def change(key_data: UInt32[Array, "2"], window: Window) -> Window:
        row = jax.random.wrap_key_data(key_data, impl="threefry2x32")
        for number, (probability, how) in enumerate(steps):
            if probability > 0:
                chosen, bits = jax.random.split(jax.random.fold_in(row, STREAM + number))
                acts = jax.random.uniform(chosen) < probability
                window = jnp.where(acts, how(bits, window), window)
        return window

    return jax.vmap(change)(keys, x) if config.active else x


def _samples(config: AugmentConfig) -> tuple[int, int]:
    """The shortest and longest shift in samples; at least one."""
    low, high = (round(ms * (config.sample_rate or PUBLISHED_RATE) / 1000) for ms in config.time_shift_ms)
    return max(1, low), max(1, high)


def shift(key: PRNGKeyArray, window: Window, samples: tuple[int, int]) -> Window:
    """The window moved by samples[0] to samples[1] time points to either side; the edge's value is repeated."""
    low, high = samples
    how_far, side = jax.random.split(key)
    distance = jax.random.randint(how_far, (), low, high + 1)
    distance = jnp.where(jax.random.bernoulli(side), distance, -distance)
    padded = jnp.pad(window, ((0, 0), (high, high)), mode="edge")
    return jax.lax.dynamic_slice_in_dim(padded, high - distance, window.shape[1], axis=1)


def jitter(key: PRNGKeyArray, window: Window, spread: float, magnetometers: str | tuple[int, ...]) -> Window:
    """One factor from [1 - spread, 1 + spread] for all magnetometers, and one for all other sensors.

    magnetometers: as `data.augment.magnetometers` says.
    """
    factors = jax.random.uniform(key, (2,), window.dtype, 1 - spread, 1 + spread)
    kind = np.zeros(len(window), bool)
    if isinstance(magnetometers, tuple):
        kind[list(magnetometers)] = True
    elif magnetometers == "thirds":
        kind[2::3] = True
    return window * jnp.where(kind, factors[1], factors[0])[:, None]


def lose_sensors(key: PRNGKeyArray, window: Window, share: float) -> Window:
    """Each sensor 0 with probability `share`. The others are not scaled up: a lost sensor is lost."""
    return jnp.where(jax.random.bernoulli(key, 1 - share, (len(window), 1)), window, 0)


def mask(key: PRNGKeyArray, window: Window, share: float, axis: int) -> Window:
    """One block along an axis becomes 0; its length is even from 1 to share x the axis, its place anywhere."""
    count = window.shape[axis]
    longest = max(1, round(share * count))
    how_long, where = jax.random.split(key)
    length = jax.random.randint(how_long, (), 1, longest + 1)
    first = jax.random.randint(where, (), 0, count - length + 1)
    place = jnp.arange(count)
    inside = (place >= first) & (place < first + length)
    return jnp.where(jnp.expand_dims(inside, 1 - axis), 0, window)
