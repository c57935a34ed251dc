"""`demega-jax evaluate`: scores of training runs on a whole split."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.commands.shared.options import THERE, Json, check_outputs, check_there, level_option
from demega_jax.commands.shared.predicting import (
    Asked,
    Denoise,
    EnsembleOption,
    Runs,
    Seed,
    Tta,
    fit_combination,
    make_ensemble,
    open_models,
    prepared,
)
from demega_jax.commands.shared.process import ending_at_once
from demega_jax.errors import warn

if TYPE_CHECKING:
    from demega_jax.config import Config, DataConfig
    from demega_jax.data.split import Split as DataSplit
    from demega_jax.evaluation.ensemble_report import EnsembleReport
    from demega_jax.evaluation.model import Model
    from demega_jax.metrics import Scores

EXAMPLES = """demega-jax evaluate runs/first --split test --json test.json

demega-jax evaluate runs/a runs/b --ensemble weighted --split test"""

Data = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Folder that holds grouped_K, or recordings (default: as in training)."),
]
LEVELS = "Grouping level, or several together (default: as in training)"
Level = Annotated[list[str] | None, level_option(LEVELS, THERE)]
Split = Annotated[Literal["validation", "test"], typer.Option(help="Split to score.")]
Splits = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File splits.json for recordings (default: as in training)."),
]


def command(
    ctx: typer.Context, runs: Runs, data: Data = None, level: Level = None, split: Split = "validation",
    splits: Splits = None, ensemble: EnsembleOption = "mean", tta: Tta = False, seed: Seed = 0,
    denoise: Denoise = False, json_file: Json = None,
) -> int:  # fmt: skip
    """Score the best checkpoints of one or several training runs on a whole split."""
    from demega_jax.commands.shared.config import changed, check_levels, with_levels
    from demega_jax.training.run import RunFolder

    check_there(runs[0], "the folder of a training run", folder=True)
    check_outputs(json_file)
    config = RunFolder(runs[0]).read_config()
    path_of_splits = None if splits is None else str(splits)
    asked = changed(config, (), {"data.path": ("--data", data), "data.regroup.splits": ("--splits", path_of_splits)})
    asked = with_levels(asked, level, (), asked.data)
    check_levels(asked)
    with ending_at_once(ctx.obj):  # jax's callbacks swallow a KeyboardInterrupt that is raised in them
        score(open_models(ctx.obj, runs), asked, split, Asked(ensemble, seed if tta else None, denoise), json_file)
    return 0


def score(models: "Sequence[Model]", config: "Config", name: str, asked: Asked, json_file: Path | None) -> None:
    """Print the scores on a split of `data.path`, and write them as JSON where asked."""
    from rich.console import Console

    from demega_jax.evaluation.ensemble_report import print_ensemble
    from demega_jax.evaluation.report.tables import print_scores
    from demega_jax.files import write_json

    split = _open(config.data, name, models, asked)
    if asked.method == "weighted" and name == "validation":
        warn("--ensemble weighted: the weights are fitted on the rows that are scored, so the score is too good")
    scores, report = _scores(models, split, config.data.path, asked)
    if json_file is not None:
        runs = [model.name for model in models]
        content = scores.to_json() | {"run": runs[0] if len(runs) == 1 else runs, "split": name}
        write_json(json_file, content | ({} if report is None else {"ensemble": report.to_json()}))
    console = Console()
    print_scores(
        scores, title=f"{', '.join(model.name for model in models)} on {name}, {_which(models)}", console=console
    )
    if report is not None:
        print_ensemble(report, asked.method, console)


def _open(data: "DataConfig", name: str, models: "Sequence[Model]", asked: Asked) -> "DataSplit":
    from demega_jax.data.open import open_split

    first = models[0]
    split = open_split(Path(data.path or ""), name, data, classes=first.classes, expect_shape=first.window)
    return prepared(split, models, asked)


def _which(models: "Sequence[Model]") -> str:
    """Which checkpoints are scored, in words."""
    steps = [step for model in models for step in model.steps]
    listed = ", ".join(map(str, steps))
    return f"step {listed}" if len(steps) == 1 else f"{len(steps)} models, steps {listed}"


def _scores(
    models: "Sequence[Model]", split: "DataSplit", data: str | None, asked: Asked
) -> "tuple[Scores, EnsembleReport | None]":
    """The scores; and of several models, or with test-time augmentation, the report on each of them.

    A run without either is counted on the devices, with its loss and its IPA features.
    """
    from demega_jax.evaluation.ensemble_report import report_of, scores_of_probabilities

    single = len(models) == 1 and asked.method == "mean" and asked.tta is None
    counted = models[0].evaluate(split) if single else None
    if counted is not None and not models[0].members:
        return counted, None
    ensemble = make_ensemble(models, split, asked)
    combination = fit_combination(ensemble, data, asked)
    found = ensemble.predict(split)
    report = report_of(found, combination)
    if counted is None:
        counted = scores_of_probabilities(found.labels, combination(found), split.classes, split.reference_macro_f1)
    return counted, report
