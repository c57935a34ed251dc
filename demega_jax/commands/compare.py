"""`demega-jax compare`: whether one side of training runs is better than another."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.api.paths import check_outputs, check_there
from demega_jax.commands.shared.options import THERE, Json, level_option
from demega_jax.commands.shared.predicting import open_models
from demega_jax.commands.shared.process import ending_at_once
from demega_jax.errors import UserError, counted
from demega_jax.saying import is_quiet, say_more, say_result

if TYPE_CHECKING:
    from demega_jax.config import Config
    from demega_jax.evaluation.model import Model

EXAMPLES = """demega-jax compare runs/a --against runs/b --split test

demega-jax compare runs/a1 runs/a2 --against runs/b1 runs/b2 --json compared.json"""

Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN", help="Folders of training runs: side A, whose models are averaged.")
]
Against = Annotated[
    list[Path] | None,
    typer.Option("--against", metavar="RUN..", help="Folders of the training runs of side B.", show_default=False),
]
Data = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Folder that holds grouped_K, or recordings (default: as in training of A)."),
]
LEVELS = "Grouping level, or several together (default: as in training of A)"
Level = Annotated[list[str] | None, level_option(LEVELS, THERE)]
Split = Annotated[Literal["validation", "test"], typer.Option("--split", help="Split to score.")]


def command(
    ctx: typer.Context,
    runs: Runs,
    against: Against = None,
    data: Data = None,
    level: Level = None,
    split: Split = "validation",
    json_file: Json = None,
) -> int:
    """Compare the macro-F1 of two sides of training runs, over rows and over seeds."""
    from demega_jax.api.asked import asked_data

    if not against:
        way_out = "write `demega-jax compare RUN --against RUN`"
        raise UserError("--against", "not given", "the training runs to compare with", way_out)
    for run in (*runs, *against):
        check_there(run, "the folder of a training run", folder=True)
    both = {run.resolve() for run in runs} & {run.resolve() for run in against}
    if both:
        came = f"{sorted(both)[0].name} is on both sides"
        raise UserError("--against", came, "different training runs on each side", "leave it out on one side")
    check_outputs(json_file)
    config = asked_data(runs[0], data, level)
    with ending_at_once(ctx.obj):
        models = open_models(ctx.obj, [*runs, *against])
        _compare(models[: len(runs)], models[len(runs) :], config, split, json_file)
    return 0


def _compare(
    models: "Sequence[Model]", others: "Sequence[Model]", config: "Config", name: str, json_file: Path | None
) -> None:
    from demega_jax.console import new_console
    from demega_jax.data.open import open_split
    from demega_jax.data.spread import check_spread
    from demega_jax.evaluation.compare import compare_sides
    from demega_jax.evaluation.compare_report import comparison_line, print_comparison
    from demega_jax.evaluation.runs import as_seen
    from demega_jax.files import write_results

    first = models[0]
    folder = Path(config.data.path or "")
    split = open_split(folder, name, as_seen(config.data, first), classes=first.classes, expect_shape=first.window)
    for how in dict.fromkeys(model.config.model.input_norm for model in (*models, *others)):
        check_spread(split, how)
    found = compare_sides(models, others, split)
    if json_file is not None:
        runs = {"runs": [model.name for model in models], "against": [model.name for model in others]}
        write_results(json_file, runs | {"split": name} | found.to_json())
    sides = " against ".join(", ".join(model.name for model in side) for side in (models, others))
    if is_quiet():
        say_result(comparison_line(found, f"{sides} on {name}"))
        return
    say_more(f"data {split.path}, level {split.level or config.data.level}, {counted(split.rows, 'row')}")
    print_comparison(found, f"{sides} on {name}", new_console())
