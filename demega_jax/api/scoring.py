"""What scores training runs on a split: the configuration that is asked for, the split, and the scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demega_jax.api.models import Asked, fit_combination, make_ensemble, prepared
from demega_jax.api.paths import check_outputs
from demega_jax.errors import UserError

if TYPE_CHECKING:
    from demega_jax.api.asked import Levels
    from demega_jax.config import Config, DataConfig
    from demega_jax.data.split import Split as DataSplit
    from demega_jax.evaluation.ensemble_report import EnsembleReport
    from demega_jax.evaluation.model import Model
    from demega_jax.metrics import Scores


def asked_config(run: Path, data: str | None, level: "Levels | None", splits: Path | None) -> "Config":
    """The configuration of a training run, with the data that are to be scored. UserError: there is no such level, or
    --splits is given for data that are in splits already."""
    from demega_jax.api.asked import changed, check_levels, with_levels
    from demega_jax.data.folder import is_recorded
    from demega_jax.training.run import RunFolder

    config = RunFolder(run).read_config()
    path_of_splits = None if splits is None else str(splits)
    asked = changed(config, (), {"data.path": ("--data", data), "data.regroup.splits": ("--splits", path_of_splits)})
    asked = with_levels(asked, level, (), asked.data)
    check_levels(asked)
    if splits is not None and not is_recorded(Path(asked.data.path or ""), asked.data.feed):
        came, wanted = f"given for {asked.data.path}, which holds no recordings", "a recording tree as --data"
        raise UserError("--splits", came, wanted, "leave out --splits")
    return asked


def check_report(runs: Sequence[Path]) -> None:
    """UserError: a report is asked for that has no folder of its own, or that cannot be written."""
    from demega_jax.training.run import RunFolder

    if (runs[0] / "stack.json").is_file():
        way_out = "leave out --report; `demega-jax stack` writes report.txt and report.json"
        raise UserError("--report", f"given for the stack {runs[0]}", "one training run", way_out)
    if len(runs) > 1:
        way_out = "leave out --report, or evaluate one training run at a time"
        raise UserError("--report", f"given for {len(runs)} training runs", "one training run", way_out)
    check_outputs(RunFolder(runs[0]).report / "index.html")


def open_scored(data: "DataConfig", name: str, models: "Sequence[Model]", asked: Asked) -> "DataSplit":
    """The split that is scored. UserError: it has other windows or classes than the models."""
    from demega_jax.data.folder import data_folder
    from demega_jax.data.open import open_split
    from demega_jax.evaluation.runs import as_seen

    first = models[0]
    data = as_seen(data, first)
    split = open_split(data_folder(data.path), name, data, classes=first.classes, expect_shape=first.window)
    return prepared(split, models, asked)


def baseline_of(models: "Sequence[Model]", found: "Scores") -> "Scores | None":
    """The scores without any brain data on the same rows, from the training rows of all models; None: not known."""
    from demega_jax.evaluation.baseline import prior_baseline

    known = [model.class_counts for model in models]
    return prior_baseline(sum(known[1:], start=known[0]), found)


def score(
    models: "Sequence[Model]", split: "DataSplit", asked: Asked, fitted: "DataSplit | None" = None
) -> "tuple[Scores, EnsembleReport | None]":
    """The scores; and of several models, or with test-time augmentation, the report on each of them.

    A run without either is counted on the devices, with its loss and its IPA features.  fitted: the rows that weights
    are fitted on (`rows_to_fit`).
    """
    from demega_jax.evaluation.ensemble_report import report_of, scores_of_probabilities

    single = len(models) == 1 and asked.method == "mean" and asked.tta is None and asked.stack is None
    counted = models[0].count(split) if single else None
    if counted is not None and not models[0].members:
        return counted, None
    ensemble = make_ensemble(models, split, asked)
    combination = fit_combination(ensemble, fitted, asked)
    found = ensemble.predict(split)
    report = report_of(found, combination)
    if counted is None:
        counted = scores_of_probabilities(found.labels, combination(found), split.classes, split.reference_macro_f1)
    return counted, report
