"""What the commands that predict with training runs have in common: options, models, and their combination."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.commands.shared.options import check_there, refuse_idle
from demega_jax.commands.shared.process import Process, prepare_process, set_numerics
from demega_jax.errors import UserError

if TYPE_CHECKING:
    from demega_jax.config import DataConfig
    from demega_jax.data.split import Split
    from demega_jax.evaluation.model import Model
    from demega_jax.evaluation.runs import Combination, Ensemble
    from demega_jax.evaluation.stack.use import StackCombination

Method = Literal["mean", "logits", "vote", "weighted"]
Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN", help="Folders of training runs, whose models are combined; or a stack.")
]
EnsembleOption = Annotated[
    Method,
    typer.Option(
        "--ensemble",
        help="How several models are combined: mean of probabilities, mean of logits, majority vote, or a mean with "
        "weights fitted on validation.",
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


@dataclasses.dataclass(frozen=True)
class Asked:
    """How rows are to be predicted.

    tta: the seed of test-time augmentation; None: without.  stack: a folder whose stackers combine the models; None:
    `method` does.  levels: the grouping level that the stackers learnt from, as --level takes it.
    """

    method: Method
    tta: int | None
    denoise: bool
    embedding: bool = False
    stack: Path | None = None
    levels: tuple[str, ...] = ()


def check_idle(ctx: typer.Context, *, method: Method, tta: bool, weights_from_data: bool = True) -> None:
    """UserError: --seed without --tta; or, if --data is only for weights, --data without --ensemble weighted."""
    if not tta:
        refuse_idle(ctx, "--seed", "given without --tta", "--tta beside it")
    if weights_from_data and method != "weighted":
        refuse_idle(ctx, "--data", "given without --ensemble weighted", "--ensemble weighted beside it")


def expand(runs: Sequence[Path], asked: Asked) -> tuple[list[Path], Asked]:
    """The training runs to predict with; those of a stack, if one is given. UserError: options that do not fit it."""
    for run in runs:
        check_there(run, "the folder of a training run", folder=True)
    if not any((run / "stack.json").is_file() for run in runs):
        return list(runs), asked
    from demega_jax.evaluation.stack.use import expanded

    bases, stack, level = expanded(runs)
    if asked.method != "mean" or asked.tta is not None:
        option = "--tta" if asked.tta is not None else f"--ensemble {asked.method}"
        raise UserError(option, f"given for the stack {stack}", "a stack without it", f"leave out {option}")
    return bases, dataclasses.replace(asked, stack=stack, levels=() if level is None else (str(level),))


def open_models(process: Process, runs: Sequence[Path]) -> "list[Model]":
    """The models of training runs, in a process that was set up as the first of them says."""
    from demega_jax.training.run import RunFolder

    for run in runs:
        check_there(run, "the folder of a training run", folder=True)
    configs = [RunFolder(run).read_config() for run in runs]
    prepare_process(process)
    set_numerics(process, configs[0])
    from demega_jax.evaluation.runs import load_runs
    from demega_jax.training.quiet import quiet_failed_saves

    quiet_failed_saves()
    return load_runs(runs)


def prepared(split: "Split", models: "Sequence[Model]", asked: Asked) -> "Split":
    """The split, denoised if that is asked for. Warns if its windows are too small to be normalised."""
    from demega_jax.data.changed import denoised
    from demega_jax.data.spread import check_spread

    split = denoised(split) if asked.denoise else split
    for how in dict.fromkeys(model.config.model.input_norm for model in models):
        check_spread(split, how)
    return split


def make_ensemble(models: "Sequence[Model]", split: "Split", asked: Asked) -> "Ensemble":
    """The models on the devices, for the rows of a split."""
    from demega_jax.evaluation.runs import Ensemble
    from demega_jax.evaluation.tta import TestTimeAugmentation

    tta = None if asked.tta is None else TestTimeAugmentation(seed=asked.tta)
    return Ensemble.of(models, rows=split.rows, embedding=asked.embedding, tta=tta)


def validation_data(model: "Model", folder: str | None, rows: "Split") -> "DataConfig":
    """Where the validation split is that fits rows to predict: their level, where there is one, else that of training.

    folder: None: that of training.
    """
    from demega_jax.data.folder import find_levels, has_recordings

    data = model.config.data.model_copy(update={} if folder is None else {"path": folder})
    path = Path(data.path or ".")
    there = rows.level is not None and (rows.level in find_levels(path) or has_recordings(path))
    return data.model_copy(update={"level": rows.level}) if there else data


def fit_combination(ensemble: "Ensemble", data: "DataConfig", asked: Asked) -> "Combination | StackCombination":
    """The combination that is asked for; weights are fitted on the validation split of `data`."""
    if asked.stack is not None:
        from demega_jax.evaluation.stack.use import StackCombination

        return StackCombination.read(asked.stack, ensemble.models)
    from demega_jax.data.folder import data_folder
    from demega_jax.data.open import open_split
    from demega_jax.evaluation.runs import Combination

    if asked.method != "weighted":
        return Combination(asked.method)
    if ensemble.members < 2:
        wanted, way_out = "two models or more", "name more training runs, or leave out --ensemble"
        raise UserError("--ensemble", "weighted, for one model", wanted, way_out)
    first = ensemble.models[0]
    folder = data_folder(data.path)
    validation = open_split(folder, "validation", data, classes=first.classes, expect_shape=first.window)
    return Combination.fit(asked.method, ensemble, prepared(validation, ensemble.models, asked))
