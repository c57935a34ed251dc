"""`demega-jax submit`: the CSV file that the LibriBrain competition takes, written or checked."""

from pathlib import Path
from typing import Annotated

import typer

from demega_jax.api.models import Asked, expand, fit_combination, make_ensemble, prepared, validation_data
from demega_jax.api.paths import check_outputs, check_there
from demega_jax.commands.shared.options import refuse_idle
from demega_jax.commands.shared.predicting import (
    Denoise,
    EnsembleOption,
    Seed,
    Tta,
    ValidationData,
    check_idle,
    open_models,
)
from demega_jax.errors import UserError
from demega_jax.names import MAX_COUNT
from demega_jax.saying import say

EXAMPLES = """demega-jax submit runs/first --holdout holdout.pt --output submission.csv

demega-jax submit --check submission.csv"""

Runs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="RUN", help="Folders of training runs, whose models are combined; or a stack.", show_default=False
    ),
]
Holdout = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The holdout: segments [N, 306, 125] in a .pt, .npy, .npz or grouped file."),
]
Output = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="The CSV file to write.")]
Check = Annotated[Path | None, typer.Option("--check", metavar="FILE", help="Check this CSV file instead.")]
Rows = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=MAX_COUNT, help="Rows that --check expects (default: 2382).")
]


def command(
    ctx: typer.Context, runs: Runs = None, holdout: Holdout = None, output: Output = None,
    ensemble: EnsembleOption = "mean", data: ValidationData = None, tta: Tta = False, seed: Seed = 0,
    denoise: Denoise = False, check: Check = None, rows: Rows = None,
) -> int:  # fmt: skip
    """Predict the holdout and write a checked submission, or check one with --check."""
    from demega_jax.evaluation.submission import SEGMENTS, check_submission

    if check is not None:
        for option in ("--ensemble", "--data", "--tta", "--seed", "--denoise"):
            refuse_idle(ctx, option, "given beside --check", "--check FILE alone, or with --rows")
        if runs or holdout or output:
            way_out = "leave out --check to write a submission, or everything else to check one"
            raise UserError("--check", "given beside what writes a submission", "only one of the two", way_out)
        check_there(check, "a submission", folder=False)
        found = check_submission(check, rows=rows or SEGMENTS)
        say(f"{check}: a valid submission of {len(found):,} rows")
        return 0
    if rows is not None:
        raise UserError("--rows", "given without --check", "--check FILE beside it", "leave out --rows")
    if not runs or holdout is None or output is None:
        way_out = "write `demega-jax submit RUN --holdout FILE --output FILE.csv`, or `demega-jax submit --check FILE`"
        lacks = "RUN" if not runs else "--holdout" if holdout is None else "--output"
        raise UserError("submit", f"no {lacks}", "runs, a holdout and an output", way_out)
    check_idle(ctx, method=ensemble, tta=tta)
    check_outputs(output)
    check_there(holdout, "the file of the holdout", folder=False)
    bases, asked = expand(runs, Asked(ensemble, seed if tta else None, denoise))
    _write(ctx, bases, holdout, output, data, asked)
    return 0


def _write(ctx: typer.Context, runs: list[Path], holdout: Path, output: Path, data: str | None, asked: Asked) -> None:
    from demega_jax.data.open import open_input
    from demega_jax.errors import warn
    from demega_jax.evaluation.submission import (
        SEGMENTS,
        phoneme_columns,
        warn_if_standardised_twice,
        write_submission,
    )

    models = open_models(ctx.obj, runs)
    first = models[0]
    segments = open_input(holdout, "test", first.config.data, classes=first.classes, expect_shape=first.window)
    if not segments.rows:
        raise UserError(holdout, "it holds no window", "the windows of the holdout", "give another --holdout")
    warn_if_standardised_twice(segments)
    if segments.rows != SEGMENTS:
        warn(f"{holdout} has {segments.rows:,} segments, and the published holdout has {SEGMENTS:,}")
    segments = prepared(segments, models, asked)
    ensemble = make_ensemble(models, segments, asked)
    combination = fit_combination(ensemble, validation_data(first, data, segments), asked)
    p = phoneme_columns(combination(ensemble.predict(segments)), first.classes, runs[0])
    write_submission(output, p)
    models_used = "1 model" if ensemble.members == 1 else f"{combination.method} of {ensemble.members} models"
    say(f"{output}: a valid submission of {segments.rows:,} rows, {models_used}")
