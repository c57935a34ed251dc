"""What is kept of a window, and what is not, against numpy."""

import numpy as np
import pytest
from helpers.data import grouped_path, open_split, write_grouped

from demega_jax.data.changed import changed, sampled
from demega_jax.evaluation.audit.controls import (
    Typical,
    change_of,
    keep_moments,
    keep_noise_level,
    noise_level,
    power,
    scramble_phases,
)

N, C = 60, 3


@pytest.fixture(params=[24, 25])
def split(request, tmp_path):
    """Rows of different size and mean in each sensor, of an even and an odd number of time points."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, C, request.param)).cumsum(-1) * rng.uniform(0.5, 2, (N, C, 1)) + [[1], [-2], [5]]
    path = write_grouped(grouped_path(tmp_path), x.astype(np.float32), np.arange(N) % 39)
    return open_split(path.parent.parent, 1)


def rows_of(split) -> np.ndarray:
    return split.reader().read(np.arange(split.rows)).astype(np.float64)


def alike(x, y) -> float:
    """The mean absolute correlation over time of two windows' sensors."""
    x, y = (each - each.mean(-1, keepdims=True) for each in (x, y))
    products = (x * y).mean(-1) / (x.std(-1) * y.std(-1))
    return float(np.abs(products).mean())


def test_scrambled_phases_keep_mean_and_amplitude_spectrum(split):
    x, y = rows_of(split), rows_of(changed(split, change_of(scramble_phases, (0,))))
    np.testing.assert_allclose(np.abs(np.fft.rfft(y)), np.abs(np.fft.rfft(x)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(y.mean(-1), x.mean(-1), atol=1e-5)
    angle = np.angle(np.fft.rfft(y)[..., 1:11] / np.fft.rfft(x)[..., 1:11])
    assert abs(np.exp(1j * angle).mean()) < 0.1  # no phase is left
    across = angle[:, 0] - angle[:, 1]
    assert abs(np.exp(1j * across).mean()) < 0.1  # nor that of one sensor beside another


def test_moments_are_kept_and_nothing_else(split):
    x, y = rows_of(split), rows_of(changed(split, change_of(keep_moments(Typical.of(split)), (0,))))
    np.testing.assert_allclose(y.mean(-1), x.mean(-1), atol=1e-4)
    np.testing.assert_allclose(y.std(-1), x.std(-1), rtol=1e-4)
    other = rows_of(changed(split, change_of(keep_moments(Typical.of(split)), (1,))))
    assert alike(x, y) == pytest.approx(alike(other, y), abs=0.1)  # as little as two draws of noise are


def test_noise_level_is_kept_and_nothing_else(split):
    x, y = rows_of(split), rows_of(changed(split, change_of(keep_noise_level(Typical.of(split)), (0,))))
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-4)
    level = noise_level(power(x))
    assert np.corrcoef(level, np.log(y.var(-1)).mean(-1))[0, 1] > 0.999
    ratio = y.std(-1) / y.std(-1)[:1]
    np.testing.assert_allclose(ratio, np.repeat(ratio[:, :1], C, axis=1), rtol=1e-4)  # alike in all sensors


def test_noise_level_is_that_of_the_mean_of_k_windows():
    """A mean of K windows has 1 / K of the variance of one, whatever response is added."""
    rng = np.random.default_rng(0)
    response = np.exp(-0.5 * np.square((np.arange(125) - 50) / 8)) * 5
    level = {}
    for k in (1, 4, 16):
        x = rng.standard_normal((50, 20, 125)) / np.sqrt(k)
        level[k] = noise_level(power(x)).mean()
        assert noise_level(power(x + response)).mean() == pytest.approx(level[k], abs=1e-3)
    assert level[1] - level[4] == pytest.approx(np.log(4), abs=0.02)
    assert level[1] - level[16] == pytest.approx(np.log(16), abs=0.02)


def test_noise_has_the_spectrum_of_the_windows(split):
    typical = Typical.of(split)
    x = rows_of(split)
    np.testing.assert_allclose(typical.deviation, np.sqrt(x.var(-1).mean(0)), rtol=1e-5)
    amplitude = np.sqrt(np.square(np.abs(np.fft.rfft(x)[..., 1:])).mean(0))
    np.testing.assert_allclose(typical.amplitude, amplitude, rtol=1e-4)
    rng = np.random.default_rng(0)
    noise = np.array([typical.noise(x.shape[-1], rng) for _ in range(3000)])
    found = np.sqrt(power(noise).mean(0))
    share = found / np.linalg.norm(found, axis=1, keepdims=True)
    wanted = typical.amplitude / np.linalg.norm(typical.amplitude, axis=1, keepdims=True)
    np.testing.assert_allclose(share, wanted, rtol=0.25)  # each draw is divided by its own deviation


def test_a_row_is_changed_alike_in_any_batch(split):
    control = changed(split, change_of(scramble_phases, (7,)))
    whole = rows_of(control)
    some = np.array([3, 40, 41])
    np.testing.assert_array_equal(control.reader().read(some), whole[some].astype(np.float32))
    assert np.abs(whole - rows_of(changed(split, change_of(scramble_phases, (8,))))).min() > 0


def test_sampled_rows(split):
    some = sampled(split, 20, 0)
    assert some.rows == 20 and (np.diff(some.chosen) > 0).all()
    np.testing.assert_array_equal(rows_of(some), rows_of(split)[some.chosen])
    np.testing.assert_array_equal(some.labels, split.labels[some.chosen])
    assert (sampled(split, 20, 1).chosen != some.chosen).any()
    np.testing.assert_array_equal(sampled(split, N, 0).chosen, np.arange(N))
