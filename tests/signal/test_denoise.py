"""Denoising: the original's numbers, and what does not depend on them."""

import numpy as np
import pytest

from demega_jax.signal.denoise import Denoising, denoise


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("keep_scale", [True, False])
def test_equals_the_original(golden, mode, strength, keep_scale):
    numbers = golden("denoise")
    y = denoise(numbers["x"], Denoising(mode=mode, strength=strength, keep_scale=keep_scale))
    wanted = numbers[f"{mode}/strength={strength}/preserve_scale={keep_scale}"]
    assert np.abs(wanted - numbers["x"]).max() > 0.1  # it does something
    np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-6)


def test_many_windows_at_once_are_each_denoised_alone(golden):
    x = golden("denoise")["x"]
    windows = np.stack([x, 3 * x[::-1], x * 0]).astype(np.float32)
    together = denoise(windows)
    for window, clean in zip(windows, together, strict=True):
        np.testing.assert_allclose(clean, denoise(window), rtol=1e-5, atol=1e-6)
    assert (together[2] == 0).all()  # a constant sensor stays as it is


def test_the_unit_does_not_matter(golden):
    """Windows in tesla are 1e12 times smaller, and are denoised as much."""
    x = golden("denoise")["x"]
    np.testing.assert_allclose(denoise(x * np.float32(1e-12)) * 1e12, denoise(x), rtol=1e-4, atol=1e-5)


def test_mean_and_deviation_stay(golden):
    x = golden("denoise")["x"].astype(np.float64)
    y = denoise(x).astype(np.float64)
    np.testing.assert_allclose(y.mean(-1), x.mean(-1), atol=1e-5)
    np.testing.assert_allclose(y.std(-1), x.std(-1), rtol=1e-5)


def test_noise_becomes_less():
    rng = np.random.default_rng(0)
    clean = np.sin(np.linspace(0, 6, 125))[None].repeat(20, 0)
    noisy = clean + 0.3 * rng.standard_normal(clean.shape)
    before, after = (np.square(a - clean).mean() for a in (noisy, denoise(noisy, Denoising(keep_scale=False))))
    assert after < before / 2


def test_a_window_too_short_for_wavelets_stays():
    x = np.arange(6, dtype=np.float32)[None]
    np.testing.assert_array_equal(denoise(x), x)
