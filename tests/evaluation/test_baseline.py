"""The baseline without brain data, against scikit-learn and arithmetic by hand."""

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from demega_jax.evaluation.baseline import always, baseline_json, baseline_table, prior_baseline
from demega_jax.metrics import confusion_matrix, right_at_10_of, scores


def model_scores(labels: np.ndarray, classes: int):
    names = [f"c{number}" for number in range(classes)]
    p = np.random.default_rng(1).dirichlet(np.ones(classes), len(labels))
    confusion = confusion_matrix(labels, p.argmax(1), classes)
    return scores(confusion, names, right_at_10=right_at_10_of(p, labels))


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_it_is_one_answer_for_every_row():
    draw = np.random.default_rng(0)
    train, labels = draw.integers(1, 1000, 13), draw.integers(0, 12, 300)  # class 12 has no row
    found = prior_baseline(train, model_scores(labels, 13))
    frequent = int(train.argmax())
    predicted = np.full(300, frequent)
    assert found is not None and always(found) == f"c{frequent}"
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, labels=range(12), average="macro"))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
    top = np.argsort(-train)[:10]
    assert found.balanced_accuracy_at_10 == pytest.approx(sum(number in top for number in range(12)) / 12)


def test_by_hand():
    """Two of four rows are of the class that training has most: F1 2 * 2 / (2 + 4); the other class has F1 0."""
    found = prior_baseline(np.array([1, 9]), model_scores(np.array([0, 1, 1, 0]), 2))
    assert baseline_json(found) == {
        "kind": "prior",
        "always": "c1",
        "macro_f1": pytest.approx(1 / 3),
        "balanced_accuracy": 0.5,
        "balanced_accuracy_at_10": None,
        "accuracy": 0.5,
    }


def test_where_training_is_not_known_there_is_none():
    """A model of another program comes with a count of 1 for each class."""
    assert prior_baseline(np.ones(3, int), model_scores(np.array([0, 1, 2]), 3)) is None
    assert baseline_json(None) is None


def test_the_table_stands_below_that_of_the_model_in_80_columns():
    what = model_scores(np.arange(39).repeat(2), 39)
    found = prior_baseline(np.arange(1, 40), what)
    console = Console(width=80, record=True)
    console.print(baseline_table(found, what))
    head, _, model, without = [line for line in console.export_text().splitlines() if line.strip()]
    assert head.split() == ["macro-F1", "balanced", "acc.", "at", "10", "accuracy"]
    assert model.split()[1:] == [
        f"{value:.4f}" for value in (what.macro_f1, what.balanced_accuracy, what.balanced_accuracy_at_10, what.accuracy)
    ]
    assert without.split()[-4:] == [f"{2 * 2 / (2 + 78) / 39:.4f}", f"{1 / 39:.4f}", f"{10 / 39:.4f}", f"{2 / 78:.4f}"]
    assert "always c38" in without
