"""Scores against scikit-learn, and counts that know nothing of batches, padding or order."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

from demega_jax.evaluation.step import calibration_sums, confusion_counts, right_at_10
from demega_jax.metrics import calibration_of, right_at_10_of, scores

CLASSES = ("aa", "ae", "ah", "ao", "aw", "ay", "b")
V = len(CLASSES)


def drawn(seed, rows=200, labels=range(V)):
    """Logits [rows, V] that are right about half the time, and labels of the given classes only."""
    rng = np.random.default_rng(seed)
    label = rng.choice(list(labels), rows).astype(np.int32)
    logits = rng.normal(size=(rows, V)).astype(np.float32)
    logits[np.arange(rows), label] += 1.0
    return logits, label


@pytest.mark.parametrize("labels", [range(V), (0, 2, 5), (3,)], ids=["all", "some absent", "one class"])
def test_scores_equal_scikit_learn(labels):
    logits, label = drawn(0, labels=labels)
    predicted = logits.argmax(-1)
    counts = np.asarray(confusion_counts(logits, label, np.ones(len(label), bool)))
    np.testing.assert_array_equal(counts, sk.confusion_matrix(label, predicted, labels=range(V)))
    got = scores(counts, CLASSES)
    present = np.unique(label)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        label, predicted, labels=range(V), zero_division=0
    )
    np.testing.assert_allclose(got.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(got.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(got.f1, f1, rtol=1e-12)
    np.testing.assert_array_equal(got.support, support)
    assert got.macro_f1 == pytest.approx(sk.f1_score(label, predicted, labels=present, average="macro"), rel=1e-12)
    # scikit-learn's balanced_accuracy_score is this recall, and warns where a prediction is no label.
    recall_present = sk.recall_score(label, predicted, labels=present, average="macro")
    assert got.balanced_accuracy == pytest.approx(recall_present, rel=1e-12)
    assert got.accuracy == pytest.approx(sk.accuracy_score(label, predicted), rel=1e-12)
    assert got.chance == 1 / len(present)
    assert got.rows == len(label)


def test_a_class_that_is_only_predicted_lowers_no_mean():
    # By hand: F1 of class 0 is 2*3 / (4+3), of class 1 is 2*2 / (2+2); class 2 has no rows.
    got = scores(np.array([[3, 0, 1], [0, 2, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert got.macro_f1 == pytest.approx((6 / 7 + 1) / 2)
    assert got.balanced_accuracy == pytest.approx((3 / 4 + 1) / 2)
    assert got.accuracy == pytest.approx(5 / 6)
    assert got.chance == 1 / 2


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
def test_counts_do_not_depend_on_the_batch_size_and_padding_counts_nowhere(batch_size):
    logits, label = drawn(1)
    total = jnp.zeros((V, V), jnp.int32)
    count = jax.jit(confusion_counts)
    for start in range(0, len(label), batch_size):
        x, y = logits[start : start + batch_size], label[start : start + batch_size]
        missing = batch_size - len(y)
        valid = np.arange(batch_size) < len(y)
        x, y = np.pad(x, ((0, missing), (0, 0))), np.pad(y, (0, missing))
        total = total + count(x, y, valid)
    assert total.dtype == jnp.int32
    np.testing.assert_array_equal(total, sk.confusion_matrix(label, logits.argmax(-1), labels=range(V)))


def test_rows_that_are_not_valid_count_nowhere_even_when_not_finite():
    logits, label = drawn(2, rows=20)
    valid = np.arange(20) % 3 > 0
    logits[~valid] = np.nan
    want = sk.confusion_matrix(label[valid], logits[valid].argmax(-1), labels=range(V))
    np.testing.assert_array_equal(confusion_counts(logits, label, valid), want)


def test_large_counts_stay_exact():
    # 2**31 - 1 is the largest count that the device holds; float32 would round it.
    counts = np.array([[2**31 - 1, 1], [0, 2**31 - 1]], np.int32)
    assert scores(counts, ("a", "b")).rows == 2**32 - 1


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        scores(np.zeros((2, 2), int), ("a", "b"))
    with pytest.raises(ValueError, match="3 classes"):
        scores(np.eye(2, dtype=int), ("a", "b", "c"))


def test_json_holds_everything_and_the_summary_what_a_validation_line_needs():
    counts = np.array([[3, 1], [1, 2]], np.int32)
    got = scores(
        counts, ("a", "b"), loss=1.5, ipa_accuracy=0.75, ipa_feature_accuracy={"nasal": 0.75}, reference_macro_f1=0.4
    )
    written = json.loads(json.dumps(got.to_json(), allow_nan=False))
    assert written == {
        "loss": 1.5,
        "macro_f1": got.macro_f1,
        "balanced_accuracy": got.balanced_accuracy,
        "balanced_accuracy_at_10": None,
        "accuracy": 5 / 7,
        "chance": 0.5,
        "rows": 7,
        "reference_macro_f1": 0.4,
        "ipa_accuracy": 0.75,
        "ipa_feature_accuracy": {"nasal": 0.75},
        "classes": ["a", "b"],
        "per_phoneme": {
            "a": {"f1": 6 / 8, "precision": 3 / 4, "recall": 3 / 4, "support": 4},
            "b": {"f1": 4 / 6, "precision": 2 / 3, "recall": 2 / 3, "support": 3},
        },
        "confusion": [[3, 1], [1, 2]],
        "right_at_10": None,
        "calibration": None,
    }
    assert set(got.summary()) == {"loss", "macro_f1", "balanced_accuracy", "accuracy"}
    bare = scores(counts, ("a", "b"))
    assert set(bare.summary()) == {"macro_f1", "balanced_accuracy", "accuracy"}
    assert bare.to_json()["loss"] is None
    assert scores(counts, ("a", "b"), loss=math.inf).to_json()["loss"] is None


count_right_at_10 = jax.jit(right_at_10)


def test_balanced_accuracy_at_10_is_the_mean_of_scikit_learn_s_top_10_accuracies():
    rng = np.random.default_rng(5)
    logits, label = rng.normal(size=(300, 12)).astype(np.float32), rng.integers(0, 11, 300)
    counts = sk.confusion_matrix(label, logits.argmax(-1), labels=range(12))
    got = scores(counts, tuple("abcdefghijkl"), right_at_10=right_at_10_of(logits, label))
    shares = [
        sk.top_k_accuracy_score(label[label == one], logits[label == one], k=10, labels=range(12)) for one in range(11)
    ]
    assert got.balanced_accuracy_at_10 == pytest.approx(np.mean(shares), rel=1e-12)
    assert got.summary()["balanced_accuracy_at_10"] == got.to_json()["balanced_accuracy_at_10"] < 1


def test_of_equal_probabilities_the_class_listed_first_is_the_larger():
    # By hand: a row of 12 equal values holds the classes 0 to 9; where the last is larger, it and the classes 0 to 8.
    equal, larger, lost = np.zeros(12), np.eye(12)[11], np.full(12, np.nan)
    logits = np.stack([equal, equal, larger, larger, larger, lost]).astype(np.float32)
    label, valid = np.array([9, 10, 11, 9, 8, 11]), np.ones(6, bool)
    want = np.bincount([9, 11, 8], minlength=12)
    np.testing.assert_array_equal(right_at_10_of(logits, label), want)
    np.testing.assert_array_equal(count_right_at_10(logits, label, valid), want)


def test_right_at_10_on_the_device_does_not_depend_on_the_batch_size_and_padding_counts_nowhere():
    rng = np.random.default_rng(4)
    logits = rng.integers(0, 6, (300, 12)).astype(np.float32)  # of a few values, so that many are equal
    label, valid = rng.integers(0, 11, 300).astype(np.int32), rng.random(300) < 0.9
    want = right_at_10_of(logits[valid], label[valid])
    for size in (6, 300):
        each = (slice(start, start + size) for start in range(0, 300, size))
        np.testing.assert_array_equal(sum(count_right_at_10(logits[s], label[s], valid[s]) for s in each), want)
    assert 0 < want.sum() < valid.sum()


def test_at_10_is_left_out_where_there_are_10_classes():
    got = scores(np.eye(10, dtype=int), tuple("abcdefghij"), right_at_10=np.ones(10, int))
    assert got.balanced_accuracy_at_10 is None and "balanced_accuracy_at_10" not in got.summary()


# Five rows of two classes by hand. Bins of 1/15: confidences 0.55 and 0.60 lie in the ninth (above 8/15, up to 9/15),
# 0.9 and 0.93 in the fourteenth (above 13/15, up to 14/15), 1 in the last.
P = np.array([[0.55, 0.45], [0.4, 0.6], [0.9, 0.1], [0.07, 0.93], [1, 0]])
LABEL = np.array([0, 0, 0, 1, 1])
ECE = (abs(1 - 1.15) + abs(2 - 1.83) + abs(0 - 1)) / 5


def test_calibration_by_hand():
    got = calibration_of(P, LABEL)
    filled = {8: (2, 1, 1.15), 13: (2, 2, 1.83), 14: (1, 0, 1.0)}
    for place, found in enumerate(zip(got.rows, got.right, got.confidence, strict=True)):
        assert found == pytest.approx(filled.get(place, (0, 0, 0)))
    assert got.ece == pytest.approx(ECE)
    assert json.loads(json.dumps(got.to_json()))["ece"] == pytest.approx(ECE)


def test_calibration_on_the_device_is_that_of_numpy_and_padding_counts_nowhere():
    logits, label = drawn(3)
    valid = np.arange(len(label)) % 5 > 0
    rows, right, confidence = jax.jit(calibration_sums)(logits, label, valid)
    odds = np.exp(logits[valid].astype(np.float64))
    want = calibration_of(odds / odds.sum(-1, keepdims=True), label[valid])
    np.testing.assert_array_equal(rows, want.rows)
    np.testing.assert_array_equal(right, want.right)
    np.testing.assert_allclose(confidence, want.confidence, rtol=1e-5)
    assert want.rows.sum() == valid.sum() and (want.rows > 0).sum() > 3
