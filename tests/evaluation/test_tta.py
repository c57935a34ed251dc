"""Test-time augmentation: its arithmetic, and that it depends on rows alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demega_jax.evaluation.tta import TestTimeAugmentation, shifted

B, C, T = 400, 40, 25


def windows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((B, C, T)).astype(np.float32) + 5


def copies(tta: TestTimeAugmentation, x: np.ndarray) -> np.ndarray:
    """A changed copy of each window."""
    keys = jax.random.split(jax.random.key(3), len(x))
    return np.asarray(jax.vmap(tta.copy)(keys, jnp.asarray(x)))


def test_shift_fills_with_zeros():
    window = jnp.arange(1.0, 11.0).reshape(2, 5)
    np.testing.assert_array_equal(shifted(window, jnp.asarray(2)), [[0, 0, 1, 2, 3], [0, 0, 6, 7, 8]])
    np.testing.assert_array_equal(shifted(window, jnp.asarray(-2)), [[3, 4, 5, 0, 0], [8, 9, 10, 0, 0]])
    np.testing.assert_array_equal(shifted(window, jnp.asarray(0)), window)


def test_copies_are_shifted_by_each_distance_as_often():
    changed = copies(TestTimeAugmentation(lost_share=0.0, noise_scale=0.0), windows())
    zeros = (changed == 0).all(axis=1)  # time points that every sensor lost
    left, right = zeros[:, :6].sum(1), zeros[:, -6:].sum(1)
    assert ((left == 0) | (right == 0)).all()
    distance, count = np.unique(left - right, return_counts=True)
    np.testing.assert_array_equal(distance, [-6, -4, -2, 2, 4, 6])
    assert count.min() > B / 6 - 4 * np.sqrt(B / 6) and count.max() < B / 6 + 4 * np.sqrt(B / 6)


def test_one_sensor_in_twenty_is_lost():
    changed = copies(TestTimeAugmentation(noise_scale=0.0), windows())
    lost = (changed == 0).all(axis=2).mean()
    assert abs(lost - 0.05) < 4 * np.sqrt(0.05 * 0.95 / (B * C))


def test_noise_is_a_hundredth_of_the_window():
    x = windows() * np.geomspace(1e-3, 1e3, B)[:, None, None].astype(np.float32)
    exact, noisy = (copies(TestTimeAugmentation(noise_scale=scale), x) for scale in (0.0, 0.01))
    share = (noisy - exact).std(axis=(1, 2)) / x.std(axis=(1, 2))
    np.testing.assert_allclose(share, 0.01, rtol=0.15)


def test_the_window_counts_twice_and_each_copy_once():
    """A model that tells windows from copies: it gives the share of windows in the sum."""
    x = jnp.asarray(windows()[:8])

    def of(y):
        same = (y == x).all(axis=(1, 2)).astype(jnp.float32)
        return jnp.stack([same, 1 - same], axis=1)

    p = TestTimeAugmentation().probabilities(of, x, jnp.arange(8, dtype=jnp.uint32))
    np.testing.assert_allclose(p, np.tile([2 / 11, 9 / 11], (8, 1)), rtol=1e-6)


@pytest.mark.slow
def test_a_row_is_changed_the_same_in_any_batch():
    x = jnp.asarray(windows()[:12])
    tta, rows = TestTimeAugmentation(seed=4), jnp.arange(12, dtype=jnp.uint32)

    def of(y):
        return jnp.stack([y.sum(axis=(1, 2)), (y**2).sum(axis=(1, 2))], axis=1)

    whole = np.asarray(tta.probabilities(of, x, rows))
    part = np.asarray(tta.probabilities(of, x[5:9], rows[5:9]))
    np.testing.assert_allclose(part, whole[5:9], rtol=1e-5)
    other = np.asarray(TestTimeAugmentation(seed=5).probabilities(of, x, rows))
    assert (other != whole).all()
