"""The stages of a stack: base models, their logits for the same rows, and the stackers. What is done is kept."""

import dataclasses
import functools
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demega_jax.config import Config, DataConfig, StackConfig
from demega_jax.config.load import override
from demega_jax.data.folder import data_folder, is_recorded
from demega_jax.data.open import open_split
from demega_jax.data.recordings.splits import splits_text, write_splits
from demega_jax.data.recordings.tree import open_recordings
from demega_jax.data.split import Split
from demega_jax.errors import UserError, warn
from demega_jax.evaluation.fit import fit
from demega_jax.evaluation.model import Model
from demega_jax.evaluation.plan_file import begin_or_join
from demega_jax.evaluation.predict import Predictions
from demega_jax.evaluation.runs import Ensemble, as_seen, load_runs
from demega_jax.evaluation.stack.crossfit import (
    KINDS,
    Features,
    Fitted,
    Kind,
    cross_fit,
    fit_in_sample,
    fit_out_of_fold,
    side_by_side,
)
from demega_jax.evaluation.stack.folds import run_folds
from demega_jax.files import atomic_write, fingerprint
from demega_jax.training.checkpoint import checksum, flatten
from demega_jax.training.run import RunFolder
from demega_jax.training.signals import Signals

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class StackPlan:
    """What is stacked. folder: of the stack.  config: of base models that are trained here, and of the stackers.

    given: run folders of base models; empty: one is trained for each of `levels`.  in_sample: whether stackers learn
    from and are scored on the same rows.
    """

    folder: Path
    config: Config
    given: tuple[Path, ...]
    levels: tuple[int, ...]
    in_sample: bool
    devices: int | None = None

    @property
    def by_recording(self) -> bool:
        """Whether stackers learn from train, with logits of base models that have not seen the recording."""
        data = self.config.data
        return not self.given and not self.in_sample and is_recorded(data_folder(data.path), data.feed)

    @property
    def level(self) -> int | None:
        """The level of the rows that all base models predict; None: that of the only data there are."""
        return self.config.stack.level or (max(self.levels) if self.levels else None)

    @property
    def fitted(self) -> str:
        """How the stackers are fitted, in words."""
        if self.in_sample:
            return "on validation, and scored on the same rows (in-sample)"
        if self.by_recording:
            return f"on out-of-fold logits of train, {self.config.stack.folds} folds of recordings"
        return f"on validation, cross-fitted in {self.config.stack.folds} folds of rows"

    @property
    def file(self) -> Path:
        """What the stack is made of, so that only the same one is continued."""
        return self.folder / "plan.json"

    def bases(self) -> tuple[Path, ...]:
        """The run folders of the base models."""
        return self.given or tuple(self.folder / "bases" / f"level_{level}" for level in self.levels)

    def begin_or_join(self, *, join: bool) -> None:
        """Write plan.json into a new folder, or join the same stack there: what is kept is of these very settings.

        UserError: as for `plan_file.begin_or_join`.
        """
        plan: dict[str, object] = {"bases": [str(path.absolute()) for path in self.given], "levels": list(self.levels)}
        plan |= {"in_sample": self.in_sample, "config": self.config.model_dump(mode="json")}
        begin_or_join(self.file, "stack", plan, join=join)

    def base_config(self, level: int) -> Config:
        """The configuration of a base model of a level. The keys of the stackers are not its own."""
        return override(self.config.model_copy(update={"stack": StackConfig()}), {"data.level": level}, "stack")

    def rows_of(self, data: DataConfig) -> DataConfig:
        """The data configuration with the level of the rows."""
        return data if self.level is None else data.model_copy(update={"level": self.level})


def check(plan: StackPlan) -> None:
    """UserError: recordings have too few session runs for the folds. It is raised before anything is trained."""
    if plan.by_recording:
        tree = open_recordings(data_folder(plan.config.data.path), plan.config.data)
        run_folds(tree.runs, plan.config.stack.folds)


def train_bases(plan: StackPlan, signals: Signals, say: Say) -> None:
    """Train the base models that were not given, or go on where training stopped."""
    for level, run in zip(plan.levels, plan.bases(), strict=False) if not plan.given else ():
        say(f"base model of level {level}: {run}")
        fit(plan.base_config(level), RunFolder(run), signals, say, plan.devices)


