"""Attention for accelerators: values and gradients are those of the plain products, with and without dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demega_jax.config import ModelConfig
from demega_jax.model.attend import PairRows, attend
from demega_jax.model.attention import DisentangledAttention, attend_by_pairs
from demega_jax.model.dropout import Noise, row_keys

B, H, D = 3, 2, 4
KINDS = {
    "both": {},
    "c2p": {"position_terms": ("c2p",)},
    "p2c": {"position_terms": ("p2c",)},
    "none": {"position_terms": ()},
    "shared": {"share_key": True},
    "distances": {"num_buckets": 0},
}


def case(kind: str, time: int, rate: float, dtype=jnp.float32):
    """Random queries, keys and values, g, the tables of a random layer, the rows of pairs, and what dropout keeps."""
    config = ModelConfig(width=H * D, heads=H, **({"num_buckets": 6, "max_distance": 12} | KINDS[kind]), dropout=0.5)
    layer = DisentangledAttention(config, rng=np.random.default_rng(0))
    if config.position_terms:
        layer.position_table[...] = layer.position_table[...] * 50
    tables, rows = layer.tables(time)
    rng = np.random.default_rng(time)
    qkv, g = (jnp.asarray(rng.standard_normal((B, time, *shape, H, D)), dtype) for shape in ((3,), ()))
    noise = Noise(row_keys(jnp.zeros(2, jnp.uint32), jnp.arange(B, dtype=jnp.uint32)))
    dropped = noise.keep((H, time, time), rate) if rate else None
    return (qkv, jax.tree.map(lambda table: table.astype(dtype), tables)), g, rows, dropped


def with_gradients(function, arguments, g, dropped):
    """The result, and the gradients of every argument."""
    y, back = jax.vjp(lambda *each: function(*each, dropped), *arguments)
    return y, back(g)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("time", "rate"), [(8, 0.0), (9, 0.5), (5, 0.3), (1, 0.0)])
@pytest.mark.slow
def test_values_and_gradients(kind, time, rate):
    arguments, g, rows, dropped = case(kind, time, rate)
    ours = with_gradients(functools.partial(attend, rows), arguments, g, dropped)
    plain = with_gradients(functools.partial(attend_by_pairs, rows, None), arguments, g, dropped)
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_half_precision_is_near_float32():
    (arguments, g, rows, dropped), (half, half_g, _, _) = case("both", 9, 0.5), case("both", 9, 0.5, jnp.bfloat16)
    want = with_gradients(functools.partial(attend, rows), arguments, g, dropped)
    got = with_gradients(functools.partial(attend, rows), half, half_g, dropped)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(ours.astype(np.float32), theirs, atol=0.03 * np.abs(theirs).max())


def test_rows_of_pairs_are_equal_by_content():
    rows = np.arange(6).reshape(2, 3)
    assert PairRows(rows) == PairRows(rows.copy()) and hash(PairRows(rows)) == hash(PairRows(rows.copy()))
    assert PairRows(rows) != PairRows(rows + 1) and PairRows(rows) != PairRows(rows.T)


def test_programs_for_accelerators_hold_nothing_of_every_pair_and_head_width():
    """Lowered for cuda and tpu, the layer has no array [H, T, S, D]; for a CPU it has."""
    config = ModelConfig(width=H * D, heads=H, num_buckets=6, max_distance=12, dropout=0.0)
    layer = DisentangledAttention(config, rng=np.random.default_rng(0))
    x = jnp.zeros((B, 7, H * D))
    for platform, there in (("cuda", False), ("tpu", False), ("cpu", True)):
        text = jax.export.export(jax.jit(layer), platforms=[platform])(x).mlir_module()
        assert (f"tensor<{H}x7x7x{D}xf32>" in text) == there, platform
