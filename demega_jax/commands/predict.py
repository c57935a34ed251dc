"""`demega-jax predict`: probabilities, logits and embeddings of training runs for any windows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.api.models import Asked
from demega_jax.api.shown import status_line
from demega_jax.commands.shared.options import THERE, Force, level_option, refuse_idle
from demega_jax.commands.shared.predicting import (
    Denoise,
    EnsembleOption,
    Runs,
    Seed,
    Tta,
    ValidationData,
    check_idle,
)
from demega_jax.commands.shared.process import prepare_process
from demega_jax.errors import counted
from demega_jax.saying import say_result

if TYPE_CHECKING:
    from demega_jax.api.predict import Written

EXAMPLES = """demega-jax predict runs/first --input data --level 100 --output predictions.csv

demega-jax predict runs/a runs/b --input windows.npy --output predictions.npz --ensemble logits"""

Input = Annotated[
    Path,
    typer.Option(
        "--input",
        metavar="PATH",
        help="A grouped file, a folder that holds grouped_K or recordings, or windows [N, C, T] in a .npy, .npz or "
        ".pt file.",
    ),
]
Output = Annotated[Path, typer.Option("--output", metavar="FILE", help="The .csv or .npz file to write.")]
Split_ = Annotated[Literal["train", "validation", "test"], typer.Option("--split", help="The split of a folder.")]
Level = Annotated[list[str] | None, level_option("Grouping level of a folder (default: as in training)", THERE)]
Embeddings = Annotated[bool, typer.Option("--embeddings", help="Write embeddings too, in an .npz file.")]


def command(
    ctx: typer.Context,
    runs: Runs,
    input_path: Input,
    output: Output,
    split: Split_ = "validation",
    level: Level = None,
    ensemble: EnsembleOption = "mean",
    data: ValidationData = None,
    tta: Tta = False,
    seed: Seed = 0,
    denoise: Denoise = False,
    embeddings: Embeddings = False,
    force: Force = False,
) -> int:
    """Predict the classes of windows with one or several training runs."""
    check_idle(ctx, method=ensemble, tta=tta)
    if input_path.is_file():
        refuse_idle(ctx, "--split", f"given for the file {input_path}", "a folder as --input")
    prepare_process(ctx.obj)
    from demega_jax.api.predict import predict_to
    from demega_jax.console import new_console

    with status_line(new_console()) as tell:
        asked = Asked(ensemble, seed if tta else None, denoise, embeddings)
        found = predict_to(
            output, runs, input_path, split=split, level=level, data=data, asked=asked, tell=tell, force=force
        )
    _print(found)
    return 0


def _print(found: "Written") -> None:
    """Print how many rows were predicted and, where they have labels, the score."""
    from demega_jax.evaluation.statistics import bootstrap_macro_f1, macro_f1_of

    say_result(f"{found.path}: {counted(found.rows, 'row')}, {counted(len(found.classes), 'class')}, {found.models}")
    if found.confusion is not None:
        score, interval = float(macro_f1_of(found.confusion)), bootstrap_macro_f1(found.confusion)
        say_result(f"macro-F1 {score:.4f} (95 % interval over rows: {interval})")
