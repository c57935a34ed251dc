"""The score that chooses the best checkpoint: its order by hand, and in training runs."""

import math
from types import SimpleNamespace

import pytest
from helpers.errors import refused

from demega_jax.training.members import Standing
from demega_jax.training.monitor import best_validation, check_monitor


@pytest.mark.parametrize("monitor", ["macro_f1", "balanced_accuracy", "balanced_accuracy_at_10", "loss"])
def test_the_best_is_the_first_largest_score_and_the_first_smallest_loss(monitor):
    values = [math.nan, 0.4, 0.2, 0.6, 0.6, 0.2]
    standing = Standing(monitor)
    found = [standing.update(value, step) for step, value in enumerate(values, start=1)]
    wanted = [2, 3] if monitor == "loss" else [2, 4]
    assert [step for step, better in enumerate(found, start=1) if better] == wanted
    assert (standing.best_step, standing.best_score, standing.stale) == (
        wanted[-1],
        values[wanted[-1] - 1],
        len(values) - wanted[-1],
    )
    lines = [
        {"split": "validation", "step": step, monitor: None if math.isnan(value) else value}
        for step, value in enumerate(values, start=1)
    ]
    assert best_validation(monitor, lines)["step"] == wanted[-1]
    assert best_validation(monitor, [line | {"split": "train"} for line in lines]) is None


def test_the_standing_of_an_earlier_version_is_one_of_macro_f1():
    old = {"standing": {"best_macro_f1": 0.25, "best_step": 20, "stale": 1}}
    assert Standing.of(old) == Standing("macro_f1", 0.25, 20, 1)
    assert Standing.of(old).best == "macro-F1 0.2500"


def test_a_score_at_10_of_10_classes_is_refused():
    rows = SimpleNamespace(path="words", classes=tuple("abcdefghij"))
    with refused("balanced_accuracy_at_10", "10 classes", "train.monitor=balanced_accuracy", where="words"):
        check_monitor("balanced_accuracy_at_10", rows)
    check_monitor("balanced_accuracy", rows)
