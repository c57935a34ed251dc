"""From a configuration and a data folder to everything that a run steps with."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demega_jax.config import Config
from demega_jax.data.feeds.feed import Feed
from demega_jax.data.feeds.stream import batch_arrays
from demega_jax.data.grouped import GroupedSplit
from demega_jax.data.levels import normalization, open_levels
from demega_jax.data.recordings.averaged import open_recordings
from demega_jax.data.sources import is_recorded
from demega_jax.errors import UserError
from demega_jax.losses.focal import class_weights
from demega_jax.training.checkpoint import Checkpoints, flatten
from demega_jax.training.feeds import check_on_device, epoch_steps, make_feed
from demega_jax.training.members import member_config, stack
from demega_jax.training.optimizer import (
    ParameterGroups,
    Schedule,
    learning_rate_schedule,
    make_optimizer,
    run_length,
    schedule_length,
    swa_start_step,
)
from demega_jax.training.parallel import Placement
from demega_jax.training.run import RunFolder
from demega_jax.training.state import TrainState, abstract, build, initial_state
from demega_jax.training.step import EvaluateStep, TrainStep


@dataclasses.dataclass(frozen=True)
class Data:
    """The training and the validation split of one level."""

    train: GroupedSplit
    validation: GroupedSplit


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run before its first step. config is resolved: nothing in it is left to the data."""

    config: Config
    data: Data
    placement: Placement
    train_step: TrainStep
    evaluate_step: EvaluateStep
    schedule: Schedule
    steps_per_epoch: int
    total_steps: int

    def feed(self) -> Feed:
        """The training batches, placed on the devices, from the first step on."""
        return make_feed(self.config, self.data.train, self.placement)

    def batch_arrays(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """(shape, type) of a row of each array in a batch."""
        arrays = batch_arrays(self.data.train)
        if self.config.data.feed == "resident":  # regroup's are float32, whatever the recordings are
            arrays["x"] = (arrays["x"][0], np.dtype(self.config.data.dtype))
        return arrays

    def fresh_state(self) -> TrainState:
        """The state before the first step, members in front; not placed on the devices of the run."""
        states = []
        for number in range(self.config.train.members):
            config = member_config(self.config, number)
            _, params, buffers = build(config.model, config.train.seed)
            states.append(initial_state(config, params, buffers, self.train_step.tx, self.train_step.groups))
        return stack(states)


def open_data(config: Config) -> Data:
    """The splits that training reads: test is not among them."""
    if config.data.path is None:
        raise UserError(
            "--data", "no data folder", "the folder that holds grouped_K",
            "give --data DIR; `demega-jax simulate DIR --level 100 --groups 2000` makes one",
        )  # fmt: skip
    folder = Path(config.data.path)
    if config.data.feed == "regroup":
        recorded = open_recordings(folder, config.data)
        groups = recorded.train(config.model.classes)
        return Data(groups, recorded.averages("validation", groups.classes))
    if is_recorded(folder, config.data):
        raise UserError(
            folder, f"a recording tree, with data.feed={config.data.feed}", "a folder that holds grouped_K",
            "set data.feed=regroup, or average the recordings first: `demega-jax group`",
        )  # fmt: skip
    levels = config.data.level
    train = open_levels(folder, levels, "train", classes=config.model.classes)
    validation = open_levels(
        folder, levels, "validation", classes=train.classes, expect_shape=(train.sensors, train.time_points)
    )
    return Data(train, validation)


def make_experiment(config: Config, data: Data, placement: Placement) -> Experiment:
    """Fill the configuration in from the data and build optimizer and steps."""
    model = config.model.for_data(
        sensors=data.train.sensors, time_points=data.train.time_points, classes=data.train.classes
    )
    if config.data.feed != "stream":
        check_on_device(config, data.train, placement)
    steps_per_epoch = epoch_steps(config, data.train)
    total = run_length(config, steps_per_epoch)
    length = schedule_length(config, steps_per_epoch, total)
    config = config.model_copy(
        update={"model": model, "optim": config.optim.model_copy(update={"schedule_length": length})}
    )
    graphdef, params, _ = abstract(model)
    schedule = learning_rate_schedule(config, steps_per_epoch, total)
    evaluate_step = make_evaluate_step(config, graphdef, data.train.class_counts(), data.validation)
    train_step = TrainStep(
        graphdef, config, evaluate_step.weights, ParameterGroups.of(config, params), make_optimizer(config, schedule),
        swa_start_step(config, steps_per_epoch, total), normalised_already(config, data.train),
    )  # fmt: skip
    return Experiment(config, data, placement, train_step, evaluate_step, schedule, steps_per_epoch, total)


def normalised_already(config: Config, split: GroupedSplit) -> bool:
    """Whether a split's windows are as `model.input_norm` wants them. UserError: normalised in another way."""
    stored, wanted = normalization(split), config.model.input_norm
    if stored is not None and stored != wanted:
        raise UserError(
            split.path, f"windows normalised by {stored}", f"by {wanted} (model.input_norm), or not at all",
            f"set model.input_norm={stored}, or shard again with --norm {wanted}",
        )  # fmt: skip
    return stored is not None


def make_evaluate_step(
    config: Config, graphdef: Any, class_counts: np.ndarray, split: GroupedSplit, *, members: bool = False
) -> EvaluateStep:
    """The evaluation step of a model, or of members' mean, on a split; class_counts [V]: of the training split."""
    weights = class_weights(
        class_counts, config.loss.class_weights, temperature=config.loss.class_weight_temperature,
        beta=config.loss.effective_beta,
    )  # fmt: skip
    return EvaluateStep(
        graphdef, config, None if weights is None else jnp.asarray(weights, jnp.float32),
        normalised_already(config, split), members,
    )  # fmt: skip


def initialise_from(run: RunFolder, state: TrainState, experiment: Experiment) -> tuple[TrainState, str]:
    """`state` with the parameters of another run (its average, where it has one) and a line that says which.

    Parameters of the same path and shape are taken, by every member; others, such as heads for other classes, stay new.
    """
    if run.read_config().train.members > 1:
        raise UserError(run.path, "a run with members", "one of them", f"use --init {run.path / 'members' / '0'}")
    theirs = read_model(run)[0]
    ours = flatten({"params": state.params})
    front = () if experiment.config.train.members == 1 else (experiment.config.train.members,)
    taken = {
        name: np.broadcast_to(theirs[name], array.shape)
        for name, array in ours.items()
        if name in theirs and (*front, *theirs[name].shape) == array.shape
    }
    if not taken:
        raise UserError(
            run.path, "no parameter of this model's paths and shapes", "a run of a like model", "check --init"
        )
    treedef = jax.tree.structure(state.params)
    params = jax.tree.unflatten(treedef, [taken.get(name, ours[name]) for name in ours])
    new = sorted({name.removeprefix("params.").rpartition(".")[0] for name in ours if name not in taken})
    line = f"{len(taken)} of {len(ours)} parameters from {run.path}" + (f"; new: {', '.join(new)}" if new else "")
    average = None if state.average is None else jax.tree.map(np.copy, params)
    params, average = experiment.placement.replicate((params, average))
    return dataclasses.replace(state, params=params, average=average), line


def read_model(run: RunFolder) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays for prediction and meta of a run's best checkpoint, or its latest where none is best.

    Named params.* and buffers.*; the parameters are the average, where there is one.
    """
    checkpoints = Checkpoints(run.checkpoints)
    found = checkpoints.read_newest("best") or checkpoints.read_newest("latest")
    checkpoints.close()
    if found is None:
        raise UserError(run.path, "no checkpoint", "a run that has saved one", "train it further with --resume")
    arrays, meta = found
    averages = {name.replace("average.", "params.", 1): a for name, a in arrays.items() if name.startswith("average.")}
    return {name: a for name, a in (arrays | averages).items() if not name.startswith("average.")}, meta
