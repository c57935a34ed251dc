"""Layers: what their programs hold on each kind of device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from demega_jax.model.layers import affine, beside, linear


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 0), ("cuda", 1), ("tpu", 0)])
def test_a_bias_is_apart_from_its_product_on_a_gpu_alone(platform, barriers):
    """A TPU's compiler adds it within the product; apart from it, the product would be an array more."""
    layer = linear(3, 2, dtype=jnp.dtype("float32"), rng=np.random.default_rng(0))
    lowered = jax.jit(lambda x: affine(layer, x)).trace(jnp.ones((4, 3))).lower(lowering_platforms=(platform,))
    assert lowered.as_text().count("optimization_barrier") == barriers


def test_layers_beside_each_other_are_each_by_itself():
    """Widths whose sum is no multiple of eight: values, and gradients of the input and of every layer."""
    rng = np.random.default_rng(0)
    layers = [linear(5, width, dtype=jnp.float32, rng=rng) for width in (14, 3, 8)]
    x = jnp.asarray(rng.standard_normal((4, 5)), jnp.float32)
    weights = [jnp.asarray(rng.standard_normal((4, width)), jnp.float32) for width in (14, 3, 8)]

    def of_all(x, layers):
        return sum(jnp.sum(w * y) for w, y in zip(weights, beside(x, layers), strict=True))

    def of_each(x, layers):
        return sum(jnp.sum(w * layer(x)) for w, layer in zip(weights, layers, strict=True))

    ours, theirs = (nnx.value_and_grad(of, argnums=(0, 1))(x, layers) for of in (of_all, of_each))
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
