"""A branch added to the residual stream with the normalisation after it: the kernels, run line by line, and the encoder
that is made of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from demega_jax.config import ModelConfig
from demega_jax.model.conformer import ConformerEncoder
from demega_jax.model.dropout import Noise, Share, dropout, row_keys
from demega_jax.model.fused.gpu import residual as gpu
from demega_jax.model.fused.plan import Masks, Sum
from demega_jax.model.fused.residual import add_and_normalize, gains_of, plain_backward, plain_forward, stream_of
from demega_jax.model.layers import LayerNorm, product

pytestmark = pytest.mark.slow(seconds=4)

SITE = 7


def noise(batch: int) -> Noise:
    return Noise(row_keys(jnp.asarray([3, 1], jnp.uint32), jnp.arange(5, 5 + batch, dtype=jnp.uint32)), SITE)


def case(shape: tuple[int, int, int], rate: float, masks: int):
    """A sum, words, random x, y and gains, and random gradients of the two results."""
    rng = np.random.default_rng(0)
    x, y, g_total, g_normed = jnp.asarray(rng.standard_normal((4, *shape)), jnp.float32)
    gains = jnp.asarray(rng.standard_normal((3, 3, shape[2])), jnp.float32)
    if not masks:
        return Sum(2, None), None, (x, y, gains), (g_total, g_normed)
    keys, share = noise(shape[0]), Share.of(rate)
    words = keys.words([keys.at(i) for i in range(3)], share.words(shape[1] * shape[2])).words
    return Sum(2, Masks(share, tuple(range(masks)))), words, (x, y, gains), (g_total, g_normed)


def close(got, want) -> None:
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * max(1, float(np.abs(theirs).max())))


# A width that is no power of two; lines that fill no tile; several tiles a program (more than 8192 lines of 64).
@pytest.mark.parametrize(
    ("shape", "rate", "masks"),
    [((3, 9, 32), 0.5, 2), ((2, 5, 24), 0.3, 1), ((1, 1, 16), 0.0, 0), ((70, 121, 64), 0.5, 1)],
)
def test_kernels_give_the_values_and_gradients_of_plain_operations(shape, rate, masks):
    found, words, inputs, g = case(shape, rate, masks)
    plain = functools.partial(plain_forward, found, words)
    values, back = jax.vjp(plain, *inputs)
    close(gpu.forward(found, words, *inputs, interpret=True), values)
    room = jnp.zeros((3, gpu.parts(inputs[0]), 3, shape[2]), jnp.float32)
    saved = (found, words, values[0], inputs[2], g, room)
    for run in (plain_backward, functools.partial(gpu.backward, interpret=True)):
        dx, dy, parts, of_gains = run(*saved)
        close((dx, dy, jnp.sum(parts, axis=1) + of_gains), back(g))


def test_members_side_by_side_are_each_by_itself():
    """The kernels with an axis of members in front."""
    found, words, inputs, g = case((3, 9, 32), 0.5, 1)
    both = jax.tree.map(lambda a: jnp.stack([a, jnp.roll(a, 1, 0)]), (words, inputs, g))
    run = functools.partial(gpu.forward, found, interpret=True)
    back = functools.partial(gpu.backward, found, interpret=True)
    values = jax.vmap(lambda words, inputs: run(words, *inputs))(both[0], both[1])
    room = jnp.zeros((3, gpu.parts(inputs[0]), 3, 32), jnp.float32)
    gradients = jax.vmap(functools.partial(back, room=room))(both[0], values[0], both[1][2], both[2])
    for member in range(2):
        words, inputs, g = jax.tree.map(lambda a, at=member: a[at], both)
        alone = run(words, *inputs)
        close([each[member] for each in values], alone)
        close([each[member] for each in gradients], back(words, alone[0], inputs[2], g, room))


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_the_sum_is_that_of_linear_layer_dropout_and_layer_norm(rate):
    """By numpy: x + dropout(dropout(h W + b)), and its standardised lines."""
    rng = np.random.default_rng(1)
    layer = nnx.Linear(6, 8, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.asarray(rng.standard_normal(8), jnp.float32)
    x, h = (jnp.asarray(rng.standard_normal((2, 5, width)), jnp.float32) for width in (8, 6))
    norm, sites = LayerNorm(8, dtype=jnp.dtype("float32")), [noise(2).at(0), noise(2).at(3)]
    norm.scale[...] = jnp.asarray(rng.standard_normal(8), jnp.float32)
    gains = gains_of([layer], [norm])
    (total, _), normed = add_and_normalize(stream_of(x, gains), product(layer, h), gains, 0, sites, rate)
    kept = [np.asarray(dropout(jnp.ones_like(x), rate, site)) for site in sites]
    added = (np.asarray(h) @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])) * kept[0] * kept[1]
    want = np.asarray(x) + added
    np.testing.assert_allclose(total, want, rtol=1e-5, atol=1e-5)
    standard = (want - want.mean(-1, keepdims=True)) / np.sqrt(want.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(normed, standard * np.asarray(norm.scale[...]), rtol=1e-4, atol=1e-5)


def encoders(**shape) -> list[ConformerEncoder]:
    """A plain and a fused encoder with the same parameters."""
    configs = [ModelConfig(attention=kind, **shape) for kind in ("plain", "fused")]
    return [ConformerEncoder(config, 3, rng=np.random.default_rng(0)) for config in configs]


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_an_encoder_of_them_is_the_plain_encoder(norm):
    """The same features and gradients; without dropout of probabilities, whose pairs the two paths draw otherwise."""
    shape = {"width": 32, "heads": 2, "layers": 2, "norm": norm, "dropout": 0.0, "num_buckets": 6, "max_distance": 12}
    plain, fused = encoders(**shape)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3, 9)), jnp.float32)

    def loss(encoder: ConformerEncoder):
        y = encoder(x, noise=noise(2))
        return jnp.sum(y * jnp.arange(y.size).reshape(y.shape)) / y.size, y

    gradient = nnx.grad(loss, has_aux=True)
    (ours, y), (theirs, want) = gradient(fused), gradient(plain)
    np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-5)
    close(ours, theirs)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_it_evaluates_as_the_plain_encoder(norm):
    """Without noise, rates act nowhere. Of padded windows the features of real positions are the same; the gradient,
    which saliency needs, too."""
    plain, fused = encoders(width=32, heads=2, layers=2, norm=norm, dropout=0.5, num_buckets=6, max_distance=12)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3, 9)), jnp.float32)
    real = np.ones((2, 9), bool)
    close(fused(x), plain(x))
    real[1, 5:] = False
    of_real = [
        jax.value_and_grad(lambda x, encoder=encoder: jnp.sum(encoder(x, keep=jnp.asarray(real))[real] ** 2))(x)
        for encoder in (fused, plain)
    ]
    close(*of_real)


def test_longer_windows_than_the_kernels_take_are_evaluated_by_plain_products():
    plain, fused = encoders(width=32, heads=2, layers=1, num_buckets=6, max_distance=12, kernel_size=3)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 3, 513)), jnp.float32)
    np.testing.assert_array_equal(fused(x), plain(x))


def test_a_fused_encoder_drops_where_the_plain_one_does():
    """The same features with dropout, but for that of probabilities, which the two paths draw otherwise."""
    shape = {"width": 32, "heads": 2, "layers": 1, "position_terms": (), "dropout": 0.5}
    plain, fused = encoders(**shape)
    for encoder in (plain, fused):  # what is attended to is then the bias alone
        encoder.layers[0].attention.out.kernel[...] *= 0
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3, 9)), jnp.float32)
    np.testing.assert_allclose(fused(x, noise=noise(2)), plain(x, noise=noise(2)), rtol=2e-5, atol=2e-5)
