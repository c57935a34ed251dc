"""`demega_jax.predict`: probabilities, logits and embeddings of training runs for any windows."""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from demega_jax.api.models import Asked, Method, Runs, run_paths
from demega_jax.api.paths import PathLike, check_one_of, check_outputs, check_replaced
from demega_jax.api.prediction import Prediction, Rows, Tell, opened
from demega_jax.api.shown import status_or_lines
from demega_jax.errors import UserError
from demega_jax.files import expanded
from demega_jax.names import SPLITS
from demega_jax.saying import Loudness, in_python, loudness

if TYPE_CHECKING:
    from demega_jax.api.asked import Levels
    from demega_jax.data.split import Split
    from demega_jax.evaluation.model import Model

LINE_SECONDS = 10.0  # from line to line of the progress, where it cannot move


@dataclasses.dataclass(frozen=True, eq=False)
class PredictResult:
    """What training runs say about N windows.

    probabilities [N, V]: of the ensemble, whose columns are `classes` (V names).  models: the M names.
    logits [M, N, V]: of each model.  labels [N]: positions in classes, -1 where none is known; None: the input has no
    labels.  embeddings: where they were asked for, of each run [m, N, Z], for its m models.
    tta [M, N, V]: the probabilities with test-time augmentation, where it was asked for.
    """

    probabilities: Float[np.ndarray, "N V"]
    classes: tuple[str, ...]
    models: tuple[str, ...]
    logits: Float[np.ndarray, "M N V"]
    labels: Int[np.ndarray, " N"] | None
    embeddings: tuple[Float[np.ndarray, "m N Z"], ...] = ()
    tta: Float[np.ndarray, "M N V"] | None = None

    @property
    def predicted(self) -> list[str]:
        """The name of the most likely class of each window."""
        return [self.classes[number] for number in self.probabilities.argmax(axis=1)]


@in_python
def predict(
    runs: Runs,
    windows: ArrayLike | PathLike,
    *,
    split: Literal["train", "validation", "test"] = "validation",
    level: "Levels | None" = None,
    ensemble: Method = "mean",
    data: PathLike | None = None,
    tta: int | None = None,
    denoise: bool = False,
    embeddings: bool = False,
    progress: bool = True,
) -> PredictResult:
    """Predict the classes of windows with one or several training runs, as `demega-jax predict` does.

    runs: a run folder, several, or a stack.  windows: an array [N, C, T] of N windows of C sensors and T time points,
    standardised as grouped files are; or the path of a .npy, .npz, .pt or grouped file, or of a folder that holds
    grouped_K or recordings, of which `split` and `level` choose the rows.  ensemble: how several models are combined.
    data: the folder with the validation split that the weights of `ensemble="weighted"` are fitted on.  tta: the seed
    of test-time augmentation; None: without.  denoise: denoise windows by wavelets first.  progress: whether to
    show how many rows are done: beside a spinner on a terminal, elsewhere (in a notebook too) in a line each 10 s.
    UserError: what is asked for cannot be done, another shape, or values that are not finite.
    """
    check_one_of("--split", split, SPLITS)
    check_one_of("--ensemble", ensemble, get_args(Method))
    asked = Asked(ensemble, tta, denoise, embeddings)
    paths = run_paths(runs)
    with (
        loudness(Loudness.USUAL if progress else Loudness.SILENT),
        _opened(paths, windows, split, level, data, asked) as prediction,
    ):
        from demega_jax.console import new_console
        from demega_jax.evaluation.predict import joined

        with status_or_lines(new_console(), LINE_SECONDS) as tell:
            parts = list(prediction.batches(tell))
    found = joined([part for part, _ in parts])
    probabilities = np.concatenate([p for _, p in parts])
    labels = found.labels if prediction.labelled else None
    return PredictResult(
        probabilities, prediction.classes, tuple(found.names), found.logits, labels, tuple(found.embeddings), found.tta
    )


# The first bytes of the files that `predict_to` writes: the head of a .csv; in an .npz, the name of its first array.
CSV_HEADS, FIRST_ARRAY = (b"row,predicted,", b"row,label,predicted,"), b"probabilities.npy"
ZIP_NAME = 30  # the place of the name of the first file in a zip archive


