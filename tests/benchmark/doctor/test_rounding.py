"""The rounding of benchmarks/self_test_rounding.py, from which the tolerances of the self-test come."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("rounding", ROOT / "benchmarks" / "self_test_rounding.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_are_rounded_to_the_nearest(script):
    """bfloat16 has 8 significant bits. TF32 has 11: against numpy's rounding of the significand, ties to even."""
    x = np.random.default_rng(0).normal(size=500).astype(np.float32)
    np.testing.assert_array_equal(script.rounded(x, 8), jnp.asarray(x).astype(jnp.bfloat16).astype(np.float32))
    significand, exponent = np.frexp(x.astype(np.float64))
    np.testing.assert_array_equal(script.rounded(x, 11), np.ldexp(np.round(significand * 2**11), exponent - 11))


def test_three_parts_are_the_number(script):
    """3 x 8 bits are the 24 of float32, so six products of parts leave out 2^-24 and less."""
    a, b = np.random.default_rng(1).normal(size=(2, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(sum(np.float64(part) for part in script.parts(jnp.asarray(a), 3)), np.float64(a))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    for passes, most in ((1, 2e-2), (3, 1e-4), (6, 2e-6)):
        off = np.abs(script.bfloat16(passes, jnp.matmul, jnp.asarray(a), jnp.asarray(b)) - exact).max()
        assert most / 100 < off < most, passes
