"""From a configuration and its data to everything that a training run steps with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from demega_jax.config import Config
from demega_jax.data.feeds.feed import Feed
from demega_jax.data.open import TrainingData
from demega_jax.data.split import LabelledRows
from demega_jax.errors import UserError, warn
from demega_jax.losses.focal import class_weights
from demega_jax.training.checkpoint import flatten, read_model
from demega_jax.training.members import member_config, stack
from demega_jax.training.optimizer import (
    ParameterGroups,
    Schedule,
    learning_rate_schedule,
    make_optimizer,
    run_length,
    swa_start_step,
)
from demega_jax.training.parallel import Placement
from demega_jax.training.run import RunFolder
from demega_jax.training.state import TrainState, abstract, build, initial_state
from demega_jax.training.step import TrainStep


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A training run before its first step. config is resolved: nothing of the model is left to the data."""

    config: Config
    data: TrainingData
    placement: Placement
    train_step: TrainStep
    schedule: Schedule
    steps_per_epoch: int
    total_steps: int

    def feed(self) -> Feed:
        """The training batches, placed on the devices, from the first step on."""
        return self.data.plan.open(self.placement)

    def fresh_state(self) -> TrainState:
        """The state before the first step, members in front; not placed on the devices of the run."""
        states = []
        for number in range(self.config.train.members):
            config = member_config(self.config, number)
            _, params, buffers = build(config.model, config.train.seed)
            states.append(initial_state(config, params, buffers, self.train_step.tx, self.train_step.groups))
        return stack(states)


def make_experiment(config: Config, data: TrainingData, placement: Placement) -> Experiment:
    """Fill the configuration in from the data and build optimizer and steps."""
    model = config.model.for_data(
        sensors=data.train.sensors, time_points=data.train.time_points, classes=data.train.classes
    )
    data.plan.check(placement)
    steps_per_epoch = data.plan.steps_per_epoch
    total = run_length(config, steps_per_epoch)
    config = config.model_copy(update={"model": model})
    graphdef, params, _ = abstract(model)
    schedule = learning_rate_schedule(config, steps_per_epoch, total)
    train_step = TrainStep(
        graphdef, config, loss_weights(config, data.train.class_counts()), ParameterGroups.of(config, params),
        make_optimizer(config, schedule), swa_start_step(config, steps_per_epoch, total),
        is_normalized(config, data.train),
    )  # fmt: skip
    return Experiment(config, data, placement, train_step, schedule, steps_per_epoch, total)


def warn_of_no_learning(experiment: Experiment, start: int) -> None:
    """One line where the schedule ends before the training run, which begins, or goes on, after step `start`."""
    total, optim = experiment.total_steps, experiment.config.optim
    if start >= total or float(experiment.schedule(total - 1)) > 0:
        return
    each = experiment.steps_per_epoch if optim.schedule == "per_epoch" else 1
    first = max(start, (optim.schedule_length or 0) * each) + 1
    warn(
        f"optim.schedule_length={optim.schedule_length}: the learning rate is 0 from step {first} to the last step, "
        f"{total}, so nothing is learned there; leave optim.schedule_length out, or begin another training run with "
        "--init"
    )


def is_normalized(config: Config, rows: LabelledRows) -> bool:
    """Whether windows are as `model.input_norm` wants them. UserError: they are normalised in another way."""
    stored, wanted = rows.normalization, config.model.input_norm
    if stored is not None and stored != wanted:
        raise UserError(
            rows.path, f"windows normalised by {stored}", f"by {wanted} (model.input_norm), or not at all",
            f"set model.input_norm={stored}, or shard again with --norm {wanted}",
        )  # fmt: skip
    return stored is not None


def loss_weights(config: Config, class_counts: Int[np.ndarray, " V"]) -> Float[Array, " V"] | None:
    """Weights of the classes in the loss, from the training split's counts; None for none."""
    weights = class_weights(
        class_counts, config.loss.class_weights, temperature=config.loss.class_weight_temperature,
        beta=config.loss.effective_beta,
    )  # fmt: skip
    return None if weights is None else jnp.asarray(weights, jnp.float32)


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
