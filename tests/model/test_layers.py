"""Layers: what their programs hold on each kind of device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demega_jax.model.layers import affine, linear


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 0), ("cuda", 1), ("tpu", 0)])
def test_a_bias_is_apart_from_its_product_on_a_gpu_alone(platform, barriers):
    """A TPU's compiler adds it within the product; apart from it, the product would be an array more."""
    layer = linear(3, 2, dtype=jnp.dtype("float32"), rng=np.random.default_rng(0))
    lowered = jax.jit(lambda x: affine(layer, x)).trace(jnp.ones((4, 3))).lower(lowering_platforms=(platform,))
    assert lowered.as_text().count("optimization_barrier") == barriers
