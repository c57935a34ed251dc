"""The models of training runs, for rows to score or to predict: opened, checked, and combined as it is asked for."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from demega_jax.api.paths import PathLike, check_there
from demega_jax.errors import UserError
from demega_jax.files import expanded

if TYPE_CHECKING:
    from demega_jax.config import Config, DataConfig
    from demega_jax.data.split import Split
    from demega_jax.evaluation.model import Model
    from demega_jax.evaluation.runs import Combination, Ensemble
    from demega_jax.evaluation.stack.use import StackCombination

Method = Literal["mean", "logits", "vote", "weighted"]
Runs = PathLike | Sequence[PathLike]


def run_paths(runs: Runs) -> list[Path]:
    """One run folder or several as paths. UserError: there is none."""
    found = [Path(expanded(str(run))) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    if not found:
        raise UserError("runs", "none", "the folder of a training run, or several", "name one")
    return found


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


def config_of(runs: Sequence[Path]) -> "Config":
    """The configuration of the first training run. UserError: one of them is not there, or cannot be read."""
    from demega_jax.training.run import RunFolder

    for run in runs:
        check_there(run, "the folder of a training run", folder=True)
    return [RunFolder(run).read_config() for run in runs][0]


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


def rows_to_fit(models: "Sequence[Model]", data: "DataConfig", asked: Asked) -> "Split | None":
    """The validation split of `data` that weights are fitted on; None where no weights are asked for.

    UserError: weights are asked for one model.
    """
    from demega_jax.data.folder import data_folder
    from demega_jax.data.open import open_split
    from demega_jax.evaluation.runs import as_seen

    if asked.stack is not None or asked.method != "weighted":
        return None
    if sum(len(model.steps) for model in models) < 2:
        wanted, way_out = "two models or more", "name more training runs, or leave out --ensemble"
        raise UserError("--ensemble", "weighted, for one model", wanted, way_out)
    first = models[0]
    data = as_seen(data, first)
    split = open_split(data_folder(data.path), "validation", data, classes=first.classes, expect_shape=first.window)
    return prepared(split, models, asked)


def fit_combination(ensemble: "Ensemble", rows: "Split | None", asked: Asked) -> "Combination | StackCombination":
    """The combination that is asked for. rows: what `rows_to_fit` gives, for weights."""
    if asked.stack is not None:
        from demega_jax.evaluation.stack.use import StackCombination

        return StackCombination.read(asked.stack, ensemble.models)
    from demega_jax.evaluation.runs import Combination

    return Combination(asked.method) if rows is None else Combination.fit(asked.method, ensemble, rows)
