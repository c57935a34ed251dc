"""Gradients of the objective at the edges of what a batch can be, by differences of float64 formulas in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demega_jax.config import LossConfig
from demega_jax.losses.objective import objective
from demega_jax.model.demega import Outputs

CLASSES, FEATURES, WIDTH = 5, 4, 3
TABLE = np.random.default_rng(1).integers(0, 2, (CLASSES, FEATURES)).astype(np.float64)
CONFIG = LossConfig(
    class_loss="balanced_focal",
    focal_gamma=2.0,
    label_smoothing=0.1,
    contrastive_weight=0.5,
    contrastive_temperature=0.5,
    ipa_weight=0.2,
)
# name: labels, which rows are valid, and whether some row has a positive
BATCHES = {
    "one class": ([2, 2, 2, 2], [1, 1, 1, 1], True),
    "no positive pairs": ([0, 1, 2, 3], [1, 1, 1, 1], False),
    "a single row": ([3], [1], False),
    "a single valid row": ([3, 3, 1], [0, 1, 0], False),
    "nothing valid": ([3, 3], [0, 0], False),
}


def by_formula(arrays: list[np.ndarray], label: np.ndarray, valid: np.ndarray) -> float:
    """The objective in float64, row by row."""
    logits, ipa, projection = (array[valid] for array in arrays)
    label, s, gamma = label[valid], CONFIG.label_smoothing, CONFIG.focal_gamma
    if not len(label):
        return 0.0
    log_p = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    wanted = np.full_like(log_p, s / (CLASSES - 1))
    wanted[np.arange(len(label)), label] = 1 - s
    focal = -(wanted * np.clip(1 - np.exp(log_p), 1e-8, 1 - 1e-8) ** gamma * log_p).sum(1)
    cross = -(1 - s) * log_p[np.arange(len(label)), label] - s * log_p.mean(1)
    classes = np.mean([focal[label == c].mean() for c in np.unique(label)])
    features = TABLE[label]
    bce = np.mean(np.logaddexp(0, ipa) - features * ipa)
    contrastive = []
    for i in range(len(label)):
        others = [j for j in range(len(label)) if j != i]
        positives = [j for j in others if label[j] == label[i]]
        if positives:
            scores = {j: projection[i] @ projection[j] / CONFIG.contrastive_temperature for j in others}
            most = max(scores.values())
            top = sum(np.exp(scores[j] - most) for j in positives)
            contrastive.append(np.log(sum(np.exp(v - most) for v in scores.values()) + 1e-8) - np.log(top + 1e-8))
    mean = np.mean(contrastive) if contrastive else 0.0
    return 0.8 * classes + 0.2 * cross.mean() + CONFIG.contrastive_weight * mean + CONFIG.ipa_weight * bce


def differences(arrays: list[np.ndarray], label: np.ndarray, valid: np.ndarray) -> list[np.ndarray]:
    """Central differences of the formula for each number of each array."""
    step, found = 1e-6, []
    for which, array in enumerate(arrays):
        slope = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[which][place] += sign * step
                ends.append(by_formula(moved, label, valid))
            slope[place] = (ends[0] - ends[1]) / (2 * step)
        found.append(slope)
    return found


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_value_and_gradient(name, scale):
    """scale: of the logits; at 30 most rows are as good as certain."""
    labels, kept, positives = BATCHES[name]
    label, valid = np.array(labels), np.array(kept, bool)
    rng = np.random.default_rng(len(name))
    arrays = [scale * rng.normal(size=(len(label), CLASSES)), rng.normal(size=(len(label), FEATURES))]
    arrays.append(rng.normal(size=(len(label), WIDTH)))
    arrays = [array.astype(np.float32).astype(np.float64) for array in arrays]

    def losses(given):
        outputs = Outputs(*given, jnp.zeros((len(label), 1)), jnp.zeros((len(label), 1, 1)))
        table = jnp.asarray(TABLE, jnp.float32)
        found = objective(outputs, jnp.asarray(label), jnp.asarray(valid), CONFIG, table=table, weights=None)
        return found.loss, found.contrastive_loss

    given = [jnp.asarray(array, jnp.float32) for array in arrays]
    (loss, contrastive), gradients = jax.jit(jax.value_and_grad(losses, has_aux=True))(given)
    np.testing.assert_allclose(loss, by_formula(arrays, label, valid), rtol=1e-5, atol=1e-6)
    assert (contrastive != 0) == (positives and len(set(labels)) > 1)
    for ours, wanted in zip(gradients, differences(arrays, label, valid), strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=2e-6)
