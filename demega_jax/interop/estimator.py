"""DeMEGa as a scikit-learn classifier, for windows [n, sensors, times] such as `epochs.get_data()` of MNE gives."""

import dataclasses
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree
from numpy.typing import ArrayLike

from demega_jax.config import Config
from demega_jax.config.given import ConfigLike, read_given
from demega_jax.config.load import override
from demega_jax.console import new_console
from demega_jax.data.combined import ArraySplit
from demega_jax.data.open import TrainingData, plan_rows
from demega_jax.errors import UserError, install
from demega_jax.evaluation.evaluate import validation_of
from demega_jax.evaluation.model import Model, load
from demega_jax.files import expanded
from demega_jax.interop.run_writer import Trained, write_run
from demega_jax.phonemes import PHONEMES
from demega_jax.saying import in_python
from demega_jax.training.loop import Loop
from demega_jax.training.parallel import make_placement
from demega_jax.training.program_cache import keep_programs
from demega_jax.training.quiet import quiet_orbax
from demega_jax.training.restore import start_state
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import make_experiment
from demega_jax.training.signals import Signals
from demega_jax.training.state import abstract
from demega_jax.training.writers import read_metrics

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import Tags, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    came, way_out = "scikit-learn is not installed", f"To install it, {install('sklearn')}."
    raise ImportError(f"DemegaClassifier: {came}. Expected: version 1.6 or newer. {way_out}") from None

NAME = "DemegaClassifier"
# What the data decide, whatever a configuration says that was written for other data.
FROM_DATA = {"model.sensors": None, "model.time_points": None, "model.classes": None, "data.path": None}
WITHOUT_IPA = {"model.ipa_width": 0, "loss.ipa_weight": 0.0}


