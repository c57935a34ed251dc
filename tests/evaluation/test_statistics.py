"""Bootstrap intervals and paired comparisons, against resampling rows one by one."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from demega_jax.evaluation.statistics import bootstrap_macro_f1, compare_macro_f1, macro_f1_of
from demega_jax.metrics import confusion_matrix

N, V = 300, 4


def rows(skill: float, seed: int, labels=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, V, N) if labels is None else labels
    return labels, np.where(rng.random(N) < skill, labels, rng.integers(0, V, N))


def f1(labels, predicted) -> float:
    return f1_score(labels, predicted, labels=np.unique(labels), average="macro")


def test_macro_f1_of_many_matrices_at_once():
    pairs = [rows(skill, seed) for seed, skill in enumerate((0.2, 0.5, 0.9))]
    confusion = np.stack([confusion_matrix(labels, predicted, V + 1) for labels, predicted in pairs])
    np.testing.assert_allclose(macro_f1_of(confusion), [f1(*pair) for pair in pairs], rtol=1e-12)


def test_interval_is_that_of_resampled_rows():
    labels, predicted = rows(0.6, 0)
    interval = bootstrap_macro_f1(confusion_matrix(labels, predicted, V))
    rng = np.random.default_rng(1)
    drawn = [f1(labels[some], predicted[some]) for some in rng.integers(0, N, (600, N))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert interval.low == pytest.approx(low, abs=0.012) and interval.high == pytest.approx(high, abs=0.012)
    assert interval.low < f1(labels, predicted) < interval.high


def test_interval_holds_the_truth_as_often_as_it_says():
    """Of 200 samples of a population with a known score, about 95 % have it in their interval."""
    skill, hits = 0.6, 0
    truth = skill + (1 - skill) / V  # balanced classes with symmetric errors: F1 is the accuracy
    for seed in range(200):
        interval = bootstrap_macro_f1(confusion_matrix(*rows(skill, seed), V))
        hits += interval.low <= truth <= interval.high
    assert 0.90 <= hits / 200 <= 0.99


@pytest.mark.slow
def test_paired_difference_is_that_of_resampled_rows():
    labels, one = rows(0.7, 0)
    _, other = rows(0.5, 1, labels)
    found = compare_macro_f1(labels, one, other)
    assert found.difference == pytest.approx(f1(labels, one) - f1(labels, other), abs=1e-12)
    rng = np.random.default_rng(2)
    drawn = [f1(labels[s], one[s]) - f1(labels[s], other[s]) for s in rng.integers(0, N, (600, N))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.interval.low == pytest.approx(low, abs=0.015) and found.interval.high == pytest.approx(high, abs=0.015)
    assert found.p == pytest.approx(2 * np.mean(np.array(drawn) <= 0), abs=0.02)
    assert compare_macro_f1(labels, labels, other).p == 0


def test_equal_classifiers_do_not_differ():
    labels, one = rows(0.6, 0)
    same = compare_macro_f1(labels, one, one)
    assert same.difference == 0 and same.p == 1
    p = []
    for seed in range(100):
        labels, one = rows(0.5, seed)
        _, other = rows(0.5, seed + 1000, labels)
        p.append(compare_macro_f1(labels, one, other).p)
    assert np.mean(np.array(p) < 0.05) < 0.12  # under the null hypothesis, few are found
