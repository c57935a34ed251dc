"""From a configuration and its data to an experiment: everything that a training run needs."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from demega_jax.config import Config
from demega_jax.data.feeds.feed import Feed, FeedPlan
from demega_jax.data.open import TrainingData
from demega_jax.data.split import LabelledRows
from demega_jax.errors import UserError, warn
from demega_jax.losses.focal import class_weights
from demega_jax.phonemes import PHONEMES
from demega_jax.training.members import member_config, stack
from demega_jax.training.monitor import check_monitor
from demega_jax.training.optimizer import (
    ParameterGroups,
    Schedule,
    learning_rate_schedule,
    make_optimizer,
    run_length,
    swa_start_step,
)
from demega_jax.training.parallel import Placement
from demega_jax.training.state import TrainState, abstract, build, initial_state
from demega_jax.training.step import TrainStep


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A training run before its first step. In config, values that come from the data are filled in."""

    config: Config
    data: TrainingData
    placement: Placement
    train_step: TrainStep
    schedule: Schedule
    steps_per_epoch: int
    total_steps: int

    def feed(self) -> Feed:
        """The feed of training batches on the devices, at its first step."""
        return self.data.plan.open(self.placement)

    def fresh_state(self) -> TrainState:
        """The state before the first step, not yet placed. With members, it has an axis of members in front."""
        states = []
        for number in range(self.config.train.members):
            config = member_config(self.config, number)
            _, params, buffers = build(config.model, config.train.seed)
            states.append(initial_state(config, params, buffers, self.train_step.tx, self.train_step.groups))
        return stack(states)


def make_experiment(config: Config, data: TrainingData, placement: Placement) -> Experiment:
    """Fill in the configuration from the data, and build optimizer, schedule and step. UserError: they do not fit."""
    rows = data.train
    check_classes(rows)
    check_monitor(config.train.monitor, rows)
    model = config.model.for_data(sensors=rows.sensors, time_points=rows.time_points, classes=rows.classes)
    data.plan.check(placement)
    warn_of_padding(data.plan, placement)
    steps_per_epoch = data.plan.steps_per_epoch
    total = run_length(config, steps_per_epoch)
    found = rows.acquisition
    augment = config.data.augment.for_data(rows.sensors, found.sampling_rate, found.magnetometers)
    windows = config.data.windows.for_data(found.stated() or {})
    data_config = config.data.model_copy(update={"augment": augment, "windows": windows})
    config = config.model_copy(update={"model": model, "data": data_config}).with_ipa()
    model = config.model
    graphdef, params, _ = abstract(model)
    schedule = learning_rate_schedule(config, steps_per_epoch, total)
    weights, groups = loss_weights(config, data.train.class_counts()), ParameterGroups.of(config, params)
    tx, swa_start = make_optimizer(config, schedule, groups), swa_start_step(config, steps_per_epoch, total)
    normalized = is_normalized(config, data.train) or data.plan.normalization is not None
    train_step = TrainStep(graphdef, config, weights, groups, tx, swa_start, normalized)
    return Experiment(config, data, placement, train_step, schedule, steps_per_epoch, total)


def note_of_heads(config: Config) -> str | None:
    """What is different where the classes are not phonemes, in words; None where nothing is."""
    classes = config.model.classes or ()
    if config.model.ipa_width or set(classes) <= set(PHONEMES):
        return None
    return f"the {len(classes)} classes are not all phonemes: there is no head and no loss for phonetic (IPA) features"


def check_classes(rows: LabelledRows) -> None:
    """UserError: there are rows of a single class, which leaves nothing to learn."""
    present = [rows.classes[number] for number in np.flatnonzero(rows.class_counts())]
    if len(present) < 2:
        came = f"all rows to train on are of one class ({present[0]})" if present else "there are no rows to train on"
        raise UserError(rows.path, came, "rows of two classes or more", "give data of several classes")


def warn_of_padding(plan: FeedPlan, placement: Placement) -> None:
    """Warn where a batch does not divide over the devices: padding fills them, which changes no loss."""
    size, rows, devices = plan.batch_size, plan.placed_rows(placement), placement.devices
    if rows > size:
        warn(
            f"{size} rows a batch on {devices} devices: {rows // devices} on each, and {rows - size} of these {rows} "
            "are padding, which takes time and changes nothing"
        )


def warn_of_no_learning(experiment: Experiment, start: int) -> None:
    """Warn where the schedule ends before the training run does. start: the step after which it begins or goes on."""
    total, optim = experiment.total_steps, experiment.config.optim
    if start >= total or float(experiment.schedule(total - 1)) > 0:
        return
    each = experiment.steps_per_epoch if optim.schedule == "per_epoch" else 1
    first = max(start, (optim.schedule_length or 0) * each) + 1
    warn(
        f"optim.schedule_length={optim.schedule_length}: the learning rate is 0 from step {first} to the last step, "
        f"{total}, so nothing is learned there; leave optim.schedule_length out, or start another training run with "
        "--init"
    )


def is_normalized(config: Config, rows: LabelledRows) -> bool:
    """Whether windows are stored normalised as `model.input_norm` says. UserError: they are in another way."""
    stored, wanted = rows.normalization, config.model.input_norm
    if stored is not None and stored != wanted:
        came, expected = f"windows are normalised by {stored}", f"by {wanted}, which is model.input_norm, or not at all"
        way_out = f"set model.input_norm={stored}, or write the shards again with `demega-jax shard --norm {wanted}`"
        raise UserError(rows.path, came, expected, way_out)
    return stored is not None


def loss_weights(config: Config, class_counts: Int[np.ndarray, " V"]) -> Float[Array, " V"] | None:
    """Weights of the classes in the loss, from the counts of the training split; None where all weigh the same."""
    loss = config.loss
    options = {"temperature": loss.class_weight_temperature, "beta": loss.effective_beta}
    weights = class_weights(class_counts, loss.class_weights, **options)
    return None if weights is None else jnp.asarray(weights, jnp.float32)
