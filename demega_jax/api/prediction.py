"""Rows to predict, and the models of training runs on the devices that predict them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from demega_jax.api.models import (
    Asked,
    config_of,
    expand,
    fit_combination,
    make_ensemble,
    prepared,
    rows_to_fit,
    validation_data,
)
from demega_jax.api.paths import PathLike, expanded_path
from demega_jax.api.settings import settings_of
from demega_jax.errors import counted

if TYPE_CHECKING:
    from demega_jax.data.split import Split
    from demega_jax.evaluation.model import Model
    from demega_jax.evaluation.predict import Predictions
    from demega_jax.evaluation.runs import Combination, Ensemble
    from demega_jax.evaluation.stack.use import StackCombination

Tell = Callable[[str], None]
Rows = tuple["Predictions", Float[np.ndarray, "n V"]]  # the predictions of models, and of their ensemble


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Rows to predict, and the models on the devices that predict them."""

    rows: "Split"
    ensemble: "Ensemble"
    combination: "Combination | StackCombination"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the columns of probabilities."""
        return self.ensemble.models[0].classes

    @property
    def labelled(self) -> bool:
        """Whether the rows have labels."""
        return self.rows.labelled and self.rows.rows > 0

    @property
    def models(self) -> str:
        """How many models there are, and how they are combined, in words."""
        members = self.ensemble.members
        return "1 model" if members == 1 else f"{self.combination.method} of {members} models"

    def batches(self, tell: Tell = lambda text: None) -> Iterator[Rows]:
        """The predictions of the rows, some at a time. tell: shows how far it is."""
        done = 0
        for found in self.ensemble.batches(self.rows):
            p = self.combination(found)
            yield found, p
            done += len(p)
            tell(f"{done:,} of {counted(self.rows.rows, 'row')}")

    def probabilities(self, tell: Tell = lambda text: None) -> Float[np.ndarray, "N V"]:
        """The probabilities of all rows, of the ensemble."""
        return np.concatenate([p for _, p in self.batches(tell)])


@contextmanager
def opened(
    runs: Sequence[Path], open_rows: "Callable[[Model, Asked], Split]", data: PathLike | None, asked: Asked
) -> Iterator[Prediction]:
    """Within this block the models are on the devices. UserError: a path is not there, or something does not fit.

    open_rows: opens the rows to predict, for the first model.  data: the folder with the validation split of weights.
    """
    bases, asked = expand(runs, asked)
    with settings_of(config_of(bases)):
        from demega_jax.evaluation.runs import load_runs

        models = load_runs(bases)
        rows = prepared(open_rows(models[0], asked), models, asked)
        placed = make_ensemble(models, rows, asked)
        fitted = rows_to_fit(models, validation_data(models[0], expanded_path(data), rows), asked)
        yield Prediction(rows, placed, fit_combination(placed, fitted, asked))
