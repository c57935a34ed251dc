"""Stackers: folds that never leak, learning where there is something to learn, and scikit-learn's optimum."""

import operator

import jax
import numpy as np
import pytest
from helpers.errors import refused
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from demega_jax.config import StackConfig
from demega_jax.evaluation.stack import crossfit
from demega_jax.evaluation.stack.crossfit import Features, cross_fit, fit_out_of_fold, side_by_side
from demega_jax.evaluation.stack.folds import inner_split, row_folds, run_folds
from demega_jax.evaluation.stack.linear import LinearStacker, fit_linear, train_linear
from demega_jax.evaluation.stack.mlp import MLPStackers, train_mlp
from demega_jax.metrics import macro_f1

pytestmark = pytest.mark.slow(seconds=2)

V, N = 4, 600
CONFIG = StackConfig(width=16, epochs=40, seeds=3, best=2, batch_size=64, learning_rate=1e-2)


def features(seed: int = 0, skill=(1.8, 2.0, 0.0), scale=(1.0, 0.1, 3.0)) -> Features:
    """Logits of three base models of different skill and scale: a plain mean of them is poor."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, V, N).astype(np.int32)
    logits = rng.standard_normal((3, N, V)) + np.array(skill)[:, None, None] * np.eye(V)[labels]
    x = side_by_side((np.array(scale)[:, None, None] * logits).astype(np.float32))
    return Features(x, labels, V)


def score(found: Features, p) -> float:
    return macro_f1(found.labels, np.asarray(p).argmax(axis=-1))


def test_logits_stand_side_by_side():
    logits = np.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_array_equal(side_by_side(logits), [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]])


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_a_stacker_is_better_than_base_models_and_their_mean(kind):
    learn, choose, test = (features(seed) for seed in range(3))
    fitted = fit_out_of_fold(kind, learn, choose, CONFIG)
    stacked = score(test, fitted.predict(test.x))
    bases = [score(test, test.x[:, V * i : V * (i + 1)]) for i in range(3)]
    mean = score(test, test.x.reshape(N, 3, V).mean(axis=1))
    assert stacked > max(*bases, mean) + 0.02


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_held_out_predictions_never_saw_their_row(kind, monkeypatch):
    """What is learnt in a fold comes from other rows; and labels that mean nothing are at chance when held out."""
    seen = []
    train = crossfit._train

    def spy(kind, found, learn, choose, config):
        seen.append(set(learn) | set(choose))
        assert not set(learn) & set(choose)
        return train(kind, found, learn, choose, config)

    monkeypatch.setattr(crossfit, "_train", spy)
    found = features()
    noise = Features(np.random.default_rng(5).standard_normal((N, 40)).astype(np.float32), found.labels, V)
    fitted = cross_fit(kind, noise, CONFIG, lambda text: None)
    assert len(seen) == CONFIG.folds
    fold_of = row_folds(noise.labels, CONFIG.folds, CONFIG.seed)
    for fold, rows in enumerate(seen):
        assert rows == set(np.flatnonzero(fold_of != fold))
    assert score(noise, fitted.held_out) < 1 / V + 0.07
    if kind == "mlp":  # it learnt the rows themselves by heart; the penalty of the linear one prevents that
        assert score(noise, fitted.predict(noise.x)) > 1 / V + 0.15


def test_folds_of_rows_have_every_class_in_equal_parts():
    labels = np.repeat([0, 1, 2], [100, 7, 2])
    fold_of = row_folds(labels, 5, seed=1)
    for label, count in ((0, 100), (1, 7), (2, 2)):
        sizes = np.bincount(fold_of[labels == label], minlength=5)
        assert sizes.sum() == count and sizes.max() - sizes.min() <= 1
    sizes = np.bincount(fold_of)
    assert sizes.max() - sizes.min() <= 1
    assert (row_folds(labels, 5, seed=2) != fold_of).any() and (row_folds(labels, 5, seed=1) == fold_of).all()
    learn, choose = inner_split(labels, np.arange(50), 5, 0)
    assert sorted([*learn, *choose]) == list(range(50)) and len(choose) == 10


def test_too_few_rows_are_refused():
    with refused("3 rows", "10"):
        cross_fit("linear", Features(np.zeros((3, 4)), np.zeros(3, np.int32), V), CONFIG, print)


def test_linear_stacker_is_the_optimum_that_scikit_learn_finds():
    found, penalty = features(), 0.01
    ours = fit_linear(found.x, found.labels, V, penalty)
    standard = (found.x - found.x.mean(0)) / found.x.std(0)
    # scikit-learn minimises the sum of losses + |w|^2 / (2 C)
    theirs = LogisticRegression(C=1 / (2 * penalty * N), max_iter=2000, tol=1e-8).fit(standard, found.labels)
    np.testing.assert_allclose(ours.predict(found.x), theirs.predict_proba(standard), atol=2e-3)


def test_the_penalty_is_that_of_the_least_held_out_loss():
    found = features()
    learn, choose = np.arange(60), np.arange(60, N)
    chosen = train_linear(found.x, found.labels, learn, choose, V)
    losses = {
        penalty: log_loss(
            found.labels[choose], fit_linear(found.x[learn], found.labels[learn], V, penalty).predict(found.x[choose])
        )
        for penalty in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    }
    assert chosen.penalty == min(losses, key=losses.get)


def test_the_best_seeds_are_kept_at_their_best_epoch():
    found = features()
    learn, choose = np.arange(400), np.arange(400, N)
    stackers = train_mlp(found.x, found.labels, learn, choose, V, CONFIG)
    assert len(stackers.held_out) == 2 and list(stackers.held_out) == sorted(stackers.held_out, reverse=True)
    for number, told in enumerate(stackers.held_out):
        params, statistics = jax.tree.map(
            operator.itemgetter(np.array([number])), (stackers.params, stackers.statistics)
        )
        one = MLPStackers(stackers.graphdef, params, statistics, ())
        assert macro_f1(found.labels[choose], one.predict(found.x[choose]).argmax(1)) == pytest.approx(told, abs=0.01)
    again = train_mlp(found.x, found.labels, learn, choose, V, CONFIG)
    np.testing.assert_array_equal(stackers.predict(found.x), again.predict(found.x))


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_stackers_are_the_same_after_their_arrays(kind):
    found = features()
    rows = np.arange(N)
    if kind == "mlp":
        one = train_mlp(found.x, found.labels, rows, rows, V, CONFIG.model_copy(update={"epochs": 2}))
        again = MLPStackers.of(one.arrays(), CONFIG, 3, V)
    else:
        one = fit_linear(found.x, found.labels, V, 0.1)
        again = LinearStacker.of(one.arrays())
    np.testing.assert_array_equal(one.predict(found.x), again.predict(found.x))


class Run:
    def __init__(self, name: str, samples: int):
        self.name, self.samples = name, samples


def test_folds_of_recordings_share_out_the_time():
    runs = [Run(str(i), samples) for i, samples in enumerate((50, 40, 30, 20, 10))]
    splits = {"train": runs, "validation": [Run("v", 9)], "test": [Run("t", 9)]}
    folds = run_folds(splits, 2)
    assert sorted(run.name for fold in folds for run in fold["test"]) == list("01234")
    assert sorted(sum(run.samples for run in fold["test"]) for fold in folds) == [70, 80]
    for fold in folds:
        assert {run.name for run in fold["train"]} | {run.name for run in fold["test"]} == set("01234")
        assert not {run.name for run in fold["train"]} & {run.name for run in fold["test"]}
        assert [run.name for run in fold["validation"]] == ["v"]
    with refused("stack.folds", "5 session runs", "6 folds"):
        run_folds(splits, 6)
