"""`demega-jax report`: figures and a page of a training run's scores."""

from pathlib import Path
from typing import Annotated

import typer

from demega_jax.api.lists import names
from demega_jax.api.models import Asked
from demega_jax.api.paths import check_there
from demega_jax.api.scoring import asked_config, baseline_of, check_report, open_scored, score
from demega_jax.commands.shared.predicting import open_models
from demega_jax.commands.shared.process import ending_at_once
from demega_jax.commands.shared.scoring import Data, Level, Split, Splits
from demega_jax.errors import counted
from demega_jax.names import PICTURES
from demega_jax.saying import say, say_result

EXAMPLES = """demega-jax report runs/first --split test

demega-jax report runs/first --format svg,pdf --saliency"""

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.")]
Format = Annotated[
    list[str] | None,
    typer.Option(
        "--format", metavar="FORMAT,..", help=f"Format of the figures: {', '.join(PICTURES)} or all (default: png)."
    ),
]
Saliency = Annotated[
    bool,
    typer.Option(
        "--saliency",
        help="Add gradients by time and, with 306 sensors and the extra topo, as maps over the head.",
    ),
]


def command(
    ctx: typer.Context,
    run: Run,
    data: Data = None,
    level: Level = None,
    split: Split = "validation",
    splits: Splits = None,
    formats: Format = None,
    saliency: Saliency = False,
) -> int:
    """Evaluate a training run and make its folder report/ anew: figures, and a page that ties them together."""
    check_there(run, "the folder of a training run", folder=True)
    endings = names("--format", formats or ["png"], PICTURES)
    check_report([run])
    config = asked_config(run, data, level, splits)
    with ending_at_once(ctx.obj):  # jax's callbacks swallow a KeyboardInterrupt that is raised in them
        (model,) = open_models(ctx.obj, [run])
        asked = Asked("mean", None, False)
        rows = open_scored(config.data, split, [model], asked)
        scores, ensemble = score([model], rows, asked)
        from demega_jax.evaluation.report.write import Evaluated, write_report
        from demega_jax.evaluation.saliency import saliency_of

        gradients = saliency_of(model, rows) if saliency else None
        known = (model.name, model.config, model.steps, rows, scores, ensemble)
        found = Evaluated(*known, saliency=gradients, baseline=baseline_of([model], scores))
        page = write_report(found, endings)
    count = counted(scores.rows, "row")
    say_result(f"{model.name} on {split}: macro-F1 {scores.macro_f1:.4f}, chance {scores.chance:.4f}, {count}")
    say(f"report {page}")
    return 0
