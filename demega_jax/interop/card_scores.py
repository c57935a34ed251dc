"""The scores that a model card shows: those that `evaluate --json` wrote, with intervals over rows."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demega_jax.errors import UserError, warn
from demega_jax.evaluation.statistics import Interval, bootstrap_macro_f1
from demega_jax.files import visible
from demega_jax.metrics import scores
from demega_jax.reading import read_json
from demega_jax.training.run import RunFolder

WAY_OUT = "write one with `demega-jax evaluate RUN --json FILE`"


@dataclasses.dataclass(frozen=True)
class CardScore:
    """The scores of a model on a split. level: K, or several; None where the file does not say it.

    interval: of macro-F1 over rows.  reference: the best macro-F1 possible, where it is known.
    """

    split: str
    level: str | None
    rows: int
    macro_f1: float
    interval: Interval
    balanced_accuracy: float
    accuracy: float
    chance: float
    reference: float | None


def read_scores(
    run: RunFolder, files: Sequence[Path], classes: tuple[str, ...], steps: Sequence[int]
) -> list[CardScore]:
    """The scores in files of `evaluate --json`; without any, in the JSON files of the run's report/.

    Of the report, files that hold other things are left out, and those of other checkpoints with a warning.
    UserError: a file that is named is not of this run's checkpoints.
    """
    found = {}
    for path in files or sorted(visible(run.report, "*.json")):
        try:
            raw = _read(path)
            score = _score(path, raw, classes, steps)
        except UserError as error:
            if files:
                raise
            if error.way_out != WAY_OUT:
                warn(f"left out of the card: {error}")
            continue
        found[score.split, score.level] = score
    return [found[key] for key in sorted(found, key=str)]


KINDS: dict[str, type] = {"confusion": list, "classes": list, "split": str}


def _read(path: Path) -> dict[str, Any]:
    wanted = "the JSON of `demega-jax evaluate`"
    try:
        raw = read_json(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise UserError(path, f"it cannot be read ({reason})", wanted, WAY_OUT) from None
    whole = isinstance(raw, dict) and all(isinstance(raw.get(key), kind) for key, kind in KINDS.items())
    if not whole or not isinstance(raw.get("steps", []), list):
        raise UserError(path, "no scores of a split", wanted, WAY_OUT)
    return raw


def _score(path: Path, raw: dict[str, Any], classes: tuple[str, ...], steps: Sequence[int]) -> CardScore:
    again = f"run `demega-jax evaluate RUN --split {raw['split']} --json {path}` again"
    if tuple(raw["classes"]) != classes:
        raise UserError(path, "scores of other classes", f"the {len(classes)} classes of the training run", again)
    if "steps" in raw and list(raw["steps"]) != list(steps):
        came = f"scores of the checkpoints at {_listed(raw['steps'])}"
        raise UserError(path, came, f"those at {_listed(steps)}, which are the best now", again)
    confusion = _confusion(raw["confusion"], len(classes))
    if confusion is None:
        raise UserError(path, "a confusion matrix that is damaged", f"counts of {len(classes)} classes", again)
    stated = {"rows": int(confusion.sum()), "macro_f1": scores(confusion, classes).macro_f1}
    for name, value in stated.items():
        if name in raw and not (isinstance(raw[name], int | float) and abs(raw[name] - value) < 1e-9):
            raise UserError(path, f"{name} is {raw[name]}", f"{value}, which its confusion matrix gives", again)
    level, reference, found = raw.get("level"), raw.get("reference_macro_f1"), scores(confusion, classes)
    return CardScore(
        split=str(raw["split"]),
        level=None if level is None else _listed(level),
        rows=found.rows,
        macro_f1=found.macro_f1,
        interval=bootstrap_macro_f1(confusion),
        balanced_accuracy=found.balanced_accuracy,
        accuracy=found.accuracy,
        chance=found.chance,
        reference=float(reference) if isinstance(reference, int | float) else None,
    )


def _confusion(raw: object, classes: int) -> np.ndarray | None:
    """The counts [V, V] of JSON; None where they are no such counts."""
    try:
        found = np.asarray(raw)
    except ValueError:
        return None
    sound = found.shape == (classes, classes) and found.dtype.kind in "iu" and found.min() >= 0 and found.sum() > 0
    return found.astype(np.int64) if sound else None


def _listed(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list | tuple) else str(values)
