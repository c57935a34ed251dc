"""Losses against the original's numbers, numpy written out by hand, and their own masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demega_jax.config import LossConfig
from demega_jax.losses.contrastive import supervised_nt_xent
from demega_jax.losses.focal import (
    class_loss,
    class_sums,
    class_weights,
    mean_over_present_classes,
    present_class_focal,
)
from demega_jax.losses.objective import objective
from demega_jax.losses.reduce import Rows
from demega_jax.model.demega import Outputs

TOLERANCE = dict(rtol=2e-5, atol=2e-6)
KEYS = ["loss", "class_loss", "contrastive_loss", "ipa_loss"]


@pytest.fixture
def numbers(golden):
    return golden("losses")


@pytest.mark.parametrize("smoothing", [0.0, 0.12])
@pytest.mark.parametrize("alpha", ["none", "vec"])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_present_class_focal(numbers, smoothing, alpha, gamma):
    label = jnp.asarray(numbers["labels"])
    weights = jnp.asarray(numbers["alpha"]) if alpha == "vec" else None
    log_p = jax.nn.log_softmax(jnp.asarray(numbers["logits"]))
    rows = present_class_focal(log_p, jax.nn.one_hot(label, 39), gamma=gamma, smoothing=smoothing, weights=weights)
    there = Rows.of(label, jnp.ones(len(label), bool), 39)
    ours = mean_over_present_classes(class_sums(rows, label, there.valid, 39), there.counts)
    expected = numbers[f"focal_present/smoothing={smoothing}/alpha={alpha}/gamma={gamma}"]
    np.testing.assert_allclose(ours, expected, **TOLERANCE)


@pytest.mark.parametrize("temperature", [0.03, 0.1, 0.5])
def test_supervised_nt_xent(numbers, temperature):
    label = jnp.asarray(numbers["labels"])
    rows = Rows.of(label, jnp.ones(len(label), bool), 39)
    ours = supervised_nt_xent(jnp.asarray(numbers["embeddings"]), rows, temperature=temperature)
    np.testing.assert_allclose(ours, numbers[f"supcon/temperature={temperature}"], **TOLERANCE)


def test_no_positives_is_zero_with_zero_gradient(numbers):
    u = jnp.asarray(numbers["embeddings"])
    rows = Rows.of(jnp.arange(len(u)), jnp.ones(len(u), bool), len(u))
    value, gradient = jax.value_and_grad(supervised_nt_xent)(u, rows)
    assert value == numbers["supcon/no_positives"] == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(u))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 50.0])
def test_temperature_weights(numbers, temperature):
    ours = class_weights(numbers["class_weights/counts"], "temperature", temperature=temperature)
    np.testing.assert_allclose(ours, numbers[f"class_weights/temperature={temperature}"], rtol=1e-12)


def test_other_weights_by_hand():
    counts = np.array([1, 4, 16])
    np.testing.assert_allclose(class_weights(counts, "inverse"), np.array([16, 4, 1]) / 7)
    np.testing.assert_allclose(class_weights(counts, "inverse_sqrt"), np.array([4, 2, 1]) * 3 / 7)
    effective = np.array([1 / (1 - 0.5), 1 / (1 - 0.5**4), 1 / (1 - 0.5**16)])
    np.testing.assert_allclose(class_weights(counts, "effective", beta=0.5), effective / effective.mean())
    assert class_weights(counts, "none") is None
    assert np.isfinite(class_weights(np.array([0, 3]), "inverse")).all()


@pytest.mark.parametrize("kind", ["balanced_focal", "focal", "cross_entropy"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.12])
def test_objective(numbers, kind, weighted, smoothing):
    label = jnp.asarray(numbers["labels"])
    outputs = Outputs(
        logits=jnp.asarray(numbers["logits"]),
        ipa_logits=jnp.asarray(numbers["ipa_logits"]),
        projection=jnp.asarray(numbers["embeddings"]),
        embedding=jnp.zeros((24, 1)),
        features=jnp.zeros((24, 1, 1)),
    )
    weights = jnp.asarray(class_weights(numbers["class_weights/counts"], "temperature"), jnp.float32)
    losses = objective(
        outputs,
        label,
        jnp.ones(24, bool),
        LossConfig(class_loss=kind, label_smoothing=smoothing),
        table=jnp.asarray(numbers["ipa_matrix"]),
        weights=weights if weighted else None,
    )
    name = f"total/{kind}/class_weights={weighted}/smoothing={smoothing}"
    np.testing.assert_allclose(losses.loss, numbers[name], **TOLERANCE)
    for ours, theirs in zip(KEYS, ["total_loss", "cls_loss", "contrastive_loss", "ipa_loss"], strict=True):
        np.testing.assert_allclose(getattr(losses, ours), numbers[f"{name}/{theirs}"], **TOLERANCE, err_msg=ours)


@pytest.mark.parametrize("kind", ["balanced_focal", "focal", "cross_entropy"])
@pytest.mark.slow
def test_padded_rows_count_nowhere(numbers, kind):
    """24 rows, and the same 24 with 8 rows of nonsense marked as padding: same losses, no gradient to padding."""
    label = jnp.asarray(numbers["labels"])
    more = jnp.concatenate([label, label[:8]])
    valid = jnp.arange(32) < 24
    config = LossConfig(class_loss=kind)
    table = jnp.asarray(numbers["ipa_matrix"])

    def losses(arrays, label, valid):
        logits, ipa, projection = arrays
        outputs = Outputs(logits, ipa, projection, jnp.zeros((len(label), 1)), jnp.zeros((len(label), 1, 1)))
        return objective(outputs, label, valid, config, table=table, weights=None).loss

    real = [jnp.asarray(numbers[k]) for k in ("logits", "ipa_logits", "embeddings")]
    padded = [jnp.concatenate([a, 3 * a[:8]]) for a in real]
    want, want_gradient = jax.value_and_grad(losses)(real, label, jnp.ones(24, bool))
    got, got_gradient = jax.value_and_grad(losses)(padded, more, valid)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    for ours, expected in zip(got_gradient, want_gradient, strict=True):
        np.testing.assert_allclose(ours[:24], expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(ours[24:], 0)


def test_a_batch_of_padding_alone_is_zero_and_finite():
    logits = jnp.ones((4, 5))
    rows = Rows.of(jnp.zeros(4, int), jnp.zeros(4, bool), 5)
    value, gradient = jax.value_and_grad(class_loss)(logits, rows, LossConfig())
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_of_a_certain_row_has_a_finite_gradient(gamma):
    """p = 1 in float32: (1 - p)^gamma has an infinite slope at gamma < 1 unless it is clipped."""
    logits = jnp.array([[200.0, 0.0, 0.0]])
    for kind in ("focal", "balanced_focal"):
        config = LossConfig(class_loss=kind, focal_gamma=gamma)
        gradient = jax.grad(class_loss)(logits, Rows.of(jnp.array([0]), jnp.array([True]), 3), config)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ["balanced_focal", "focal", "cross_entropy"])
def test_soft_rows_count_in_the_class_loss_alone(numbers, kind):
    """Six rows with probabilities as their target: the class loss by numpy, the other losses of the other rows."""
    label, table = jnp.asarray(numbers["labels"]), jnp.asarray(numbers["ipa_matrix"])
    arrays = [jnp.asarray(numbers[k]) for k in ("logits", "ipa_logits", "embeddings")]
    target = np.eye(39)[numbers["labels"]]
    target[:6] = np.random.default_rng(0).dirichlet(np.ones(39), 6)
    soft = np.where(np.arange(24)[:, None] < 6, target, 0).astype(np.float32)
    config = LossConfig(class_loss=kind, label_smoothing=0.0, focal_gamma=2.0)

    def losses(rows, soft=None):
        some = [a[rows] for a in arrays]
        outputs = Outputs(*some, jnp.zeros((len(rows), 1)), jnp.zeros((len(rows), 1, 1)))
        valid = jnp.ones(len(rows), bool)
        return objective(outputs, label[rows], valid, config, table=table, weights=None, soft=soft)

    found, others = losses(np.arange(24), jnp.asarray(soft)), losses(np.arange(6, 24))
    log_p = np.asarray(jax.nn.log_softmax(arrays[0]), np.float64)
    focus = 1 if kind == "cross_entropy" else (1 - np.exp(log_p)) ** 2
    rows = -(target * focus * log_p).sum(axis=1)
    classes = [rows[numbers["labels"] == c].mean() for c in np.unique(numbers["labels"])]
    np.testing.assert_allclose(found.class_loss, np.mean(classes if kind == "balanced_focal" else rows), rtol=1e-5)
    for name in ("contrastive_loss", "ipa_loss"):
        np.testing.assert_allclose(getattr(found, name), getattr(others, name), rtol=1e-6)
