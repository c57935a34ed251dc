"""Intervals against drawing the rows themselves, and against scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from demega_jax.evaluation.report.intervals import score_intervals, wilson
from demega_jax.evaluation.statistics import bootstrap_macro_f1


@pytest.mark.slow
def test_intervals_are_those_of_rows_drawn_with_replacement():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    said = np.where(rng.random(300) < 0.6, label, rng.integers(0, 3, 300))
    counts = confusion_matrix(label, said)
    found = score_intervals(counts)
    drawn = [rng.integers(0, 300, 300) for _ in range(1000)]
    for score, interval in (
        (accuracy_score, found.accuracy),
        (balanced_accuracy_score, found.balanced_accuracy),
        (lambda y, p: f1_score(y, p, average="macro"), found.macro_f1),
        (lambda y, p: f1_score(y, p, average=None)[1], found.f1[1]),
    ):
        want = np.quantile([score(label[rows], said[rows]) for rows in drawn], [0.025, 0.975])
        got = interval if isinstance(interval, np.ndarray) else (interval.low, interval.high)
        np.testing.assert_allclose(got, want, atol=0.015)
    assert found.macro_f1 == bootstrap_macro_f1(counts)


def test_a_class_of_one_row_counts_only_where_it_was_drawn():
    """It is drawn in 1 - 1/e of the samples; there its F1 is 1."""
    found = score_intervals(np.diag([50, 1, 0]))
    np.testing.assert_array_equal(found.f1, [[1, 1], [1, 1], [0, 0]])


def test_the_interval_at_10_is_that_of_balanced_accuracy_where_as_many_rows_are_right():
    """Oracle: the interval of balanced accuracy, which is drawn from the whole confusion matrix."""
    counts = np.array([[60, 20, 20], [10, 70, 20], [5, 5, 40]])
    found = score_intervals(counts, np.diagonal(counts))
    one, other = found.balanced_accuracy, found.balanced_accuracy_at_10
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.01)
    assert score_intervals(counts).balanced_accuracy_at_10 is None


def test_wilson_is_that_of_scipy():
    right, rows = np.array([0, 3, 10, 7]), np.array([0, 10, 10, 300])
    got = wilson(right, rows)
    assert got[0].tolist() == [0, 1]
    for k, n, interval in list(zip(right, rows, got, strict=True))[1:]:
        want = binomtest(int(k), int(n)).proportion_ci(0.95, method="wilson")
        assert interval == pytest.approx((want.low, want.high), abs=1e-6)
