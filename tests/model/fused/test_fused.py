"""The kernels of attention, run line by line: values and gradients are those of the plain products."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from demega_jax.config import ModelConfig
from demega_jax.errors import UserError
from demega_jax.model.attention import DisentangledAttention, attend_by_pairs
from demega_jax.model.dropout import Noise, row_keys
from demega_jax.model.fused import gpu, tpu
from demega_jax.model.fused.bits import PairBits, keep_pairs, threefry2x32
from demega_jax.model.fused.plan import Plan

pytestmark = pytest.mark.slow(seconds=2)

B, H, D, SITE = 2, 2, 16, 7
WORDS = row_keys(jnp.asarray([3, 1], jnp.uint32), jnp.arange(5, 5 + B, dtype=jnp.uint32))
KINDS = {
    "both": {},
    "c2p": {"position_terms": ("c2p",)},
    "p2c": {"position_terms": ("p2c",)},
    "none": {"position_terms": ()},
    "shared": {"share_key": True},
    "distances": {"num_buckets": 0},
}
KERNELS = {"gpu": (gpu.forward, gpu.backward), "tpu": (tpu.forward, tpu.backward)}
# A GPU's kernel has several tiles of queries from 65 time points on, and a TPU's several lines of lanes from 129 on.
QUICK = [("gpu", "both", 70, 0.3), ("gpu", "c2p", 9, 0.5), ("gpu", "p2c", 1, 0.0), ("tpu", "both", 9, 0.5)]
MORE = [
    ("gpu", "both", 9, 0.0),
    ("gpu", "none", 33, 0.5),
    ("gpu", "shared", 64, 0.5),
    ("gpu", "distances", 65, 0.5),
    ("gpu", "p2c", 130, 0.5),
    ("tpu", "both", 130, 0.5),
    ("tpu", "c2p", 1, 0.0),
    ("tpu", "p2c", 9, 0.3),
    ("tpu", "none", 8, 0.5),
    ("tpu", "distances", 33, 0.5),
    ("tpu", "shared", 70, 0.0),
]
# Positions that are real, of two windows: the last window of 9 is real as a whole, that of 70 nowhere.
KEPT = {9: [[1, 1, 1, 1, 0, 0, 0, 0, 0], [1] * 9], 70: [[1] * 69 + [0], [0] * 70]}
CASES = [*QUICK, *(pytest.param(*case, marks=pytest.mark.long) for case in MORE)]


def attention(kind: str, dropout: float = 0.5) -> DisentangledAttention:
    """A layer whose position table matters."""
    settings = {"num_buckets": 6, "max_distance": 12, "attention": "fused", "dropout": dropout} | KINDS[kind]
    layer = DisentangledAttention(ModelConfig(width=H * D, heads=H, **settings), rng=np.random.default_rng(0))
    if settings.get("position_terms", True):
        layer.position_table[...] = layer.position_table[...] * 50
    return layer


def case(kind: str, time: int, rate: float, dtype=jnp.float32):
    """A plan, random queries, keys and values, the tables of a random layer, and g."""
    tables, rows = attention(kind).tables(time)
    rng = np.random.default_rng(time)
    qkv, g = (jnp.asarray(rng.standard_normal((B, time, *shape, H, D)), dtype) for shape in ((3,), ()))
    terms = (tables.keys is not None, tables.queries is not None)
    plan = Plan(B, time, H, D, rows, terms, PairBits.of(SITE, time, rate))
    return plan, qkv, jax.tree.map(lambda table: table.astype(dtype), tables), g


def plain(plan: Plan, qkv, tables, g, keep=None):
    """The attended values and the gradients, by products of every pair."""
    dropped = None if plan.bits is None else keep_pairs(WORDS, H, plan.bits)
    y, back = jax.vjp(lambda *each: attend_by_pairs(plan.rows, keep, *each, dropped), qkv, tables)
    return y, *back(g)


def fused(device: str, plan: Plan, qkv, tables, g, keep=None):
    """The same by the kernels of a device."""
    plan = dataclasses.replace(plan, masked=keep is not None)
    forward, backward = (functools.partial(each, plan, interpret=True) for each in KERNELS[device])
    return jax.jit(forward)(WORDS, keep, qkv, tables), *jax.jit(backward)(WORDS, keep, qkv, tables, g)


@pytest.mark.parametrize(("device", "kind", "time", "rate"), CASES)
def test_values_and_gradients(device, kind, time, rate):
    arguments = case(kind, time, rate)
    got, want = jax.tree.leaves(fused(device, *arguments)), jax.tree.leaves(plain(*arguments))
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("device", "time", "rate"),
    [("gpu", 9, 0.0), ("tpu", 9, 0.5), *(pytest.param(each, 70, 0.3, marks=pytest.mark.long) for each in KERNELS)],
)
def test_positions_that_are_not_real(device, time, rate):
    keep = jnp.asarray(KEPT[time], bool)
    arguments = case("both", time, rate)
    got, want = (jax.tree.leaves(each) for each in (fused(device, *arguments, keep), plain(*arguments, keep)))
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)
    assert not np.asarray(got[0])[~np.asarray(keep)].any()


@pytest.mark.parametrize("shift", [0, 5, 9])
def test_lines_are_rolled_alike_off_a_tpu_and_by_the_operation_for_one(shift):
    """A line of three of 8 places, by hand: line t begins with the place 8 - shift - t."""
    x = jnp.asarray(np.arange(24.0).reshape(3, 8), jnp.float32)
    sizes = tpu.Sizes.of(case("none", 9, 0.0)[0], interpret=True)
    here = tpu.rolled(sizes, x, shift)
    on_tpu = jax.jit(functools.partial(tpu.rolled, dataclasses.replace(sizes, interpret=False), shift=shift))
    np.testing.assert_array_equal(here, on_tpu(x))
    assert [int(here[t, 0]) for t in range(3)] == [8 * t + (-shift - t) % 8 for t in range(3)]


@pytest.mark.long
@pytest.mark.parametrize("device", KERNELS)
def test_half_precision_is_near_float32(device):
    want = jax.tree.leaves(plain(*case("both", 9, 0.5)))
    for got, theirs in zip(jax.tree.leaves(fused(device, *case("both", 9, 0.5, jnp.bfloat16))), want, strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(np.float32), theirs, atol=0.03 * np.abs(theirs).max())


@pytest.mark.long
@pytest.mark.parametrize("device", KERNELS)
def test_members_side_by_side_have_the_values_of_each(device):
    plan, qkv, tables, _ = case("both", 9, 0.5)
    forward = functools.partial(KERNELS[device][0], plan, interpret=True)
    pair = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), (qkv, tables))
    words = jnp.stack([WORDS, WORDS + 1])
    together = jax.vmap(forward, in_axes=(0, None, 0, 0))(words, None, *pair)
    for member in range(2):
        alone = forward(words[member], None, *jax.tree.map(lambda x, member=member: x[member], pair))
        np.testing.assert_allclose(together[member], alone, rtol=1e-6, atol=1e-6)


def test_the_generator_is_that_of_jax():
    key, counter = np.asarray([17, 2**31 + 5], np.uint32), np.arange(20, dtype=np.uint32) * 99999989
    words = threefry2x32((key[0], key[1]), (counter[:10], counter[10:]))
    np.testing.assert_array_equal(np.concatenate(words), threefry_2x32(key, counter))


@pytest.mark.parametrize(("time", "rate", "tile"), [(70, 0.5, 32), (70, 0.5, 64), (9, 0.3, 16), (130, 0.3, 16)])
def test_tiles_of_queries_keep_the_pairs_of_the_whole(time, rate, tile):
    bits = PairBits.of(SITE, time, rate)
    whole, kept = keep_pairs(WORDS, H, bits)
    assert kept == bits.kept == (0.5 if rate == 0.5 else 179 / 256)
    query, s = np.arange(tile, dtype=np.uint32)[:, None], np.arange(time, dtype=np.uint32)[None]
    for first in range(0, time, tile):
        part = bits.keep((WORDS[1, 0], WORDS[1, 1]), 1, first, query, s)[: time - first]
        np.testing.assert_array_equal(part, whole[1, 1, first : first + tile])


def test_pairs_are_kept_at_the_rate_and_independently():
    """Within 4 standard deviations of a binomial; no two rows, heads, queries or keys have the same pairs."""
    keys = row_keys(jnp.zeros(2, jnp.uint32), jnp.arange(40, dtype=jnp.uint32))
    keep, kept = keep_pairs(keys, H, PairBits.of(SITE, 70, 0.3))
    assert abs(keep.mean() - kept) < 4 * np.sqrt(kept * (1 - kept) / keep.size)
    other, _ = keep_pairs(keys, H, PairBits.of(SITE + 1, 70, 0.3))
    shifted = [np.roll(keep, 1, axis) for axis in range(4)] + [other]
    same = kept**2 + (1 - kept) ** 2
    for each in shifted:
        assert abs((np.asarray(each) == keep).mean() - same) < 4 * np.sqrt(same * (1 - same) / keep.size)


def test_on_a_cpu_a_layer_in_training_takes_the_plain_products_with_these_pairs():
    layer, plain_layer = attention("both"), attention("both")
    plain_layer.config = layer.config.model_copy(update={"attention": "plain"})
    x = jnp.asarray(np.random.default_rng(0).standard_normal((B, 9, H * D)), jnp.float32)
    for keep in (None, jnp.asarray(KEPT[9], bool)):
        np.testing.assert_allclose(layer(x, keep=keep), plain_layer(x, keep=keep), rtol=1e-5, atol=1e-6)
    noise = Noise(WORDS, SITE)
    tables, rows = layer.tables(9)
    qkv = jnp.stack([layer._heads(each(x)) for each in (layer.query, layer.key, layer.value)], axis=2)
    dropped = keep_pairs(WORDS, H, PairBits.of(noise.at(0).site, 9, 0.5))
    attended = layer.out(attend_by_pairs(rows, None, qkv, tables, dropped).reshape(x.shape))
    outer = noise.at(1).keep(x.shape[1:], 0.5).keep
    np.testing.assert_allclose(layer(x, noise=noise), jnp.where(outer, 2 * attended, 0), rtol=1e-5, atol=1e-6)
    of_values = jax.grad(lambda qkv: jnp.sum(attend_by_pairs(rows, None, qkv, tables, dropped)))(qkv)
    of_layer = jax.grad(lambda qkv: jnp.sum(layer._fused(qkv, tables, rows, None, noise.at(0))))(qkv)
    np.testing.assert_allclose(of_layer, of_values, rtol=1e-5, atol=1e-6)


def test_a_program_for_a_tpu_holds_nothing_of_every_pair():
    """Lowered for a TPU, the layer in training has no array [B, H, T, S] outside the kernels; for a CPU it has."""
    layer = attention("both")
    x, noise = jnp.zeros((B, 9, H * D)), Noise(WORDS, SITE)
    function = jax.jit(jax.grad(lambda x: jnp.sum(layer(x, noise=noise))))
    unchecked = [jax.export.DisabledSafetyCheck.custom_call("tpu_custom_call")]
    for platform, there in (("tpu", False), ("cpu", True)):
        text = jax.export.export(function, platforms=[platform], disabled_checks=unchecked)(x).mlir_module()
        assert (f"tensor<{B}x{H}x9x9xf32>" in text) == there, platform
        assert ("tpu_custom_call" in text) != there, platform


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 96, "heads": 4}, ["model.attention=fused", "24", "model.attention=plain"]),
        ({"width": 32, "heads": 4}, ["model.attention=fused", "8"]),
        ({"time_points": 513}, ["model.attention=fused", "513", "512"]),
    ],
)
def test_what_the_kernels_cannot_take_is_refused(changes, words):
    with pytest.raises(UserError) as error:
        ModelConfig(**({"attention": "fused"} | changes))
    assert all(word in str(error.value) for word in words)
    ModelConfig(**changes)


def test_windows_of_the_data_that_are_too_long_are_refused():
    with pytest.raises(UserError, match=r"model\.attention=fused.*600"):
        ModelConfig(attention="fused").for_data(sensors=3, time_points=600, classes=("a", "b"))
