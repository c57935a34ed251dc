"""Test-time augmentation: the mean of a model's probabilities over changed copies of each window.

As the published system was designed (its release never called it): the window itself counts twice, and nine copies once
each. A copy is shifted by 2, 4 or 6 time points to either side, loses one sensor in twenty, and has a little noise
added. Copies are made of the normalised window, so that they reach the network as they are.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from demega_jax.model.dropout import row_keys
from demega_jax.signal.augment import lose_sensors

Probabilities = Callable[[Float[Array, "B C T"]], Float[Array, "B V"]]


@dataclasses.dataclass(frozen=True)
class TestTimeAugmentation:
    """seed: of all random numbers.  shifts: distances in time points.  lost_share: probability that a sensor is lost.

    noise_scale: standard deviation of the noise, as a share of the window's.  own_weight: how often the window itself
    counts, where each copy counts once.
    """

    __test__ = False  # the name does not make it a test

    seed: int = 0
    copies: int = 9
    shifts: tuple[int, ...] = (2, 4, 6)
    lost_share: float = 0.05
    noise_scale: float = 0.01
    own_weight: float = 2.0

    def probabilities(
        self, of: Probabilities, x: Float[Array, "B C T"], rows: UInt32[Array, " B"]
    ) -> Float[Array, "B V"]:
        """The weighted mean over a window and its copies.

        of: the model.  x: normalised windows.  rows: their numbers in the whole input, from which, with the seed, the
        changes are drawn: they do not depend on batches or devices.
        """
        key = jax.random.key_data(jax.random.key(self.seed, impl="threefry2x32"))
        keys = jax.vmap(lambda k: jax.random.wrap_key_data(k, impl="threefry2x32"))(row_keys(key, rows))

        def add(total: Float[Array, "B V"], number: Array) -> tuple[Float[Array, "B V"], None]:
            changed = jax.vmap(lambda k, window: self.copy(jax.random.fold_in(k, number), window))(keys, x)
            return total + of(changed), None

        # One copy after the other, so that they need the memory of one batch.
        total, _ = jax.lax.scan(add, self.own_weight * of(x), jnp.arange(self.copies))
        return total / (self.own_weight + self.copies)

    def copy(self, key: PRNGKeyArray, window: Float[Array, "C T"]) -> Float[Array, "C T"]:
        """A changed copy of a window: shifted, then with lost sensors, then with noise."""
        how_far, lost, noise = jax.random.split(key, 3)
        distances = jnp.asarray([sign * shift for shift in self.shifts for sign in (-1, 1)])
        changed = lose_sensors(lost, shifted(window, jax.random.choice(how_far, distances)), self.lost_share)
        return changed + self.noise_scale * jnp.std(window) * jax.random.normal(noise, window.shape, window.dtype)


def shifted(window: Float[Array, "C T"], distance: Array) -> Float[Array, "C T"]:
    """The window moved by `distance` time points (below 0: to the left); what is moved in is 0."""
    place = jnp.arange(window.shape[1])
    inside = (place >= distance) & (place < window.shape[1] + distance)
    return jnp.where(inside, jnp.roll(window, distance, axis=1), 0)
