"""The normalisation of shards is that of the model."""

import numpy as np
import pytest
from helpers.shards import NORMS, normalised

from demega_jax.signal import normalize, normalize_numpy


@pytest.mark.parametrize("how", NORMS)
@pytest.mark.parametrize("time_points", [2, 9, 10, 125])
def test_numpy_normalises_as_the_model_does(how, time_points):
    x = np.random.default_rng(0).standard_normal((6, 4, time_points)).astype(np.float32) * 5 + 1
    x[0, 1] = 3.0  # a sensor that stands still
    ours, model = normalize_numpy.normalize_rows(x, how), np.asarray(normalize.normalize(x, how))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[1:], model[1:], rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(ours[0], model[0], rtol=3e-5, atol=3e-4)  # the mean's rounding over a deviation of 0
    np.testing.assert_allclose(ours[1:], normalised(x.astype(np.float64), how)[1:], rtol=3e-5, atol=3e-5)


def test_the_epsilons_are_those_of_the_model():
    assert normalize_numpy.IQR_EPSILON == normalize.IQR_EPSILON
    assert normalize_numpy.VARIANCE_EPSILON == normalize.VARIANCE_EPSILON
