"""The sections `train`, `optim` and `report`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from demega_jax.config.section import (
    BatchSize,
    Names,
    NonNegative,
    Positive,
    PositiveFloat,
    Section,
    Seed,
    Share,
    UpToThousand,
    unfit,
)
from demega_jax.names import MAX_COUNT, Monitor

MAX_RATE = 1000.0  # see OptimConfig
LearningRate = Annotated[float, Field(gt=0.0, le=MAX_RATE, allow_inf_nan=False)]


class TrainConfig(Section):
    """The training run: its length, how often it logs, validates and saves, and its numerics."""

    batch_size: BatchSize = 512
    """Number of rows in one update, over all devices and microbatches."""
    epochs: Positive | None = None
    """Length of the training run in epochs; set this or steps. null: 30 epochs, unless steps is set. Another length
    changes optim.schedule_length too, unless that is set: a resumed training run goes on at another learning rate."""
    steps: Positive | None = None
    """Length of the training run in steps (updates); set this or epochs. It acts on the schedule as epochs does."""
    seed: Seed = 777
    """Seed of the initial parameters, the order of the data, augmentation and dropout."""
    members: UpToThousand = 1
    """Number of models (members) trained side by side in one program, with data.feed=resident or regroup. Each has a
    folder in members/ of the run folder, and is trained as it would be alone with its seed: seed, seed + 1, ..."""
    accumulate: BatchSize = 1
    """Number of microbatches in an update; the gradient is their mean. Losses that compare the rows of a batch see one
    microbatch at a time."""
    steps_per_dispatch: Annotated[int, Field(gt=0, le=100_000)] = 1
    """Number of steps in a dispatch. A dispatch is one compiled program of one or more steps, which the host starts at
    once; more than one step needs data.feed=resident or regroup. eval_every, save_every, log_every and the length in
    epochs are rounded up to whole dispatches, and Ctrl-C ends the training run after a whole dispatch."""
    eval_every: Positive | None = None
    """Number of steps between validations; null: those of one epoch."""
    save_every: Positive | None = None
    """Number of steps between checkpoints; null: as eval_every."""
    log_every: Positive = 50
    """Number of steps between lines of training metrics in metrics.jsonl."""
    monitor: Monitor = "macro_f1"
    """Score of validation that chooses the best checkpoint and stops training early. balanced_accuracy_at_10: the mean
    over classes of the share of their rows whose class is among the 10 of the largest probabilities, for more than 10
    classes; loss: the class loss, of which a smaller one is better. Resuming cannot change it."""
    early_stopping: Positive | None = None
    """Early-stopping patience: stop after so many validations in a row without a better score (train.monitor); null:
    never."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """Average of the parameters over steps, which validation and prediction then use. ema: exponential moving average;
    swa: plain mean over the last part of the schedule (stochastic weight averaging)."""
    ema_decay: Share = 0.999
    """Decay of averaging=ema. After n updates the decay is min(ema_decay, (1 + n) / (10 + n))."""
    swa_start: Share = 0.75
    """Share of the schedule after which averaging=swa begins."""
    max_nonfinite_steps: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 10
    """A step whose loss, gradient or result is not finite is skipped: it changes nothing but the count of such steps.
    More such steps than this end the training run, with the last good state saved; 0: the first one does."""
    max_nonfinite_in_a_row: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 5
    """More steps than this in a row that are not finite end the training run, too. Both bounds are of each member by
    itself, and are looked at with each line of the log (train.log_every)."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Precision of float32 matrix products on accelerators. default: TF32 on GPUs, bfloat16 on TPUs, the fastest."""
    deterministic: bool = False
    """true: use deterministic kernels on GPUs, which are slower. CPUs always compute deterministically."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            came = f"train.epochs={self.epochs} and train.steps={self.steps} are both set"
            raise unfit(came, "one length of the training run", "leave train.epochs or train.steps out")
        each = self.steps_per_dispatch
        if self.steps is not None and self.steps % each:
            fits = max(1, round(self.steps / each)) * each
            came = f"train.steps={self.steps} is not a multiple of train.steps_per_dispatch={each}"
            raise unfit(came, "a number of steps that makes whole dispatches", f"set train.steps={fits}")
        if self.seed + self.members > 2**32:
            came = f"train.seed={self.seed} leaves no larger seeds for train.members={self.members}"
            raise unfit(came, f"a seed up to {2**32 - self.members}", "set train.seed=777")
        if self.batch_size % self.accumulate:
            fits = self.batch_size - self.batch_size % self.accumulate or self.accumulate
            came = f"train.batch_size={self.batch_size} does not divide into train.accumulate={self.accumulate} parts"
            raise unfit(came, "microbatches of equal size", f"set train.batch_size={fits}")
        return self


class OptimConfig(Section):
    """AdamW (beta 0.9 and 0.999, epsilon 1e-8), gradients clipped by their global norm, and a learning rate that rises
    linearly (warm-up) and then falls along a cosine.

    AdamW moves a parameter by less than 8 learning rates a step, whatever the gradients were: |m| <= 7.3 sqrt(v) by
    Cauchy and Schwarz. With rates of at most 1000, and decay that cannot turn into growth, no number of steps that is
    counted leads to parameters that overflow.
    """

    learning_rate: LearningRate = 1e-4
    """Largest learning rate of the stem, the encoder and its final norm."""
    head_lr_multiplier: PositiveFloat = 1.5
    """Learning rate of the aggregator and the output heads, as a multiple of that of the encoder."""
    weight_decay: NonNegative = 1e-3
    """Decoupled weight decay of every trained parameter."""
    clip: NonNegative = 1.0
    """Largest global norm of the gradient over all trained parameters; 0: gradients are not clipped."""
    schedule: Literal["per_step", "per_epoch"] = "per_step"
    """per_step: the learning rate changes at every step; per_epoch: it changes once in an epoch."""
    schedule_length: Positive | None = None
    """Length of the schedule (warm-up and cosine), in steps for per_step and in epochs for per_epoch; null: the length
    of the training run, so that a resumed training run with another end has another schedule."""
    warmup: Share = 0.05
    """Share of the schedule that is warm-up."""
    swa_learning_rate: LearningRate | None = None
    """Constant learning rate from where averaging=swa begins; null: the schedule goes on there."""
    frozen: Names = ()
    """Paths of parameters that are not trained, such as [final_norm, encoder.layers.0]."""

    @model_validator(mode="after")
    def _parameters_cannot_overflow(self) -> Self:
        rate = max(self.learning_rate, self.swa_learning_rate or 0.0) * max(1.0, self.head_lr_multiplier)
        if rate > MAX_RATE:
            came = f"optim.head_lr_multiplier={self.head_lr_multiplier:g}, and so a learning rate of {rate:g} for heads"
            raise unfit(came, f"at most {MAX_RATE:g}", "lower optim.learning_rate")
        if rate * self.weight_decay > 1:
            came = f"optim.weight_decay={self.weight_decay:g}, and learning rates up to {rate:g}: parameters would grow"
            raise unfit(came, f"at most {1 / rate:g} at this rate", "lower optim.weight_decay")
        return self


class ReportConfig(Section):
    """Where training metrics go, beside metrics.jsonl."""

    tensorboard: bool = False
    """Write TensorBoard events into the run folder. Needs `pip install -e '.[tensorboard]'`."""
    wandb: bool = False
    """Log to Weights & Biases. Needs `pip install -e '.[wandb]'`."""
