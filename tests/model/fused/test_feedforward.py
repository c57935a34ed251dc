"""The feed-forward branch: the kernels, run line by line, against plain operations and against the module."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demega_jax.config import ModelConfig
from demega_jax.model.conformer import FeedForward
from demega_jax.model.dropout import Noise, Share, dropout, row_keys
from demega_jax.model.fused.feedforward import feedforward, plain, weights_of
from demega_jax.model.fused.gpu import feedforward as gpu
from demega_jax.model.fused.plan import Branch, Masks

pytestmark = pytest.mark.slow(seconds=2)


def noise(batch: int) -> Noise:
    return Noise(row_keys(jnp.asarray([3, 1], jnp.uint32), jnp.arange(5, 5 + batch, dtype=jnp.uint32)), 7)


def case(shape: tuple[int, int, int], hidden: int, rate: float):
    """A branch, words, random x and weights of two layers, and a random gradient of the result."""
    rng = np.random.default_rng(0)
    x, g = jnp.asarray(rng.standard_normal((2, *shape)), jnp.float32)
    sizes = ((2, shape[2], hidden), (2, hidden), (2, hidden, shape[2]))
    weights = [jnp.asarray(rng.standard_normal(size) / 4, jnp.float32) for size in sizes]
    if not rate:
        return Branch(1, None), None, (x, *weights), g
    keys, share = noise(shape[0]), Share.of(rate)
    words = keys.words([keys.at(i) for i in range(3)], share.words(shape[1] * hidden)).words
    return Branch(1, Masks(share, (2,))), words, (x, *weights), g


def close(got, want) -> None:
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * max(1, float(np.abs(theirs).max())))


# Sizes that are no powers of two; pieces of hidden features of which the last one is not full.
@pytest.mark.parametrize(
    ("shape", "hidden", "rate"), [((3, 9, 32), 64, 0.5), ((2, 5, 24), 40, 0.3), ((1, 1, 16), 16, 0.0)]
)
def test_kernels_give_the_values_and_gradients_of_plain_operations(shape, hidden, rate):
    of, words, (x, *weights), g = case(shape, hidden, rate)
    value, back = jax.vjp(lambda x, *weights: plain(of, words, x, weights), x, *weights)
    close(gpu.forward(of, words, x, *weights, interpret=True), value)
    dx, *of_weights = back(g)
    want = dx, *(each[of.layer] for each in of_weights)
    close(gpu.backward(of, words, x, *weights, g, interpret=True), want)


def test_a_program_adds_up_several_tiles(monkeypatch):
    """Tiles of 16 lines and pieces of 16 hidden features, of which programs share those of the weights."""
    for name in ("LINES", "LINES_OF_WEIGHTS", "PIECE", "PIECE_OF_WEIGHTS"):
        monkeypatch.setattr(gpu, name, 16 * 16 * 4)
    monkeypatch.setattr(gpu, "PROGRAMS", 6)
    assert gpu.Sizes.fitting(jnp.zeros((2, 50, 16)), jnp.zeros((1, 40)), Branch(0, None), 1024, 1024, True).shares == 2
    test_kernels_give_the_values_and_gradients_of_plain_operations((2, 50, 16), 40, 0.5)


def test_members_side_by_side_are_each_by_itself():
    """The kernels with an axis of members in front."""
    of, words, (x, *weights), g = case((3, 9, 32), 64, 0.5)
    run, back = (functools.partial(each, of, interpret=True) for each in (gpu.forward, gpu.backward))
    inputs = (words, x, *weights)
    both = jax.tree.map(lambda a: jnp.stack([a, jnp.roll(a, 1, 0)]), (*inputs, g))
    values, gradients = jax.vmap(run)(*both[:-1]), jax.vmap(back)(*both)
    for member in range(2):
        alone = [each[member] for each in both]
        close(values[member], run(*alone[:-1]))
        close([each[member] for each in gradients], back(*alone))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_branch_is_that_of_the_module(rate):
    """The module's branch, without its last bias and dropout, of the second of two layers."""
    config = ModelConfig(width=16, heads=2, feedforward_factor=3, dropout=rate)
    layers = [FeedForward(config, rng=np.random.default_rng(seed)) for seed in (0, 1)]
    x, site = jnp.asarray(np.random.default_rng(1).standard_normal((2, 5, 16)), jnp.float32), noise(2).at(4)
    weights = weights_of([(each.up, each.down) for each in layers], x.dtype)
    branch = feedforward(x, weights, 1, site.at(0), rate)
    want = layers[1](x, noise=site)
    np.testing.assert_allclose(dropout(branch + layers[1].down.bias[...], rate, site.at(1)), want, rtol=2e-5, atol=2e-5)
