"""The configuration: frozen, validated sections.

Every key has a type, a default and, below it, its meaning. `page.py` prints them as a page; `load.py` reads the values
of keys from YAML and from `section.key=value`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from demega_jax.errors import UserError
from demega_jax.files import parse_bytes
from demega_jax.names import Norm

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
# YAML has lists where a frozen section holds tuples: the one conversion that strict typing allows.
Names = Annotated[tuple[str, ...], Field(strict=False)]
PositionTerms = Annotated[tuple[Literal["c2p", "p2c"], ...], Field(strict=False)]
Range = Annotated[tuple[float, float], Field(strict=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Levels = Positive | Annotated[tuple[Positive, ...], Field(strict=False)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Kernels = Annotated[tuple[Positive, Positive], Field(strict=False)]


class Section(BaseModel):
    """One section of the configuration. A section raises `UserError` where its values do not fit together."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _unfit(came: str, wanted: str, way_out: str) -> UserError:
    """Values that do not fit together; `load.py` says which file or command line they are from."""
    return UserError("the configuration", came, wanted, way_out)


class ModelConfig(Section):
    """The network. Sensors, time points and classes come from the data unless set."""

    sensors: Positive | None = None
    """Number of sensors C of a window; null: as in the data."""
    time_points: Positive | None = None
    """Number of time points T of a window; null: as in the data."""
    classes: Names | None = None
    """Names of the classes, in the order of the logits; null: as in the data."""
    input_norm: Norm = "median_iqr"
    """Normalisation of each window. median_iqr: (x - median) / IQR per sensor over time; instance: zero mean and unit
    variance per sensor over time; zscore: the same over sensors and time together; none: windows stay unchanged."""
    encoder: Literal["conformer", "lstm"] = "conformer"
    """Conformer with a convolutional stem, or bidirectional LSTM."""
    width: Positive = 128
    """Width E of the encoder; of an LSTM, the width of each direction."""
    layers: Annotated[int, Field(gt=0, le=63)] = 4
    """Number of encoder layers N."""
    heads: Positive = 4
    """Number of attention heads H. It must divide width."""
    stem_kernel_sizes: Kernels = (5, 3)
    """Kernel sizes of the two convolutions of the stem, in time points."""
    kernel_size: Positive = 3
    """Kernel size of the depthwise convolution in each layer, in time points."""
    feedforward_factor: Positive = 2
    """Width of the feed-forward network in each layer, as a multiple of width."""
    norm: Literal["pre", "post"] = "pre"
    """pre: LayerNorm before each sublayer; post: LayerNorm after its residual sum."""
    position_terms: PositionTerms = ("c2p", "p2c")
    """Position terms of disentangled attention. c2p: content to position; p2c: position to content; []: none."""
    position_init: PositiveFloat = 0.02
    """Standard deviation of the position tables before training. A table is normalised before use. This key therefore
    does not change what the network computes at first, only how fast the table learns: at 0.02, which DeBERTa uses,
    fifty times as fast as at 1.0, which the published DeMEGa uses (configs/original.yaml)."""
    share_key: bool = False
    """true: positions are projected by the key and query projections of the content; false: by their own."""
    num_buckets: Annotated[int, Field(ge=0)] = 32
    """Number of buckets R for relative distances in each direction, on a logarithmic scale; 0: one bucket for each
    distance up to max_distance."""
    max_distance: Positive = 128
    """Relative distance, in time points, from which on all distances are in the last bucket."""
    pool: Literal["flatten", "mean", "attention"] = "flatten"
    """How the time axis is pooled. flatten: windows have time_points time points; mean, attention: any length fits."""
    embedding_width: Positive = 128
    """Width Z of the embedding that all output heads read."""
    projection_width: Annotated[int, Field(ge=0)] = 128
    """Width P of the projection head, which the contrastive loss reads; 0: no such head."""
    ipa_width: Annotated[int, Field(ge=0)] = 64
    """Hidden width of the head that predicts phonetic (IPA) features; 0: no such head."""
    classifier: Literal["linear", "ipa_cosine", "ipa_dot", "ipa_hamming"] = "linear"
    """linear: a linear layer; the others: similarity between the predicted IPA features and those of each phoneme,
    which cannot tell phonemes with equal features apart."""
    dropout: Share = 0.5
    """Dropout probability in every layer."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Floating-point type of the computation. Parameters, normalisation, softmax and losses stay in float32."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.encoder == "conformer" and self.width % self.heads:
            fitting = [h for h in range(1, self.width + 1) if self.width % h == 0]
            near = sorted(sorted(fitting, key=lambda h: (abs(h - self.heads), h))[:3])
            came = f"model.heads={self.heads} does not divide model.width={self.width}"
            raise _unfit(came, f"heads that fit the width, such as {near}", f"set model.heads={near[0]}")
        if self.num_buckets % 2:
            way_out = f"set model.num_buckets={self.num_buckets + 1}"
            raise _unfit(f"model.num_buckets={self.num_buckets} is odd", "an even number of buckets", way_out)
        least = self.num_buckets // 2 + 2
        if self.num_buckets and self.max_distance < least:
            came = f"model.max_distance={self.max_distance} is too small for model.num_buckets={self.num_buckets}"
            raise _unfit(came, f"at least {least}", f"set model.max_distance={least}, or fewer buckets")
        if self.classifier != "linear" and not self.ipa_width:
            came = f"model.classifier={self.classifier} needs the IPA head, and model.ipa_width is 0"
            raise _unfit(came, "a width above 0", "set model.ipa_width=64, or model.classifier=linear")
        if len(set(self.position_terms)) != len(self.position_terms):
            came = f"model.position_terms={list(self.position_terms)} has a term twice"
            raise _unfit(came, "each term once", "set model.position_terms=[c2p, p2c], or one of the two")
        if self.classes is not None and (len(self.classes) < 2 or len(set(self.classes)) != len(self.classes)):
            came = f"model.classes={list(self.classes)}"
            way_out = "name each class once, or leave model.classes out to take the classes of the data"
            raise _unfit(came, "at least two different names", way_out)
        return self

    def for_data(self, *, sensors: int, time_points: int, classes: Sequence[str]) -> "ModelConfig":
        """This configuration with sensors, time points and classes of the data filled in.

        UserError: one of them was set to something else.
        """
        found = {"sensors": sensors, "time_points": time_points, "classes": tuple(classes)}
        for name, value in found.items():
            wanted = getattr(self, name)
            if wanted is not None and wanted != value:
                came, expected = f"the configuration says {_brief(wanted)}", f"{_brief(value)}, as in the data"
                way_out = f"leave model.{name} out of the configuration, or name other data with --data"
                raise UserError(f"model.{name}", came, expected, way_out)
        return self.model_copy(update=found)


def _brief(value: Any) -> str:
    return f"{len(value)} classes {value[0]} .. {value[-1]}" if isinstance(value, tuple) else str(value)


class LossConfig(Section):
    """What training minimises on a batch: class loss + contrastive_weight x NT-Xent loss + ipa_weight x IPA loss."""

    class_loss: Literal["balanced_focal", "focal", "cross_entropy"] = "balanced_focal"
    """balanced_focal: mean of the focal losses of the classes that are present, with 0.2 x cross entropy where labels
    are smoothed; focal: mean focal loss of the rows; cross_entropy: mean cross entropy of the rows."""
    focal_gamma: NonNegative = 2.0
    """Focusing exponent of the focal losses."""
    label_smoothing: Share = 0.12
    """Label smoothing: the share of the target that is spread over all classes."""
    class_weights: Literal["none", "temperature", "inverse", "inverse_sqrt", "effective"] = "none"
    """Weights of the classes in the focal losses, from the counts n_c of the n training rows, scaled to a mean of 1.
    temperature: exp(-t n_c / n), as published; inverse: 1 / n_c; inverse_sqrt: 1 / sqrt(n_c); effective: (1 - beta) /
    (1 - beta^n_c)."""
    class_weight_temperature: NonNegative = 1.0
    """t of class_weights=temperature."""
    effective_beta: Share = 0.999
    """beta of class_weights=effective."""
    contrastive_weight: NonNegative = 0.5
    """Weight of the supervised NT-Xent loss."""
    contrastive_temperature: PositiveFloat = 0.03
    """Temperature of the NT-Xent loss."""
    ipa_weight: NonNegative = 0.2
    """Weight of the IPA feature loss."""


class AugmentConfig(Section):
    """Random changes of training windows, made on the device after normalisation. Each change has a probability of its
    own; 0 switches it off. Evaluation never changes windows."""

    time_shift: Probability = 0.0
    """Probability of a shift in time. The gap is filled with the value at the edge."""
    time_shift_ms: Range = (8.0, 24.0)
    """Smallest and largest shift, in ms, to the left or to the right."""
    sample_rate: PositiveFloat = 250.0
    """Sampling rate of the windows in Hz, which converts time_shift_ms to time points."""
    sensor_dropout: Probability = 0.0
    """Probability that some sensors of a window become 0."""
    sensor_dropout_share: Share = 0.1
    """Probability of each sensor of such a window to become 0."""
    noise: Probability = 0.0
    """Probability of added Gaussian noise."""
    noise_scale: NonNegative = 0.1
    """Standard deviation of the noise, as a share of the standard deviation of the window."""
    time_mask: Probability = 0.0
    """Probability that one stretch of time becomes 0 in all sensors of a window."""
    time_mask_share: Share = 0.1
    """Largest length of the stretch, as a share of the window."""
    sensor_mask: Probability = 0.0
    """Probability that a block of neighbouring sensors becomes 0 in a window."""
    sensor_mask_share: Share = 0.1
    """Largest size of the block, as a share of the sensors."""
    amplitude: Probability = 0.0
    """Probability that amplitudes are multiplied by a random factor, one for each sensor type."""
    amplitude_spread: Share = 0.1
    """Factors are drawn uniformly between 1 - amplitude_spread and 1 + amplitude_spread."""
    magnetometers: Literal["thirds", "none"] = "thirds"
    """Sensor types. thirds: every third sensor is a magnetometer, the others are gradiometers; none: all are of one
    type."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = self.time_shift_ms
        if not 0 <= low <= high:
            came = f"data.augment.time_shift_ms={[low, high]}"
            wanted = "two shifts from 0 on, the smaller one first"
            raise _unfit(came, wanted, "set data.augment.time_shift_ms=[8.0, 24.0]")
        return self

    @property
    def active(self) -> bool:
        """Whether any change has a probability above 0."""
        return any((self.time_shift, self.sensor_dropout, self.noise, self.time_mask, self.sensor_mask, self.amplitude))