class DemegaClassifier(ClassifierMixin, BaseEstimator):
    """Trains DeMEGa on windows X [n, sensors, times] with labels y [n] of any kind.

    config: a YAML file, a `Config` or a mapping of sections; None: the defaults.  changes: keys to change in it, such
    as {"train.epochs": 5, "optim.learning_rate": 1e-3}.  validation_share: share of each class's rows that is kept from
    training, to choose the best step and to stop early (train.early_stopping); 0: the last step is taken.
    random_state: of the held-out rows, of parameters and of the order of rows; None: train.seed of the configuration.
    devices: how many; None: all.  verbose: whether to print the progress.

    Windows must be standardised, or near it: in tesla they are so small that a warning says so. A `Pipeline` with
    `mne.decoding.Scaler`, or a `FunctionTransformer` that multiplies by 1e12, makes them larger. Where labels are no
    phonemes, the model has no head for phonetic features.

    After `fit`: classes_ [V], n_features_in_ (sensors), n_times_in_, model_ (the `Model` of `demega_jax.load`) and
    history_ (the lines of metrics.jsonl).
    """

    def __init__(
        self,
        config: ConfigLike | None = None,
        *,
        changes: Mapping[str, Any] | None = None,
        validation_share: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        devices: int | None = None,
        verbose: bool = False,
    ):
        self.config = config
        self.changes = changes
        self.validation_share = validation_share
        self.random_state = random_state
        self.devices = devices
        self.verbose = verbose

    @functools.partial(in_python, parameters_of=__init__)
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on windows X [n, sensors, times] with labels y [n].

        ValueError: X or y has another shape, values not finite, or fewer than two classes. UserError: the configuration
        does not fit.
        """
        x, y = check_X_y(X, y, allow_nd=True, dtype=np.float32, estimator=self)
        check_classification_targets(y)
        check_windows(x)
        validate_data(self, x, skip_check_array=True)  # it notes the number of sensors
        self.classes_, ids = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only ({self.classes_[0]!r}). Expected: two classes or more.")
        self.n_times_in_ = x.shape[2]
        config = self._config(tuple(str(name) for name in self.classes_.tolist()))
        kept, held = hold_out(ids, self.validation_share, config.train.seed)
        names = tuple(str(name) for name in self.classes_.tolist())
        train, validation = (
            _split(part, x, ids, names, rows) for part, rows in (("train", kept), ("validation", held))
        )
        self.model_, self.history_ = _train(config, train, validation, self.devices, self.verbose)
        return self

    def predict_proba(self, X: ArrayLike) -> Float[np.ndarray, "n V"]:
        """Probabilities of the classes, in the order of classes_."""
        check_is_fitted(self)
        x = check_array(X, allow_nd=True, dtype=np.float32, estimator=self)
        check_windows(x, self.model_.window[1])
        validate_data(self, x, reset=False, skip_check_array=True)
        return self.model_.predict(x)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most likely label of each window [n]."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def save(self, run: str | Path) -> None:
        """Write the fitted model as a run folder, for `demega_jax.load` and the commands.

        Class names there are the labels as text. UserError: the folder is not free, or cannot be written.
        """
        check_is_fitted(self)
        model = self.model_
        models = [
            Trained(_part(model.member_params, number), _part(model.member_buffers, number), step)
            for number, step in enumerate(model.steps)
        ]
        write_run(Path(expanded(str(run))), model.config, models, {"class_counts": model.class_counts.tolist()})

    def _config(self, classes: tuple[str, ...]) -> Config:
        """The configuration to train with. UserError: it does not fit."""
        given, where = self.config, f"{NAME}(config=..)"
        config = read_given(given, where)
        changes = dict(self.changes or {})
        if self.random_state is not None:
            changes["train.seed"] = int(check_random_state(self.random_state).randint(2**31 - 1))
        config = override(config, changes | FROM_DATA, f"{NAME}(changes=..)")
        if not set(classes) <= set(PHONEMES):
            config = override(config, WITHOUT_IPA, f"{NAME}: labels that are no phonemes")
        if config.data.feed == "regroup":
            way_out = "set data.feed to stream or resident"
            raise UserError(where, "data.feed=regroup, which reads recordings", "a feed of windows", way_out)
        if not 0 <= self.validation_share < 1:
            came = f"validation_share={self.validation_share}"
            raise UserError(NAME, came, "a share from 0 up to, but without, 1", "set validation_share=0.1")
        if not self.validation_share:  # one validation, after the last step, which is then the best one
            last = {"train.eval_every": 2**31 - 1, "train.early_stopping": None}
            config = override(config, last, f"{NAME}(validation_share=0)")
        return config

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn should know: X has three axes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The state for pickle: the model as arrays of numpy."""
        state = dict(super().__getstate__())
        model: Model | None = state.get("model_")
        if model is not None:
            arrays = jax.tree.map(np.asarray, (model.params, model.buffers))
            state["model_"] = (model.config, *arrays, model.steps, model.class_counts)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` gave."""
        if "model_" in state:
            config, params, buffers, steps, counts = state["model_"]
            graphdef = abstract(config.model)[0]
            params, buffers = jax.tree.map(jax.numpy.asarray, (params, buffers))
            state = state | {"model_": Model(NAME, config, graphdef, params, buffers, steps, counts)}
        super().__setstate__(state)


def check_windows(x: np.ndarray, times: int | None = None) -> None:
    """ValueError: another shape than [n, sensors, times], or nothing in it. times: None where any number fits."""
    if x.ndim != 3 or not x.size:
        wanted = "an array of shape [n, sensors, times], such as epochs.get_data() gives"
        raise ValueError(f"X has shape {list(x.shape)}. Expected: {wanted}.")
    if times is not None and x.shape[2] != times:
        raise ValueError(f"X has {x.shape[2]} time points. Expected: {times}, as in fit.")


def hold_out(
    ids: Int[np.ndarray, " n"], share: float, seed: int
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " h"]]:
    """Rows to train on and rows to validate on: this share of the rows of each class, but never all of a class.

    If that is no row at all, one row of the largest class is taken; where every class has one row only (or share is 0),
    all rows are in both.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(ids == number)) for number in range(ids.max() + 1)]
    count = [min(len(each) - 1, round(share * len(each))) for each in rows]
    if share and not any(count):
        largest = int(np.argmax([len(each) for each in rows]))
        count[largest] = min(1, len(rows[largest]) - 1)
    held = np.sort(np.concatenate([each[:n] for each, n in zip(rows, count, strict=True)]))
    everything = np.arange(len(ids))
    return (np.setdiff1d(everything, held), held) if len(held) else (everything, everything)


def _split(
    name: str, x: Float[np.ndarray, "n C T"], ids: Int[np.ndarray, " n"], classes: tuple[str, ...], rows: np.ndarray
) -> ArraySplit:
    """Some of the windows as a split in memory."""
    return ArraySplit(
        path=Path("X"),
        name=name,
        level=None,
        sensors=x.shape[1],
        time_points=x.shape[2],
        classes=classes,
        labels=ids[rows].astype(np.int32),
        x=x[rows],
    )


def _train(
    config: Config, train: ArraySplit, validation: ArraySplit, devices: int | None, verbose: bool
) -> tuple[Model, list[dict[str, Any]]]:
    """Train with the loop of `demega-jax train`; the best model and the lines of its log."""
    keep_programs()
    data = TrainingData(plan_rows(config, train), validation)
    placement = make_placement("jit", devices, config.train.batch_size, config.train.accumulate)
    experiment = make_experiment(config, data, placement)
    data.plan.check_spread(config.model.input_norm)
    console = new_console(quiet=not verbose)
    # The loop keeps its best checkpoints in a folder.
    with quiet_orbax(), tempfile.TemporaryDirectory(prefix="demega-jax-") as aside:
        folder = RunFolder(Path(aside) / "run")
        state, metas = start_state(experiment, folder, None, console.print, resume=False)
        loop = Loop(experiment, folder, state, metas, validation_of(experiment))
        loop.run(resumed=False, signals=Signals(), console=console)
        model = dataclasses.replace(load(folder.path), name=NAME)
        lines = [line for member in folder.members(config) for line in read_metrics(member.metrics)]
    return model, lines


def _part(tree: PyTree, number: int) -> PyTree:
    """The tree of one member in a tree with an axis of members in front."""
    return jax.tree.map(lambda leaf: leaf[number], tree)
