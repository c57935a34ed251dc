"""Ways to combine models, against arithmetic by hand and scikit-learn."""

import numpy as np
import pytest
from helpers.errors import refused
from scipy.optimize import minimize
from sklearn.ensemble import VotingClassifier
from sklearn.metrics import f1_score

from demega_jax.evaluation.ensemble import check_same, combine, disagreement, fit_weights
from demega_jax.evaluation.predict import Predictions, joined

M, N, V = 5, 200, 4


def predictions(seed: int = 0, skill=(2.0, 1.0, 0.5, 0.0, 3.0)) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, V, N).astype(np.int32)
    logits = rng.standard_normal((M, N, V)) + np.array(skill)[:, None, None] * np.eye(V)[labels]
    names = tuple(f"model {number}" for number in range(M))
    return Predictions(names, tuple("abcd"), labels, logits.astype(np.float32))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_mean_of_probabilities_and_of_logits():
    found = predictions()
    np.testing.assert_allclose(combine(found, "mean"), softmax(found.logits).mean(0), rtol=1e-5)
    np.testing.assert_allclose(combine(found, "logits"), softmax(found.logits.mean(0)), rtol=1e-5)


def test_vote_is_the_most_frequent_class():
    found = predictions()
    votes = np.stack([np.bincount(row, minlength=V) for row in found.logits.argmax(-1).T])
    p = combine(found, "vote")
    clear = np.sort(votes, axis=1)[:, -1] > np.sort(votes, axis=1)[:, -2]
    assert 50 < clear.sum() < N
    assert (p.argmax(1)[clear] == votes.argmax(1)[clear]).all()
    mean = softmax(found.logits).mean(0)
    tied = np.where(votes == votes.max(1, keepdims=True), mean, -1).argmax(1)
    assert (p.argmax(1) == tied).all()  # of equal numbers of votes, the larger mean probability


@pytest.mark.parametrize("method", ["mean", "logits", "vote"])
def test_probabilities_sum_to_one(method):
    p = combine(predictions(), method)
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)


def test_soft_vote_equals_scikit_learn():
    """VotingClassifier(voting="soft") averages what its classifiers predict."""
    found = predictions()

    class Fixed:
        def __init__(self, p):
            self.p = p

        def predict_proba(self, x):
            return self.p

    voting = VotingClassifier([(name, None) for name in found.names], voting="soft")
    voting.estimators_ = [Fixed(p) for p in found.plain]
    np.testing.assert_allclose(combine(found, "mean"), voting._collect_probas(None).mean(0), rtol=1e-6)


def test_weights_have_the_highest_likelihood():
    """The same optimum as a general optimiser finds on the simplex."""
    found = predictions()
    weights = fit_weights(found.plain, found.labels)
    of_label = found.plain[:, np.arange(N), found.labels].astype(np.float64)
    share = 1 / np.bincount(found.labels)[found.labels] / V

    def loss(free):
        return -(share * np.log(softmax(free) @ of_label)).sum()

    best = minimize(loss, np.zeros(M), method="BFGS")
    assert loss(np.log(np.maximum(weights, 1e-12))) <= best.fun + 1e-6
    assert weights.argmax() == 4 and weights.sum() == pytest.approx(1) and weights.min() >= 0
    np.testing.assert_allclose(combine(found, "weighted", weights), np.tensordot(weights, found.plain, 1), rtol=1e-5)


def test_disagreement_by_hand():
    eye = np.eye(3, dtype=np.float32) * 9
    logits = np.stack([eye[[0, 1, 2, 0]], eye[[0, 1, 2, 1]], eye[[0, 2, 2, 2]]])
    found = Predictions(("a", "b", "c"), tuple("xyz"), np.array([0, 1, 0, 2], np.int32), logits)
    differ = disagreement(found)
    assert differ.pairs == pytest.approx((1 + 2 + 2) / 12)  # rows in which a-b, a-c and b-c differ
    assert differ.unanimous == pytest.approx(2 / 4)
    assert differ.oracle == pytest.approx(3 / 4)


def test_an_ensemble_of_noisy_models_is_better_than_each():
    found = predictions(skill=(1.5,) * M)

    def score(p):
        return f1_score(found.labels, p.argmax(1), average="macro")

    assert score(combine(found, "mean")) > max(score(p) for p in found.plain) + 0.05


def test_batches_joined_are_the_whole():
    whole = predictions()
    parts = [
        Predictions(whole.names, whole.classes, whole.labels[some], whole.logits[:, some])
        for some in (slice(0, 7), slice(7, 190), slice(190, N))
    ]
    again = joined(parts)
    np.testing.assert_array_equal(again.logits, whole.logits)
    np.testing.assert_array_equal(again.labels, whole.labels)


def test_models_that_do_not_fit_together():
    model = ("a", ("x", "y"), (5, 9))
    check_same([model, ("b", ("x", "y"), (5, 9)), ("c", ("x", "y"), (5, None))])
    with refused("b", "y"):
        check_same([model, ("b", ("x", "z"), (5, 9))])
    with refused("another order"):
        check_same([model, ("b", ("y", "x"), (5, 9))])
    with refused("5 x 8"):
        check_same([model, ("b", ("x", "y"), (5, 8))])
    with refused("6 x 9"):
        check_same([model, ("b", ("x", "y"), (6, 9))])