def base_predictions(
    plan: StackPlan, models: Sequence[Model], name: str, split: Callable[[], Split], say: Say
) -> Predictions:
    """The mean logits of each base model for the rows of a split, kept in features/NAME.npz."""
    path = plan.folder / "features" / f"{name}.npz"
    names = tuple(f"{model.name} step {','.join(map(str, model.steps))}" for model in models)
    prints = [_print_of(model) for model in models]
    if path.is_file():
        kept = _kept(path)
        if kept.get("models") == [*names] and kept.get("prints") == prints:
            return Predictions(names, models[0].classes, kept["labels"], kept["logits"])
        warn(f"{path} is damaged or of other base models, and is made again")
    say(f"logits of {len(models)} base models for {name}")
    rows = split()
    found = Ensemble.of(models, rows=rows.rows).predict(rows)
    ends = np.cumsum([len(model.steps) for model in models])
    logits = np.stack([part.mean(axis=0) for part in np.split(found.logits, ends[:-1])])
    with atomic_write(path, "choose another --run") as aside, aside.open("wb") as file:
        np.savez(file, logits=logits, labels=found.labels, models=np.array(names), prints=np.array(prints))
    return Predictions(names, found.classes, found.labels, logits)


def _print_of(model: Model) -> str:
    """A fingerprint of the parameters and buffers of a model."""
    arrays = flatten({"params": model.params, "buffers": model.buffers})
    return fingerprint({name: checksum(array) for name, array in arrays.items()})


def _kept(path: Path) -> dict[str, Any]:
    """What a file of features holds, with the names as lists; empty where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}
    if not {"labels", "logits"} <= arrays.keys():
        return {}
    return arrays | {name: arrays[name].tolist() for name in ("models", "prints") if name in arrays}


def validation_or_test(plan: StackPlan, models: Sequence[Model], name: str, say: Say) -> Predictions:
    """What the base models say about the rows of a split."""
    data = plan.rows_of(plan.config.data)
    return base_predictions(plan, models, name, functools.partial(_open, data, models, name), say)


def _open(data: DataConfig, models: Sequence[Model], name: str) -> Split:
    """The rows of a split that all base models predict."""
    first = models[0]
    data = as_seen(data, first)
    return open_split(data_folder(data.path), name, data, classes=first.classes, expect_shape=first.window)


def out_of_fold(plan: StackPlan, signals: Signals, say: Say) -> Predictions:
    """Logits for the rows of train, each by base models that were trained without its recording.

    For each fold of session runs, a model of every level is trained on the other session runs.
    """
    folder = data_folder(plan.config.data.path)
    tree = open_recordings(folder, plan.config.data)
    parts = []
    for number, assigned in enumerate(run_folds(tree.runs, plan.config.stack.folds)):
        where = plan.folder / "folds" / str(number)
        splits = where / "splits.json"
        left_out = tree.runs.get("test", ())
        if not splits.is_file():
            write_splits(splits, assigned, left_out)
        elif splits.read_text(encoding="utf-8") != splits_text(assigned, left_out):
            way_out = "remove it and the runs beside it, then continue with --resume"
            raise UserError(splits, "other session runs than those of this fold", "the file as it was written", way_out)
        keys = {"data.regroup.splits": str(splits.absolute())}
        runs = [where / f"level_{level}" for level in plan.levels]
        for level, run in zip(plan.levels, runs, strict=True):
            say(f"fold {number + 1} of {plan.config.stack.folds}, level {level}: {run}")
            fit(
                override(plan.config, keys | {"data.level": level}, "stack"), RunFolder(run), signals, say, plan.devices
            )
        models = load_runs(runs)
        data = plan.rows_of(override(plan.config, keys, "stack").data)

        def rows(data: DataConfig = data, first: Model = models[0]) -> Split:
            return open_split(folder, "test", as_seen(data, first), classes=first.classes, expect_shape=first.window)

        parts.append(base_predictions(plan, models, f"fold_{number}", rows, say))
    logits = np.concatenate([part.logits for part in parts], axis=1)
    labels = np.concatenate([part.labels for part in parts])
    return Predictions(parts[0].names, parts[0].classes, labels, logits)


def fit_stackers(plan: StackPlan, validation: Predictions, signals: Signals, say: Say) -> dict[Kind, Fitted]:
    """The stackers of each kind, fitted as the plan says."""
    config = plan.config.stack
    choose = features_of(validation)
    if plan.in_sample:
        warn("the stackers learn from the rows on which they are scored, so their validation scores are too good")
        return {kind: fit_in_sample(kind, choose, config) for kind in KINDS}
    if plan.by_recording:
        learn = features_of(out_of_fold(plan, signals, say))
        return {kind: fit_out_of_fold(kind, learn, choose, config) for kind in KINDS}
    return {kind: cross_fit(kind, choose, config, say) for kind in KINDS}


def features_of(found: Predictions) -> Features:
    """What stackers learn from. UserError: a row has no label."""
    if (found.labels < 0).any():
        raise UserError("stack", "rows without a label", "a label for every row", "give data with labels")
    return Features(side_by_side(found.logits), found.labels, len(found.classes))
