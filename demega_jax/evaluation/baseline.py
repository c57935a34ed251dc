"""What is scored without any brain data: one ranking of the classes for every row, by how often training has them."""

from typing import Any

import numpy as np
from jaxtyping import Int
from rich.box import SIMPLE_HEAD
from rich.table import Table

from demega_jax.metrics import TOP, Scores, scores

SCORES = ("macro_f1", "balanced_accuracy", "balanced_accuracy_at_10", "accuracy")
MEANING = "the same answer for every row: classes ranked by how often training has them"


def prior_baseline(train_counts: Int[np.ndarray, " V"], found: Scores) -> Scores | None:
    """The scores of that ranking on the rows that were scored. None: how often training has each class is not known.

    train_counts [V]: rows of each class in the training split; all 1 where it is not known, as of imported models. Of
    classes with as many rows the one that is listed first is ranked first.  found: the scores of a model.
    """
    if (train_counts == 1).all() or not train_counts.any():
        return None
    rank = np.argsort(-train_counts, kind="stable")
    confusion = np.zeros_like(found.confusion)
    confusion[:, rank[0]] = found.support
    right_at_10 = np.zeros_like(found.support)
    right_at_10[rank[:TOP]] = found.support[rank[:TOP]]
    return scores(confusion, found.classes, right_at_10=right_at_10)


def always(baseline: Scores) -> str:
    """The class that the baseline always answers."""
    return baseline.classes[int(baseline.confusion.sum(axis=0).argmax())]


def baseline_json(baseline: Scores | None) -> dict[str, Any] | None:
    """The baseline in plain Python types."""
    if baseline is None:
        return None
    return {"kind": "prior", "always": always(baseline)} | {name: getattr(baseline, name) for name in SCORES}


def baseline_table(baseline: Scores, found: Scores) -> Table:
    """The scores of the baseline below those of the model, in 80 columns."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", overflow="fold")
    heads = {"macro_f1": "macro-F1", "balanced_accuracy": "balanced acc.", "balanced_accuracy_at_10": "at 10"}
    shown = [name for name in SCORES if getattr(found, name) is not None and getattr(baseline, name) is not None]
    for name in shown:
        table.add_column(heads.get(name, name), justify="right", no_wrap=True)
    for what, of in (("model", found), (f"no brain data: always {always(baseline)}", baseline)):
        table.add_row(what, *(f"{getattr(of, name):.4f}" for name in shown))
    return table
