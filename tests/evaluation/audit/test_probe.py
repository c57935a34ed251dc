"""The probe, against scikit-learn and scipy."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf_shrinkage

from demega_jax.evaluation.audit.probe import Probe, shrinkage


def data(rows: int, width: int, classes: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    centres = np.random.default_rng(99).standard_normal((classes, width))
    mixing = np.random.default_rng(98).standard_normal((width, width))
    return centres[labels] + rng.standard_normal((rows, width)) @ mixing * 0.7 + 5, labels


@pytest.mark.parametrize(("rows", "width"), [(200, 5), (40, 60)])
def test_shrinkage_equals_scikit_learn(rows, width):
    x, _ = data(rows, width)
    x = x - x.mean(axis=0)
    assert shrinkage(x) == pytest.approx(ledoit_wolf_shrinkage(x, assume_centered=True), rel=1e-9)


@pytest.mark.parametrize(("rows", "width"), [(200, 5), (40, 60)])
def test_classes_are_those_of_the_most_likely_gaussian(rows, width):
    """With equal priors and the same shrunk covariance, by scipy's densities."""
    x, labels = data(rows, width)
    asked, _ = data(100, width, seed=1)
    means = np.stack([x[labels == c].mean(axis=0) for c in range(4)])
    inner = x - means[labels]
    scale = inner.std(axis=0)
    inner, shrink = inner / scale, ledoit_wolf_shrinkage(inner / scale, assume_centered=True)
    covariance = (1 - shrink) * inner.T @ inner / rows + shrink * np.eye(width)
    density = [multivariate_normal(mean / scale, covariance).logpdf(asked / scale) for mean in means]
    np.testing.assert_array_equal(Probe.fit(x, labels).predict(asked), np.argmax(density, axis=0))


def test_features_that_do_not_vary_and_classes_that_are_absent():
    x = np.stack([np.repeat([0.0, 1.0], 10), np.full(20, 3.0)], axis=1)
    labels = np.repeat([5, 2], 10)
    np.testing.assert_array_equal(Probe.fit(x, labels).predict(x), labels)
    constant = Probe.fit(np.full((20, 2), 3.0), labels)
    assert set(constant.predict(np.full((3, 2), 3.0))) <= {2, 5}
