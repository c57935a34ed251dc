"""`demega-jax audit`: what the score of a training run is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.api.paths import check_outputs, check_there
from demega_jax.commands.shared.options import THERE, Json, level_option
from demega_jax.commands.shared.predicting import open_models
from demega_jax.commands.shared.process import ending_at_once
from demega_jax.names import MAX_COUNT
from demega_jax.saying import is_quiet, say_more, say_result

if TYPE_CHECKING:
    from demega_jax.config import Config
    from demega_jax.evaluation.model import Model

EXAMPLES = """demega-jax audit runs/first

demega-jax audit runs/first --split test --rows 10000 --json audit.json"""

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run; its members are averaged.")]
Data = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Folder that holds grouped_K, or recordings (default: as in training)."),
]
LEVELS = "Grouping level, or several together (default: as in training)"
Level = Annotated[list[str] | None, level_option(LEVELS, THERE)]
Split = Annotated[
    Literal["validation", "test"], typer.Option("--split", help="Split to score; probes learn from the train split.")
]
Rows = Annotated[
    int,
    typer.Option(
        metavar="N", min=2, max=MAX_COUNT, help="Rows that are drawn at most, of the split and of the train split."
    ),
]
Seed = Annotated[int, typer.Option(metavar="S", min=0, max=2**31 - 1, help="Seed of all random numbers.")]


def command(
    ctx: typer.Context,
    run: Run,
    data: Data = None,
    level: Level = None,
    split: Split = "validation",
    rows: Rows = 4000,
    seed: Seed = 0,
    json_file: Json = None,
) -> int:
    """Say what a score is worth: the same evaluation on inputs that hold no brain response."""
    from demega_jax.api.asked import asked_data

    check_there(run, "the folder of a training run", folder=True)
    check_outputs(json_file)
    config = asked_data(run, data, level)
    with ending_at_once(ctx.obj):
        (model,) = open_models(ctx.obj, [run])
        _audit(model, config, split, rows, seed, json_file)
    return 0


def _audit(model: "Model", config: "Config", name: str, rows: int, seed: int, json_file: Path | None) -> None:
    from demega_jax.api.shown import status_line
    from demega_jax.console import new_console
    from demega_jax.data.open import open_split
    from demega_jax.evaluation.audit.report import audit_line, print_audit
    from demega_jax.evaluation.audit.run import audit
    from demega_jax.evaluation.runs import Ensemble
    from demega_jax.files import write_results

    train, split = (
        open_split(Path(config.data.path or ""), each, config.data, classes=model.classes, expect_shape=model.window)
        for each in ("train", name)
    )
    ensemble = Ensemble.of([model], rows=min(rows, split.rows))
    console = new_console()
    with status_line(console) as tell:
        found = audit(ensemble.predicted, train, split, rows=rows, seed=seed, tell=tell)
    if json_file is not None:
        write_results(json_file, {"run": model.name, "split": name, "seed": seed} | found.to_json())
    if is_quiet():
        say_result(audit_line(found, f"{model.name} on {name}"))
        return
    say_more(f"data {split.path}, train {train.path}, seed {seed}")
    print_audit(found, f"What the score of {model.name} on {name} is worth", console)
