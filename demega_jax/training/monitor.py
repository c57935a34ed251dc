"""The score of validation that is monitored: it chooses the best checkpoint and stops training early."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from demega_jax.data.split import LabelledRows
from demega_jax.errors import UserError
from demega_jax.metrics import TOP
from demega_jax.names import Monitor


def is_better(monitor: Monitor, score: float, best: float | None) -> bool:
    """Whether a score is better than the best so far, which is None before the first. One not finite is never better.

    Of equal scores the first is the best one. A smaller loss is better, and a larger value of every other score.
    """
    if not math.isfinite(score):
        return False
    return best is None or (score < best if monitor == "loss" else score > best)


def best_validation(monitor: Monitor, lines: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The line of the best validation among the lines of a metrics.jsonl; None where none has the score."""
    best: Mapping[str, Any] | None = None
    for line in lines:
        score = line.get(monitor) if line.get("split") == "validation" else None
        if score is not None and is_better(monitor, score, None if best is None else best[monitor]):
            best = line
    return best


def check_monitor(monitor: Monitor, rows: LabelledRows) -> None:
    """UserError: the score that is monitored is not known for so few classes."""
    if monitor == "balanced_accuracy_at_10" and len(rows.classes) <= TOP:
        came = f"train.monitor={monitor} for {len(rows.classes)} classes, where it would always be 1"
        raise UserError(rows.path, came, f"more than {TOP} classes", "set train.monitor=balanced_accuracy")
