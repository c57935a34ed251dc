"""Augmentation: each does what its arithmetic says, as often as asked, on the rows' own keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.errors import refused

from demega_jax.config import AugmentConfig, Config, ModelConfig
from demega_jax.model.dropout import row_keys
from demega_jax.signal.augment import augment

B, C, T = 2000, 9, 20
KEYS = row_keys(jnp.asarray([1, 2], jnp.uint32), jnp.arange(B, dtype=jnp.uint32))


def windows(count: int = B) -> np.ndarray:
    """Ramps over time, each sensor with an offset of its own: a shift shows as a constant difference."""
    return np.broadcast_to(np.arange(T) + 100.0 * np.arange(1, C + 1)[:, None], (count, C, T)).astype(np.float32)


def run(**keys) -> np.ndarray:
    return np.asarray(jax.jit(augment, static_argnums=2)(jnp.asarray(windows()), KEYS, AugmentConfig(**keys)))


def changed(y: np.ndarray) -> float:
    return float((y != windows()).any(axis=(1, 2)).mean())


def test_nothing_is_on_by_default():
    x = jnp.asarray(windows(2))
    assert not AugmentConfig().active
    assert augment(x, KEYS[:2], AugmentConfig()) is x


@pytest.mark.parametrize("kind", ["time_shift", "noise", "time_mask", "sensor_mask", "amplitude"])
@pytest.mark.parametrize("probability", [0.25, 1.0])
@pytest.mark.slow
def test_acts_with_its_probability(kind, probability):
    share = changed(run(**{kind: probability}))
    assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / B) + 1e-9


def test_shift_is_by_whole_samples_within_the_range_to_both_sides():
    y = run(time_shift=1.0, time_shift_ms=(8.0, 24.0))
    by = (windows() - y)[:, 0, T // 2]  # a ramp moved by s is lower by s
    assert set(np.unique(by)) == {-6, -5, -4, -3, -2, 2, 3, 4, 5, 6}  # 8 to 24 ms at 250 Hz
    for row, distance in zip(y[:50], by[:50].astype(int), strict=True):
        moved = np.clip(np.arange(T) - distance, 0, T - 1)  # the edge is repeated
        np.testing.assert_array_equal(row, windows(1)[0][:, moved])


def test_noise_is_relative_to_the_window():
    y = run(noise=1.0, noise_scale=0.5)
    noise = (y - windows()) / windows(1).std()
    assert abs(noise.mean()) < 5 * 0.5 / np.sqrt(noise.size)
    assert abs(noise.std() - 0.5) < 0.005


def test_lost_sensors():
    y = run(sensor_dropout=1.0, sensor_dropout_share=0.3)
    lost = (y == 0).all(axis=2)
    np.testing.assert_array_equal(y[~lost], windows()[~lost])
    assert abs(lost.mean() - 0.3) < 4 * np.sqrt(0.21 / lost.size)


@pytest.mark.parametrize(("kind", "axis"), [("time_mask", 2), ("sensor_mask", 1)])
def test_masks_are_one_block(kind, axis):
    y = run(**{kind: 1.0, f"{kind}_share": 0.3})
    zero = (y == 0).all(axis=3 - axis)
    np.testing.assert_array_equal(y == 0, np.expand_dims(zero, 3 - axis) & np.ones((B, C, T), bool))
    lengths, longest = zero.sum(axis=1), round(0.3 * y.shape[axis])
    assert set(lengths) == set(range(1, longest + 1))
    assert (np.abs(np.diff(zero.astype(int), axis=1)).sum(axis=1) <= 2).all()  # one rise and one fall at most
    assert zero.any(axis=0).all()  # anywhere


def test_amplitudes_have_a_factor_for_each_sensor_type():
    """Every third is a magnetometer where that is said, and so are those of a list; without either, none is."""
    factor = run(amplitude=1.0, amplitude_spread=0.2, magnetometers="thirds") / windows()
    kind = np.arange(C) % 3 == 2
    listed = tuple(np.flatnonzero(kind).tolist())
    np.testing.assert_array_equal(run(amplitude=1.0, amplitude_spread=0.2, magnetometers=listed) / windows(), factor)
    np.testing.assert_array_equal(run(amplitude=1.0), run(amplitude=1.0, magnetometers="none"))
    for of_type in (factor[:, kind], factor[:, ~kind]):
        assert np.ptp(of_type.reshape(B, -1), axis=1).max() < 1e-6
    both = np.stack([factor[:, 2, 0], factor[:, 0, 0]])
    assert both.min() > 0.8 - 1e-6 and both.max() < 1.2 + 1e-6
    assert abs(np.corrcoef(both)[0, 1]) < 0.1
    assert (np.ptp(run(amplitude=1.0, magnetometers="none") / windows(), axis=(1, 2)) < 1e-6).all()


@pytest.mark.slow
def test_a_row_s_bits_depend_on_its_key_alone():
    config = AugmentConfig(time_shift=0.5, noise=0.5, sensor_dropout=0.5, time_mask=0.5, amplitude=0.5, sensor_mask=0.5)
    whole = np.asarray(augment(jnp.asarray(windows()), KEYS, config))
    some = np.asarray(augment(jnp.asarray(windows(3)), KEYS[7:10], config))
    np.testing.assert_allclose(some, whole[7:10], rtol=1e-6)
    assert changed(whole) > 0.95


def test_a_range_the_wrong_way_round_is_refused():
    with refused("data.augment.time_shift_ms", "[24.0, 8.0]", "[8.0, 24.0]"):
        AugmentConfig(time_shift_ms=(24.0, 8.0))


def test_the_section_is_part_of_data():
    assert Config(model=ModelConfig(), data={"augment": {"noise": 0.5}}).data.augment.noise == 0.5
