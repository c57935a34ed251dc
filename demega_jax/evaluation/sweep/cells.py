"""The cells of a sweep: the models of one level, tested at one level."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import TypeAdapter
from scipy import stats

from demega_jax.data.folder import data_folder
from demega_jax.data.open import open_split
from demega_jax.errors import UserError, shortened
from demega_jax.evaluation.model import Model
from demega_jax.evaluation.runs import Ensemble, as_seen
from demega_jax.evaluation.statistics import LEVEL, Interval, bootstrap_macro_f1
from demega_jax.evaluation.sweep.plan import Sweep
from demega_jax.files import SEAL, check_sealed, sealed, write_json
from demega_jax.metrics import confusion_matrix, macro_f1
from demega_jax.reading import read_json
from demega_jax.training.members import read_log


@dataclasses.dataclass(frozen=True)
class Cell:
    """Scores of models that were trained at one level and tested at another.

    macro_f1: of each seed.  ensemble: of the mean of their probabilities.  low, high: the 95 % interval of the mean
    over seeds (Student's t); with one seed, the bootstrap interval over rows.  step_seconds, epoch_seconds: of the
    training run, medians of finished steps; None if the log has no rate.  chance: 1 / number of classes that occur.
    """

    trained: int
    tested: int
    split: str
    rows: int
    macro_f1: tuple[float, ...]
    ensemble: float
    low: float
    high: float
    step_seconds: float | None
    epoch_seconds: float | None
    chance: float | None = None

    @property
    def mean(self) -> float:
        """The mean macro-F1 over seeds."""
        return statistics.fmean(self.macro_f1)

    @property
    def deviation(self) -> float:
        """The standard deviation over seeds (of a sample); 0 for one seed."""
        return statistics.stdev(self.macro_f1) if len(self.macro_f1) > 1 else 0.0

    @classmethod
    def read(cls, path: Path) -> Self:
        """The cell of a file. UserError: it is damaged, or not what was written."""
        try:
            raw = read_json(path)
            check_sealed(raw)
            raw.pop(SEAL, None)
            return TypeAdapter(cls).validate_python(raw)
        except (OSError, ValueError, AttributeError) as error:
            reason = shortened(" ".join(str(error).split()), 120)
            way_out = "delete it, and run the sweep again with --resume"
            raise UserError(path, f"damaged ({reason})", "a cell of a sweep", way_out) from None

    def write(self, path: Path) -> None:
        """Write the cell as JSON by an atomic write."""
        write_json(path, sealed(dataclasses.asdict(self)))


def score_cell(sweep: Sweep, model: Model, trained: int, tested: int) -> Cell:
    """Test the models of a level at another level."""
    data = as_seen(sweep.config_of(tested).data, model)
    split = open_split(data_folder(data.path), sweep.split, data, classes=model.classes, expect_shape=model.window)
    found = Ensemble.of([model], rows=split.rows).predict(split)
    predicted = found.plain.argmax(axis=-1)
    each = tuple(macro_f1(found.labels, one) for one in predicted)
    together = found.plain.mean(axis=0).argmax(axis=-1)
    confusion = confusion_matrix(found.labels, predicted[0], len(found.classes))
    interval = over_seeds(each) if len(each) > 1 else bootstrap_macro_f1(confusion)
    step, epoch = times(sweep, trained)
    return Cell(
        trained=trained,
        tested=tested,
        split=sweep.split,
        rows=split.rows,
        macro_f1=each,
        ensemble=macro_f1(found.labels, together),
        low=interval.low,
        high=interval.high,
        step_seconds=step,
        epoch_seconds=epoch,
        chance=1 / int(np.count_nonzero(split.class_counts())),
    )


def over_seeds(scores: Sequence[float]) -> Interval:
    """The 95 % interval of the mean of scores by Student's t distribution."""
    half = stats.t.ppf((1 + LEVEL) / 2, len(scores) - 1) * np.std(scores, ddof=1) / np.sqrt(len(scores))
    mean = statistics.fmean(scores)
    return Interval(float(mean - half), float(mean + half))


def times(sweep: Sweep, level: int) -> tuple[float | None, float | None]:
    """Seconds of a step, and of an epoch, of the training run of a level: of all its seeds side by side."""
    config, run = sweep.config_of(level), sweep.run(level)
    lines = [line for line in read_log(run.members(config)[0]) if line["split"] == "train"]
    rates = [line["samples_per_second"] for line in lines if line.get("samples_per_second")]
    epochs = [line for line in lines if line.get("epoch")]
    if not rates or not epochs:
        return None, None
    step = config.train.batch_size / statistics.median(rates)
    return step, step * epochs[-1]["step"] / epochs[-1]["epoch"]