class RegroupConfig(Section):
    """How groups are made on the device from recordings (data.feed=regroup). A group averages K windows:
    data.level, or one of the levels where that lists several."""

    recordings: Literal["replicated", "dealt"] = "replicated"
    """replicated: every device holds all recordings; dealt: every share holds some stretches of the recordings and
    makes its groups from those alone."""
    new_groups: bool = True
    """true: draw new groups every epoch; false: the same groups every epoch. With one level and replicated recordings
    those are the groups of `group --no-shuffle`."""
    drop_remaining: bool = False
    """true: leave out the last group of a class where it has fewer than K windows. With target_rows this concerns
    validation alone."""
    target_rows: Positive | None = None
    """Number of groups to make of each class in an epoch: K adapts to the number of windows of the class, up to
    data.level; null: K is data.level."""
    min_level: Positive = 5
    """Smallest K that target_rows may choose, unless a class has fewer windows."""
    overlap: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.0
    """How often target_rows may use a window in an epoch, on average over the windows of its class."""
    tmin: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Begin of a window, in seconds after the onset of its phoneme."""
    tmax: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    """End of a window, in seconds after the onset of its phoneme."""
    splits: str | None = None
    """File splits.json that says which session runs are in which split, as `group --split-shares` writes it; null: the
    published splits."""


class DataConfig(Section):
    """Where windows come from and in which order."""

    path: str | None = None
    """Folder that holds grouped_K or data/grouped_K, as files or shards, or recordings. --data sets it."""
    level: Levels | None = None
    """Grouping level K, or several levels to train on together, such as [5, 10]; null: the only one there.
    --level sets it."""
    feed: Literal["stream", "resident", "regroup"] = "stream"
    """stream: the host reads rows from disk or memory and places batches on the devices ahead of the step; resident:
    the devices hold the whole split and draw batches from it; regroup: the devices hold recordings and average windows
    in new groups every epoch."""
    memory: str = "4G"
    """stream: a split up to this size is held in memory, and a larger one is read from disk. 4G, 512M or a number of
    bytes."""
    shares: Positive = 8
    """resident, regroup: number of shares that the rows are dealt to. A batch takes equally many rows of each share,
    and a device holds whole shares. It must be a multiple of the number of devices and divide train.batch_size."""
    shares_seed: Seed = 0
    """Seed of the dealing of rows or recordings to shares; all members use the same."""
    dtype: Literal["float32", "float16"] = "float32"
    """resident, regroup: type in which the devices hold windows or recordings."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """uniform: each row once in an epoch; balanced: rows are drawn with replacement, and every class equally likely."""
    prefetch: Positive = 2
    """stream: number of batches to prefetch, that is, to place on the devices ahead of the step."""
    augment: AugmentConfig = AugmentConfig()
    regroup: RegroupConfig = RegroupConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            parse_bytes(self.memory)
        except ValueError:
            came = f"data.memory={self.memory!r} is not a size"
            raise _unfit(came, "a size such as 4G, 512M or 1.5G", "set data.memory=4G") from None
        levels = self.level
        if isinstance(levels, tuple) and (len(levels) < 2 or len(set(levels)) < len(levels)):
            came, wanted = f"data.level={list(levels)}", "one level, or a list of different levels"
            raise _unfit(came, wanted, "write for example data.level=5 or data.level=[5, 10]")
        if self.regroup.target_rows is None and (self.regroup.overlap, self.regroup.min_level) != (1.0, 5):
            came = "data.regroup.overlap or data.regroup.min_level is set, but not data.regroup.target_rows"
            raise _unfit(came, "target_rows beside them", "set data.regroup.target_rows too, or leave both out")
        if self.regroup.target_rows is not None and isinstance(levels, tuple):
            came = f"data.regroup.target_rows is set beside data.level={list(levels)}"
            wanted = "one level, up to which target_rows adapts K"
            raise _unfit(came, wanted, f"set data.level={max(levels)}, or leave data.regroup.target_rows out")
        return self

    @property
    def levels(self) -> tuple[int, ...]:
        """The grouping levels; empty where the data decide."""
        if self.level is None:
            return ()
        return self.level if isinstance(self.level, tuple) else (self.level,)


class TrainConfig(Section):
    """The training run: its length, how often it logs, validates and saves, and its numerics."""

    batch_size: Positive = 512
    """Number of rows in one update, over all devices and microbatches."""
    epochs: Positive | None = None
    """Length of the training run in epochs; set this or steps. null: 30 epochs, unless steps is set. Another length
    changes optim.schedule_length too, unless that is set: a resumed training run then goes on at another learning rate.
    """
    steps: Positive | None = None
    """Length of the training run in steps (updates); set this or epochs. It acts on the schedule as epochs does."""
    seed: Seed = 777
    """Seed of the initial parameters, the order of the data, augmentation and dropout."""
    members: Positive = 1
    """Number of models (members) trained side by side in one program, with data.feed=resident or regroup. Each has a
    folder in members/ of the run folder, and is trained as it would be alone with its seed: seed, seed + 1, and so on.
    """
    accumulate: Positive = 1
    """Number of microbatches in an update; the gradient is their mean. Losses that compare the rows of a batch see one
    microbatch at a time."""
    steps_per_dispatch: Positive = 1
    """Number of steps in a dispatch. A dispatch is one compiled program of one or more steps, which the host starts at
    once; more than one step needs data.feed=resident or regroup. eval_every, save_every, log_every and the length in
    epochs are rounded up to whole dispatches, and Ctrl-C ends the training run after a whole dispatch."""
    eval_every: Positive | None = None
    """Number of steps between validations; null: those of one epoch."""
    save_every: Positive | None = None
    """Number of steps between checkpoints; null: as eval_every."""
    log_every: Positive = 50
    """Number of steps between lines of training metrics in metrics.jsonl."""
    early_stopping: Positive | None = None
    """Early-stopping patience: stop after this many validations in a row without a better macro-F1; null: never stop
    early."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """Average of the parameters over steps, which validation and prediction then use. ema: exponential moving average;
    swa: plain mean over the last part of the schedule (stochastic weight averaging)."""
    ema_decay: Share = 0.999
    """Decay of averaging=ema. After n updates the decay is min(ema_decay, (1 + n) / (10 + n))."""
    swa_start: Share = 0.75
    """Share of the schedule after which averaging=swa begins."""
    max_nonfinite_steps: Annotated[int, Field(ge=0)] = 10
    """A step whose loss or gradient is not finite is skipped. After more such steps than this the training run stops.
    """
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Precision of float32 matrix products on accelerators. default: the fastest, which is TF32 on GPUs and bfloat16 on
    TPUs."""
    deterministic: bool = False
    """true: use deterministic kernels on GPUs, which are slower. CPUs always compute deterministically."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            came = f"train.epochs={self.epochs} and train.steps={self.steps} are both set"
            raise _unfit(came, "one length of the training run", "leave train.epochs or train.steps out")
        each = self.steps_per_dispatch
        if self.steps is not None and self.steps % each:
            fits = max(1, round(self.steps / each)) * each
            came = f"train.steps={self.steps} is not a multiple of train.steps_per_dispatch={each}"
            raise _unfit(came, "a number of steps that makes whole dispatches", f"set train.steps={fits}")
        if self.seed + self.members > 2**32:
            came = f"train.seed={self.seed} leaves no larger seeds for train.members={self.members}"
            raise _unfit(came, f"a seed up to {2**32 - self.members}", "set train.seed=777")
        if self.batch_size % self.accumulate:
            fits = self.batch_size - self.batch_size % self.accumulate or self.accumulate
            came = f"train.batch_size={self.batch_size} does not divide into train.accumulate={self.accumulate} parts"
            raise _unfit(came, "microbatches of equal size", f"set train.batch_size={fits}")
        return self


class OptimConfig(Section):
    """AdamW (beta 0.9 and 0.999, epsilon 1e-8), gradients clipped by their global norm, and a learning rate that rises
    linearly (warm-up) and then falls along a cosine."""

    learning_rate: PositiveFloat = 1e-4
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
    swa_learning_rate: PositiveFloat | None = None
    """Constant learning rate from where averaging=swa begins; null: the schedule goes on there."""
    frozen: Names = ()
    """Paths of parameters that are not trained, such as [final_norm, encoder.layers.0]."""


class ReportConfig(Section):
    """Where training metrics go, beside metrics.jsonl."""

    tensorboard: bool = False
    """Write TensorBoard events into the run folder. Needs `pip install 'demega-jax[tensorboard]'`."""
    wandb: bool = False
    """Log to Weights & Biases. Needs `pip install 'demega-jax[wandb]'`."""


class Config(Section):
    """The whole configuration: a section for each subject."""

    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    optim: OptimConfig = OptimConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _feed_lies_on_the_devices(self) -> Self:
        for key, value in (("members", self.train.members), ("steps_per_dispatch", self.train.steps_per_dispatch)):
            if value > 1 and self.data.feed == "stream":
                came = f"train.{key}={value} needs a feed on the devices, and data.feed is stream"
                raise _unfit(came, "data.feed=resident or regroup", f"set data.feed=resident, or train.{key}=1")
        if self.train.members > 1 and self.report.wandb:
            came = f"report.wandb is true, which logs one model, beside train.members={self.train.members}"
            raise _unfit(came, "a logger of several models", "set report.wandb=false report.tensorboard=true")
        return self

    @model_validator(mode="after")
    def _heads_have_losses(self) -> Self:
        if self.loss.contrastive_weight and not self.model.projection_width:
            came = "loss.contrastive_weight is above 0, but model.projection_width is 0: there is no projection head"
            way_out = "set model.projection_width=128, or loss.contrastive_weight=0.0"
            raise _unfit(came, "a projection head for this loss", way_out)
        if self.loss.ipa_weight and not self.model.ipa_width:
            came = "loss.ipa_weight is above 0, but model.ipa_width is 0: there is no IPA head"
            raise _unfit(came, "an IPA head for this loss", "set model.ipa_width=64, or loss.ipa_weight=0.0")
        if self.optim.swa_learning_rate and self.train.averaging != "swa":
            came = f"optim.swa_learning_rate is set, but train.averaging is {self.train.averaging}"
            raise _unfit(
                came, "averaging=swa beside it", "set train.averaging=swa, or leave optim.swa_learning_rate out"
            )
        return self