def is_predictions(head: bytes) -> bool:
    """Whether a file that begins with these bytes is one of predictions."""
    return head.startswith(CSV_HEADS) or head[ZIP_NAME:].startswith(FIRST_ARRAY)


@dataclasses.dataclass(frozen=True)
class Written:
    """What a file of predictions holds.

    models: how many there are, and how they are combined.  confusion [V, V]: counts of (label, predicted); None without
    labels.
    """

    path: Path
    rows: int
    classes: tuple[str, ...]
    models: str
    confusion: Int[np.ndarray, "V V"] | None


def predict_to(
    output: Path,
    runs: Runs,
    windows: PathLike,
    *,
    split: str,
    level: "Levels | None",
    data: PathLike | None,
    asked: Asked,
    tell: Tell,
    force: bool = False,
) -> Written:
    """`predict` into a .csv or .npz file, whose rows of a .csv need not fit in memory. tell: shows how far it is.

    force: replace a file that no `predict` wrote.  The other arguments are those of `predict`. UserError: as there, and
    if the file cannot be written.
    """
    check_outputs(output)
    if output.suffix not in (".csv", ".npz"):
        raise UserError("--output", str(output), "a file that ends in .csv or .npz", "choose another name")
    if asked.embedding and output.suffix == ".csv":
        raise UserError("--embeddings", "given with a .csv file", "an .npz file", "write --output FILE.npz")
    check_replaced(output, is_predictions, force=force)
    with _opened(run_paths(runs), windows, split, level, data, asked) as prediction:
        from demega_jax.evaluation.prediction_files import write_predictions

        found = prediction.batches(tell)
        counted = np.zeros((len(prediction.classes),) * 2, np.int64)
        labelled = prediction.labelled
        write_predictions(output, _counted(found, counted), prediction.classes, labelled=labelled)
    return Written(output, prediction.rows.rows, prediction.classes, prediction.models, counted if labelled else None)


def _counted(batches: Iterator[Rows], confusion: Int[np.ndarray, "V V"]) -> Iterator[Rows]:
    """The same batches; their labelled rows are added to the counts of (label, predicted)."""
    for found, p in batches:
        known = found.labels >= 0
        np.add.at(confusion, (found.labels[known], p.argmax(axis=1)[known]), 1)
        yield found, p


def _opened(
    runs: list[Path],
    windows: ArrayLike | PathLike,
    split: str,
    level: "Levels | None",
    data: PathLike | None,
    asked: Asked,
) -> AbstractContextManager[Prediction]:
    """Windows and the models that predict them, as `opened` has them. UserError: a path is not there."""
    given = _checked_path(windows) if isinstance(windows, str | Path) else windows
    return opened(runs, lambda model, asked: _open(given, split, level, model, asked), data, asked)


def _checked_path(windows: PathLike) -> Path:
    path = Path(expanded(str(windows)))
    if not (path.is_dir() or path.is_file()):
        came = "a FIFO or a device" if path.exists() else "no such file or folder"
        raise UserError("--input", f"{path}: {came}", "windows to predict", "correct the path")
    return path


def _open(windows: ArrayLike | Path, split: str, level: "Levels | None", model: "Model", asked: Asked) -> "Split":
    """The rows to predict."""
    from demega_jax.api.asked import with_levels
    from demega_jax.config.load import override
    from demega_jax.data.arrays import array_split
    from demega_jax.data.open import open_input

    config = model.config
    if isinstance(windows, Path) and windows.is_dir():
        config = override(config, {"data.path": str(windows)}, "--input")
        config = with_levels(config, level or list(asked.levels), (), config.data)
    elif level:
        came = f"given for the file {windows}" if isinstance(windows, Path) else "given for an array"
        raise UserError("--level", came, "a folder as --input", "leave out --level")
    if not isinstance(windows, Path):
        return array_split(windows, model.classes, model.window)
    return open_input(windows, split, config.data, classes=model.classes, expect_shape=model.window)
