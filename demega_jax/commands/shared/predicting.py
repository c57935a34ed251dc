"""The options that the commands that predict with training runs have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demega_jax.api.models import Method, config_of
from demega_jax.commands.shared.options import refuse_idle
from demega_jax.commands.shared.process import Process, prepare_process, set_numerics

if TYPE_CHECKING:
    from demega_jax.evaluation.model import Model

Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN", help="Folders of training runs, whose models are combined; or a stack.")
]
EnsembleOption = Annotated[
    Method,
    typer.Option(
        "--ensemble",
        metavar="HOW",
        help="How several models are combined: mean (of probabilities), logits (their mean), vote (of the majority), "
        "or weighted (a mean with weights fitted on validation).",
    ),
]
Tta = Annotated[
    bool, typer.Option("--tta", help="Average over shifted and noisy copies of each window (test-time augmentation).")
]
Seed = Annotated[int, typer.Option(metavar="S", min=0, max=2**31 - 1, help="Seed of the test-time augmentation.")]
Denoise = Annotated[bool, typer.Option("--denoise", help="Denoise windows by wavelets before anything else.")]
ValidationData = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder with the validation split that weights are fitted on (default: as in training).",
    ),
]


def check_idle(ctx: typer.Context, *, method: Method, tta: bool, weights_from_data: bool = True) -> None:
    """UserError: --seed without --tta; or, if --data is only for weights, --data without --ensemble weighted."""
    if not tta:
        refuse_idle(ctx, "--seed", "given without --tta", "--tta beside it")
    if weights_from_data and method != "weighted":
        refuse_idle(ctx, "--data", "given without --ensemble weighted", "--ensemble weighted beside it")


def open_models(process: Process, runs: Sequence[Path]) -> "list[Model]":
    """The models of training runs, in a process that was set up as the first of them says."""
    config = config_of(runs)
    prepare_process(process)
    set_numerics(process, config)
    from demega_jax.evaluation.runs import load_runs
    from demega_jax.training.quiet import quiet_failed_saves

    quiet_failed_saves()
    return load_runs(runs)
