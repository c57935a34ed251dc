"""`demega-jax predict`: probabilities, logits and embeddings of training runs for any windows."""

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.commands.shared.console import say
from demega_jax.commands.shared.options import THERE, check_outputs, level_option, refuse_idle
from demega_jax.commands.shared.predicting import (
    Asked,
    Denoise,
    EnsembleOption,
    Runs,
    Seed,
    Tta,
    ValidationData,
    check_idle,
    expand,
    fit_combination,
    make_ensemble,
    open_models,
    prepared,
    validation_data,
)
from demega_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from demega_jax.data.split import Split
    from demega_jax.evaluation.model import Model
    from demega_jax.evaluation.predict import Predictions
    from demega_jax.evaluation.runs import Combination, Ensemble
    from demega_jax.evaluation.stack.use import StackCombination

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
    ctx: typer.Context, runs: Runs, input_path: Input, output: Output, split: Split_ = "validation",
    level: Level = None, ensemble: EnsembleOption = "mean", data: ValidationData = None, tta: Tta = False,
    seed: Seed = 0, denoise: Denoise = False, embeddings: Embeddings = False,
) -> int:  # fmt: skip
    """Predict the classes of windows with one or several training runs."""
    check_outputs(output)
    if output.suffix not in (".csv", ".npz"):
        raise UserError("--output", str(output), "a file that ends in .csv or .npz", "choose another name")
    if embeddings and output.suffix == ".csv":
        raise UserError("--embeddings", "given with a .csv file", "an .npz file", "write --output FILE.npz")
    if not (input_path.is_dir() or input_path.is_file()):
        came = "a FIFO or a device" if input_path.exists() else "no such file or folder"
        raise UserError("--input", f"{input_path}: {came}", "windows to predict", "correct the path")
    check_idle(ctx, method=ensemble, tta=tta)
    if input_path.is_file():
        refuse_idle(ctx, "--split", f"given for the file {input_path}", "a folder as --input")
    bases, asked = expand(runs, Asked(ensemble, seed if tta else None, denoise, embeddings))
    models = open_models(ctx.obj, bases)
    rows = prepared(_open(input_path, split, level, models[0], asked), models, asked)
    placed = make_ensemble(models, rows, asked)
    combination = fit_combination(placed, validation_data(models[0], data, rows), asked)
    _predict(placed, combination, rows, output)
    return 0


def _open(path: Path, split: str, level: list[str] | None, model: "Model", asked: Asked) -> "Split":
    """The rows to predict."""
    from demega_jax.commands.shared.config import with_levels
    from demega_jax.config.load import override
    from demega_jax.data.open import open_input

    config = model.config
    if path.is_dir():
        config = override(config, {"data.path": str(path)}, "--input")
        config = with_levels(config, level or asked.levels, (), config.data)
    elif level:
        raise UserError("--level", f"given for the file {path}", "a folder as --input", "leave out --level")
    return open_input(path, split, config.data, classes=model.classes, expect_shape=model.window)


def _predict(ensemble: "Ensemble", combination: "Combination | StackCombination", split: "Split", output: Path) -> None:
    """Write the predictions, and print how many there are and, where rows have labels, the score."""
    from demega_jax.commands.shared.console import status_line
    from demega_jax.console import new_console
    from demega_jax.evaluation.prediction_files import write_predictions

    console = new_console()
    pairs: collections.Counter[tuple[int, int]] = collections.Counter()
    done, labelled = 0, split.labelled and split.rows > 0

    def batches() -> "Iterator[tuple[Predictions, np.ndarray]]":
        nonlocal done
        for found in ensemble.batches(split):
            p = combination(found)
            pairs.update(zip(found.labels.tolist(), p.argmax(axis=1).tolist(), strict=True))
            yield found, p
            done += len(p)
            tell(f"{done:,} of {split.rows:,} rows")

    with status_line(console) as tell:
        write_predictions(output, batches(), ensemble.models[0].classes, labelled=labelled)
    models = "1 model" if ensemble.members == 1 else f"{combination.method} of {ensemble.members} models"
    console.print(f"{output}: {split.rows:,} rows, {len(split.classes)} classes, {models}", soft_wrap=True)
    if labelled:
        _print_score(pairs, len(split.classes))


def _print_score(pairs: "collections.Counter[tuple[int, int]]", classes: int) -> None:
    import numpy as np

    from demega_jax.evaluation.statistics import bootstrap_macro_f1, macro_f1_of

    confusion = np.zeros((classes, classes), np.int64)
    for (label, predicted), count in pairs.items():
        confusion[label, predicted] = count
    interval = bootstrap_macro_f1(confusion)
    say(f"macro-F1 {float(macro_f1_of(confusion)):.4f} (95 % interval over rows: {interval})")
