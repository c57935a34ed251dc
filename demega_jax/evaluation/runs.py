"""Several training runs as one ensemble: loaded, checked against each other, and put on the devices."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from demega_jax.config import Config, DataConfig, WindowsConfig
from demega_jax.data.split import Split
from demega_jax.data.trained import trained_together
from demega_jax.errors import UserError
from demega_jax.evaluation.ensemble import Method, check_same, combine, fit_weights
from demega_jax.evaluation.model import Model, load
from demega_jax.evaluation.predict import Predictions, Predictor, iter_predictions, predict_split
from demega_jax.evaluation.tta import TestTimeAugmentation


def load_runs(runs: Sequence[Path]) -> list[Model]:
    """The models of training runs. Each knows of the windows of training what any of them does.

    UserError: a run is named twice, or classes, windows or their events differ.
    """
    resolved = [run.resolve() for run in runs]
    for number, run in enumerate(resolved):
        if run in resolved[:number]:
            raise UserError(runs[number], "this training run is named twice", "different runs", "leave it out once")
    models = [load(run) for run in runs]
    check_same([(model.name, model.classes, model.window) for model in models])
    windows = trained_together([(model.name, model.config.data) for model in models])
    return [dataclasses.replace(model, config=_with_windows(model.config, windows)) for model in models]


def _with_windows(config: Config, windows: WindowsConfig) -> Config:
    """The configuration with what is known of the windows of training from other runs, too."""
    return config.model_copy(update={"data": config.data.model_copy(update={"windows": windows})})


def as_seen(data: DataConfig, model: Model) -> DataConfig:
    """The configuration of data, with what is known of the windows that a model was trained on."""
    seen = model.config.data
    return data.model_copy(update={"windows": seen.windows, "augment": seen.augment})


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Models on the devices. batch_size: rows that are computed at once."""

    models: tuple[Model, ...]
    predictors: tuple[Predictor, ...]
    batch_size: int

    @classmethod
    def of(
        cls, models: Sequence[Model], *, rows: int, embedding: bool = False, tta: TestTimeAugmentation | None = None
    ) -> "Ensemble":
        """The ensemble of models on all devices. rows: of the input, which can be fewer than a batch."""
        placement, batch_size = models[0].placement(min(models[0].config.train.batch_size, rows))
        predictors = tuple(Predictor(model, placement, embedding=embedding, tta=tta) for model in models)
        return cls(tuple(models), predictors, batch_size)

    @property
    def members(self) -> int:
        """Number of models, of all runs together."""
        return sum(len(model.steps) for model in self.models)

    def batches(self, split: Split) -> Iterator[Predictions]:
        """The predictions for the rows of a split, batch after batch."""
        return iter_predictions(self.predictors, split, self.batch_size)

    def predict(self, split: Split) -> Predictions:
        """The predictions for all rows of a split."""
        return predict_split(self.predictors, split, self.batch_size)

    def predicted(self, split: Split) -> Int[np.ndarray, " N"]:
        """The class that the mean of all models' probabilities is largest for, for each row of a split."""
        return combine(self.predict(split), "mean").argmax(axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Combination:
    """How the models are combined. weights [M]: those of the method `weighted`."""

    method: Method
    weights: Float[np.ndarray, " M"] | None = None

    @classmethod
    def fit(cls, method: Method, ensemble: Ensemble, validation: Split | None) -> "Combination":
        """A method, with weights fitted on validation where it has weights."""
        if method != "weighted":
            return cls(method)
        assert validation is not None, "the method `weighted` needs validation rows"
        found = ensemble.predict(validation)
        return cls(method, fit_weights(found.probabilities, found.labels))

    def __call__(self, found: Predictions) -> Float[np.ndarray, "N V"]:
        """The probabilities of the ensemble."""
        return combine(found, self.method, self.weights)
