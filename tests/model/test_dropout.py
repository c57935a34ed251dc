"""Dropout bits: their distribution, their independence and the generator they come from."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from demega_jax.model.dropout import Noise, Share, _kept, _kept_on_tpu, dropout, row_keys

STEP_KEY = jnp.asarray([0x9E3779B9, 0x7F4A7C15], jnp.uint32)
ROWS, SHAPE = 64, (25, 40)
DRAWS = ROWS * math.prod(SHAPE)
RATES = [0.5, 0.1, 0.9]


def noise(rows=ROWS, step_key=STEP_KEY) -> Noise:
    numbers = np.arange(rows) if isinstance(rows, int) else np.asarray(rows)
    return Noise(row_keys(step_key, jnp.asarray(numbers, jnp.uint32)))


def mask(rate: float, **how) -> np.ndarray:
    return np.asarray(noise(**how).at(3).keep(SHAPE, rate)[0])


@pytest.mark.parametrize(("rate", "share"), [(0.5, 1 / 2), (0.1, 230 / 256), (0.9, 26 / 256), (0.25, 192 / 256)])
def test_share_that_is_kept(rate, share):
    """Within 4 standard deviations of a binomial, over all draws and over those of each row."""
    keep, kept = noise().at(3).keep(SHAPE, rate)
    assert kept == share and abs(kept - (1 - rate)) <= 1 / 512
    deviation = math.sqrt(share * (1 - share))
    assert abs(np.mean(keep) - share) < 4 * deviation / math.sqrt(DRAWS)
    each_row = np.mean(keep, axis=(1, 2))
    assert np.abs(each_row - share).max() < 5 * deviation / math.sqrt(math.prod(SHAPE))
    # the spread of the rows' shares is binomial too: a sum of squares of 64 normal numbers is 64 +- 4 * sqrt(128)
    assert abs((((each_row - share) / deviation) ** 2).sum() * math.prod(SHAPE) - ROWS) < 4 * math.sqrt(2 * ROWS)


@pytest.mark.parametrize("rate", RATES)
def test_scale_keeps_the_mean(rate):
    x = jnp.full((ROWS, *SHAPE), 3.0)
    y = np.asarray(dropout(x, rate, noise().at(3)))
    keep, kept = noise().at(3).keep(SHAPE, rate)
    np.testing.assert_array_equal(y, np.where(keep, np.float32(3.0) * np.float32(1 / kept), 0))
    assert abs(y.mean() - 3.0) < 4 * 3.0 * math.sqrt((1 - kept) / kept / DRAWS)


def test_something_is_kept_at_any_rate():
    keep, kept = noise().at(0).keep(SHAPE, 0.9999)
    assert kept == 1 / 256 and 0 < np.mean(keep) < 1 / 100


@pytest.mark.parametrize("rate", RATES)
def test_a_row_has_its_bits_in_any_batch(rate):
    whole = mask(rate)
    np.testing.assert_array_equal(mask(rate, rows=[5, 63, 0]), whole[[5, 63, 0]])
    np.testing.assert_array_equal(mask(rate, rows=7), whole[:7])


@pytest.mark.parametrize("rate", RATES)
def test_rows_sites_and_steps_are_independent(rate):
    """Correlations of masks are those of independent draws: normal with deviation 1 / sqrt(n)."""
    centred = mask(rate).reshape(ROWS, -1) - mask(rate).mean()
    correlation = np.corrcoef(centred)[~np.eye(ROWS, dtype=bool)]
    assert np.abs(correlation).max() < 5 / math.sqrt(math.prod(SHAPE))
    places = [
        noise().at(0),
        noise().at(1),
        noise().at(0).at(0),
        noise().at(0).at(1),
        noise().at(1).at(0),
        noise(step_key=STEP_KEY + 1).at(0),
        noise(rows=np.arange(ROWS) + ROWS).at(0),
    ]
    masks = [np.asarray(place.keep(SHAPE, rate)[0]).ravel() for place in places]
    correlation = np.corrcoef(masks)[~np.eye(len(places), dtype=bool)]
    assert np.abs(correlation).max() < 5 / math.sqrt(DRAWS)


def test_neighbours_are_independent():
    """Also those that come from one word (32 bits, or 4 times 8) and from one block."""
    for rate in RATES:
        centred = mask(rate).reshape(ROWS, -1) - mask(rate).mean()
        for lag in (1, 3, 4, 8, 31, 32, 64, math.prod(SHAPE) // 2):
            product = (centred[:, lag:] * centred[:, :-lag]).ravel() / centred.var()
            assert abs(product.mean()) < 4 / math.sqrt(product.size), (rate, lag)


def test_every_site_has_a_number_of_its_own():
    """Two levels of all 63 places, below the root and below one place."""
    root = noise()
    sites = [root.site] + [root.at(i).site for i in range(63)]
    sites += [root.at(i).at(j).site for i in range(63) for j in range(63)]
    assert len(set(sites)) == 1 + 63 + 63 * 63


def test_without_noise_nothing_happens():
    x = jnp.ones((2, 3))
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, noise(2)) is x


def test_row_keys_are_threefry():
    """The block of counter (0, row), by jax's own generator; and the published vector for key and counter 0."""
    for row, key in enumerate(np.asarray(row_keys(STEP_KEY, jnp.arange(5, dtype=jnp.uint32)))):
        np.testing.assert_array_equal(key, threefry_2x32(STEP_KEY, jnp.asarray([0, row], jnp.uint32)))
    zero = row_keys(jnp.zeros(2, jnp.uint32), jnp.zeros(1, jnp.uint32))
    np.testing.assert_array_equal(zero, [[0x6B200159, 0x99BA4EFE]])  # Salmon et al. (2011), Random123, 20 rounds


@pytest.mark.parametrize(("rate", "each"), [(0.5, 1), (0.25, 8)])
def test_masks_are_threefry(rate, each):
    """Words of the counters (site, block) in jax's own generator, cut up here, low bits first."""
    place = noise(2).at(3).at(1)
    count, blocks = 70, math.ceil(math.ceil(70 * each / 32) / 2)
    keep = np.asarray(place.keep((7, 10), rate)[0])
    for row in range(2):
        pairs = [
            np.asarray(threefry_2x32(place.keys[row], jnp.asarray([place.site + 1, block], jnp.uint32)))
            for block in range(blocks)
        ]
        words = [int(pair[half]) for half in (0, 1) for pair in pairs]
        values = [word >> shift & (2**each - 1) for word in words for shift in range(0, 32, each)][:count]
        np.testing.assert_array_equal(keep[row].ravel(), np.array(values) < (1 - rate) * 2**each)


@pytest.mark.parametrize("layout", [_kept, _kept_on_tpu])
def test_bits_of_a_word_are_of_neighbours(layout):
    """The lowest bit, or byte, of a word first, as numpy reads them."""
    words = np.random.default_rng(0).integers(0, 2**32, (5, 7), np.uint32)
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), axis=1, bitorder="little")
    np.testing.assert_array_equal(layout(Share.of(0.5), jnp.asarray(words)), bits == 0)
    np.testing.assert_array_equal(layout(Share.of(0.1), jnp.asarray(words)), words.astype("<u4").view(np.uint8) < 230)
