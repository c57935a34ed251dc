"""Comparisons over seeds, against the tables of the tests and permutations by hand."""

import itertools

import numpy as np
import pytest

from demega_jax.evaluation.compare import SeedScore, Side, compare_seeds
from demega_jax.evaluation.ensemble_report import Score
from demega_jax.evaluation.statistics import Interval


def side(scores: dict[int, float]) -> Side:
    """A side of models with these seeds."""
    whole = [Score(value, Interval(0, 1)) for value in scores.values()]
    return Side(tuple(SeedScore(f"run/{s}", s, score) for s, score in zip(scores, whole, strict=True)), whole[0])


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided: the share of all choices of signs whose sum of positive ranks is as far from the middle."""
    ranks = np.abs(differences).argsort().argsort() + 1
    middle = ranks.sum() / 2
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product([0, 1], repeat=len(ranks))]
    found = ranks[differences > 0].sum()
    return float(np.mean([abs(value - middle) >= abs(found - middle) for value in sums]))


def rank_sum_p(one: list[float], other: list[float]) -> float:
    """Two-sided: the share of all choices of ranks whose sum is as far from the middle."""
    ranks = np.argsort(np.argsort([*one, *other])) + 1
    middle = len(one) * (len(ranks) + 1) / 2
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, len(one))]
    found = ranks[: len(one)].sum()
    return float(np.mean([abs(value - middle) >= abs(found - middle) for value in sums]))


def test_the_same_seeds_are_paired():
    a = {4: 0.52, 1: 0.58, 2: 0.50, 3: 0.61, 0: 0.55, 7: 0.43}
    b = {0: 0.50, 1: 0.55, 2: 0.51, 3: 0.51, 4: 0.45, 7: 0.41}
    found = compare_seeds(side(a), side(b))
    differences = np.array([a[seed] - b[seed] for seed in sorted(a)])
    assert found.test == "Wilcoxon signed-rank" and found.sizes == (6, 6)
    assert found.p == pytest.approx(signed_rank_p(differences))
    assert found.difference == pytest.approx(differences.mean())
    assert found.deviation == pytest.approx(differences.std(ddof=1))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({0: 0.52, 1: 0.58, 2: 0.50}, {3: 0.51, 4: 0.45, 5: 0.44, 6: 0.3}),  # other seeds
        ({0: 0.52, 1: 0.58, 2: 0.50}, {0: 0.51, 1: 0.45}),  # fewer of them
    ],
)
def test_other_seeds_are_not_paired(a, b):
    found = compare_seeds(side(a), side(b))
    assert found.test == "Mann-Whitney" and found.sizes == (len(a), len(b)) and found.deviation is None
    assert found.p == pytest.approx(rank_sum_p([*a.values()], [*b.values()]))
    assert found.difference == pytest.approx(np.mean([*a.values()]) - np.mean([*b.values()]))


def test_the_least_p_is_that_of_the_clearest_difference():
    for count in (2, 5, 6):
        a, b = side({s: 1 - 0.01 * s for s in range(count)}), side({s: 0.01 * s * s for s in range(count)})
        found = compare_seeds(a, b)
        assert found.p == pytest.approx(found.least_p) == pytest.approx(2 / 2**count)
        b = side({s + 100: 0.01 * s * s for s in range(count)})
        found = compare_seeds(a, b)
        assert found.p == pytest.approx(found.least_p) == pytest.approx(rank_sum_p(a.scores, b.scores))


def test_equal_scores_show_no_difference():
    same = side({0: 0.5, 1: 0.6, 2: 0.7})
    assert compare_seeds(same, same).p == 1 and compare_seeds(same, same).difference == 0


def test_mean_and_deviation_by_hand():
    found = side({0: 0.5, 1: 0.6, 2: 0.7})
    assert found.mean == pytest.approx(0.6) and found.deviation == pytest.approx(0.1)
    assert side({0: 0.5}).deviation is None
