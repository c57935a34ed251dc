"""The configuration: frozen, validated sections.

Every key has a type, a default and a description; `config_page.py` prints them as a page. `config_file.py` reads
them from YAML and `section.key=value`.
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
    """One section of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _key(default: Any, description: str) -> Any:
    return Field(default=default, description=description)


class ModelConfig(Section):
    """The network. Sensors, time points and classes come from the data unless set."""

    sensors: Positive | None = _key(None, "Sensors C of a window; null: as in the data.")
    time_points: Positive | None = _key(None, "Time points T of a window; null: as in the data.")
    classes: Names | None = _key(None, "Names of the classes, in the order of the logits; null: as in the data.")
    input_norm: Norm = _key(
        "median_iqr",
        "Normalisation of each window. median_iqr: (x - median) / IQR per sensor over time; instance: zero mean and "
        "unit variance per sensor over time; zscore: the same over sensors and time together; none.",
    )
    encoder: Literal["conformer", "lstm"] = _key("conformer", "Conformer (with its stem) or bidirectional LSTM.")
    width: Positive = _key(128, "Width E of the encoder (of each direction, for the LSTM).")
    layers: Annotated[int, Field(gt=0, le=63)] = _key(4, "Encoder layers N.")
    heads: Positive = _key(4, "Attention heads H; must divide width.")
    stem_kernel_sizes: Kernels = _key((5, 3), "Kernel sizes of the two convolutions of the stem, in time points.")
    kernel_size: Positive = _key(3, "Kernel size of the depthwise convolution of a layer, in time points.")
    feedforward_factor: Positive = _key(2, "Width of a layer's feed-forward network over width.")
    norm: Literal["pre", "post"] = _key("pre", "LayerNorm before each sublayer, or after its residual sum.")
    position_terms: PositionTerms = _key(
        ("c2p", "p2c"), "Terms of disentangled attention: content to position, position to content; [] for none."
    )
    position_init: PositiveFloat = _key(
        0.02,
        "Standard deviation that position tables start with. A table is normalised before use, so this changes not "
        "what the network computes at first, but how fast the table learns: at 0.02 fifty times as fast as at 1.0, "
        "the start of the published DeMEGa (configs/original.yaml). 0.02 is DeBERTa's own start.",
    )
    share_key: bool = _key(False, "Project positions by the layer's own key and query projections.")
    num_buckets: Annotated[int, Field(ge=0)] = _key(
        32, "Log buckets R of relative distance in each direction; 0: one per distance up to max_distance."
    )
    max_distance: Positive = _key(128, "Relative distance, in time points, at which the buckets end.")
    pool: Literal["flatten", "mean", "attention"] = _key(
        "flatten", "How time is pooled: flatten fixes time_points; mean and attention take any length."
    )
    embedding_width: Positive = _key(128, "Width Z of the embedding that all heads read.")
    projection_width: Annotated[int, Field(ge=0)] = _key(
        128, "Width P of the contrastive projection; 0: no projection head."
    )
    ipa_width: Annotated[int, Field(ge=0)] = _key(64, "Hidden width of the IPA feature head; 0: no IPA head.")
    classifier: Literal["linear", "ipa_cosine", "ipa_dot", "ipa_hamming"] = _key(
        "linear",
        "Linear classifier, or similarity of predicted and true IPA features (phonemes with equal features "
        "cannot be told apart by it).",
    )
    dropout: Share = _key(0.5, "Dropout probability, everywhere.")
    dtype: Literal["float32", "bfloat16"] = _key(
        "float32", "Compute type; parameters, normalisation, softmax and losses stay float32."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.encoder == "conformer" and self.width % self.heads:
            fitting = [h for h in range(1, self.width + 1) if self.width % h == 0]
            near = sorted(fitting, key=lambda h: (abs(h - self.heads), h))[:3]
            raise ValueError(f"heads={self.heads} does not divide width={self.width}; heads that fit: {sorted(near)}")
        if self.num_buckets % 2:
            raise ValueError(f"num_buckets={self.num_buckets} is odd; even numbers fit, such as {self.num_buckets + 1}")
        if self.num_buckets and self.max_distance <= self.num_buckets // 2 + 1:
            raise ValueError(
                f"max_distance={self.max_distance} leaves no log buckets with num_buckets={self.num_buckets}; "
                f"at least {self.num_buckets // 2 + 2} fits"
            )
        if self.classifier != "linear" and not self.ipa_width:
            raise ValueError(f"classifier={self.classifier} needs the IPA head; ipa_width=64 fits")
        if len(set(self.position_terms)) != len(self.position_terms):
            raise ValueError(f"position_terms={list(self.position_terms)} repeats a term")
        if self.classes is not None and (len(self.classes) < 2 or len(set(self.classes)) != len(self.classes)):
            raise ValueError("classes must be at least two different names")
        return self

    def for_data(self, *, sensors: int, time_points: int, classes: Sequence[str]) -> "ModelConfig":
        """This configuration with what the data decide filled in. A key that was set must agree with the data."""
        found = {"sensors": sensors, "time_points": time_points, "classes": tuple(classes)}
        for name, value in found.items():
            wanted = getattr(self, name)
            if wanted is not None and wanted != value:
                raise UserError(
                    f"model.{name}", f"{_brief(wanted)} in the config", f"{_brief(value)}, as in the data",
                    f"leave model.{name} out, or choose data that fit",
                )  # fmt: skip
        return self.model_copy(update=found)


def _brief(value: Any) -> str:
    return f"{len(value)} classes {value[0]} .. {value[-1]}" if isinstance(value, tuple) else str(value)


class LossConfig(Section):
    """What is minimised: class loss + contrastive_weight x NT-Xent + ipa_weight x IPA, on the global batch."""

    class_loss: Literal["balanced_focal", "focal", "cross_entropy"] = _key(
        "balanced_focal", "Present-class focal (with 0.2 cross entropy when smoothed), plain focal, or cross entropy."
    )
    focal_gamma: NonNegative = _key(2.0, "Focusing exponent of the focal losses.")
    label_smoothing: Share = _key(0.12, "Label smoothing s.")
    class_weights: Literal["none", "temperature", "inverse", "inverse_sqrt", "effective"] = _key(
        "none",
        "Weights of the classes in the focal losses, from the training split's own counts: exp(-t n_c / n) as "
        "published, 1/n_c, 1/sqrt(n_c), or effective number; scaled to mean 1.",
    )
    class_weight_temperature: NonNegative = _key(1.0, "t of class_weights: temperature.")
    effective_beta: Share = _key(0.999, "Beta of class_weights: effective.")
    contrastive_weight: NonNegative = _key(0.5, "Weight of the supervised NT-Xent loss.")
    contrastive_temperature: PositiveFloat = _key(0.03, "Temperature of the NT-Xent loss.")
    ipa_weight: NonNegative = _key(0.2, "Weight of the IPA feature loss.")


class AugmentConfig(Section):
    """Random changes of training windows, on the device, after normalisation. Each has its own probability for a
    window, 0 by default; none acts in evaluation."""

    time_shift: Probability = _key(0.0, "Probability of a shift in time; what it uncovers repeats the edge.")
    time_shift_ms: Range = _key((8.0, 24.0), "Smallest and largest shift, in ms, to either side.")
    sample_rate: PositiveFloat = _key(250.0, "Samples a second, for time_shift_ms.")
    sensor_dropout: Probability = _key(0.0, "Probability that some sensors of a window become 0.")
    sensor_dropout_share: Share = _key(0.1, "Share of the sensors that become 0, each on its own.")
    noise: Probability = _key(0.0, "Probability of added Gaussian noise.")
    noise_scale: NonNegative = _key(0.1, "Standard deviation of the noise over that of the window.")
    time_mask: Probability = _key(0.0, "Probability that one stretch of time becomes 0 in all sensors.")
    time_mask_share: Share = _key(0.1, "Largest length of the stretch, as a share of the window.")
    sensor_mask: Probability = _key(0.0, "Probability that a block of neighbouring sensors becomes 0.")
    sensor_mask_share: Share = _key(0.1, "Largest size of the block, as a share of the sensors.")
    amplitude: Probability = _key(0.0, "Probability of other amplitudes, one factor a sensor type.")
    amplitude_spread: Share = _key(0.1, "Factors are drawn evenly from 1 - spread to 1 + spread.")
    magnetometers: Literal["thirds", "none"] = _key(
        "thirds", "Sensor types: thirds, every third sensor is a magnetometer, the others gradiometers; none, one type."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = self.time_shift_ms
        if not 0 <= low <= high:
            raise ValueError(f"time_shift_ms={[low, high]} is no range; [8.0, 24.0] fits")
        return self

    @property
    def active(self) -> bool:
        """Whether anything can happen to a window."""
        return any((self.time_shift, self.sensor_dropout, self.noise, self.time_mask, self.sensor_mask, self.amplitude))


class RegroupConfig(Section):
    """Groups that are made on the device from recordings (data.feed: regroup), K windows each: data.level, or, for
    each group, one of several levels."""

    recordings: Literal["replicated", "dealt"] = _key(
        "replicated", "All recordings on every device, or each share's own stretches of them, of which it makes groups."
    )
    new_groups: bool = _key(
        True,
        "Draw new groups every epoch; false: the same always; with one K and replicated "
        "recordings, those of `group --no-shuffle`.",
    )
    drop_remaining: bool = _key(
        False, "Drop a class's last group where it has fewer than K windows (with target_rows: in validation alone)."
    )
    target_rows: Positive | None = _key(
        None, "Groups a class and epoch: K adapts to the windows that a class has, up to data.level; null: K as given."
    )
    min_level: Positive = _key(5, "Smallest K to which target_rows goes down, where a class has as many.")
    overlap: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = _key(
        1.0, "How often target_rows may use a window in an epoch, on average of its class."
    )
    tmin: Annotated[float, Field(allow_inf_nan=False)] = _key(0.0, "Begin of a window, in s from the onset.")
    tmax: Annotated[float, Field(allow_inf_nan=False)] = _key(0.5, "End of a window, in s from the onset.")
    splits: str | None = _key(
        None, "Splits by run, as `group --split-shares` writes them (splits.json); null: the published ones."
    )


class DataConfig(Section):
    """Where windows come from and in which order."""

    path: str | None = _key(None, "Folder with grouped_K (or data/grouped_K), as files or shards; --data.")
    level: Levels | None = _key(
        None, "Grouping level K, or several at once ([5, 10]); null: the only one there; --level."
    )
    feed: Literal["stream", "resident", "regroup"] = _key(
        "stream",
        "stream: rows read from disk or memory ahead of the step; resident: the whole split on the devices, order "
        "drawn and rows gathered there; regroup: recordings on the devices, windows averaged there in new groups "
        "every epoch.",
    )
    memory: str = _key("4G", "A split up to this size is held in memory; larger ones are read from disk (stream).")
    shares: Positive = _key(
        8, "Shares that rows are dealt to (resident, regroup); a batch takes an equal part of each, a device holds "
        "whole shares. Multiples of the number of devices and divisors of the batch size fit."
    )  # fmt: skip
    shares_seed: Seed = _key(0, "Seed by which rows or recordings are dealt to shares; all members have the same.")
    dtype: Literal["float32", "float16"] = _key(
        "float32", "Type of the windows or recordings held on the devices (resident, regroup)."
    )
    sampling: Literal["uniform", "balanced"] = _key(
        "uniform", "Each row once an epoch, or draws with replacement in which every class is equally likely."
    )
    prefetch: Positive = _key(2, "Batches placed on the devices ahead of the step (stream).")
    augment: AugmentConfig = AugmentConfig()
    regroup: RegroupConfig = RegroupConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        parse_bytes(self.memory)
        levels = self.level
        if isinstance(levels, tuple) and (len(levels) < 2 or len(set(levels)) < len(levels)):
            raise ValueError(f"level={list(levels)} is no list of different levels; 5 or [5, 10] fits")
        if self.regroup.target_rows is None and (self.regroup.overlap, self.regroup.min_level) != (1.0, 5):
            raise ValueError(
                "regroup.overlap and regroup.min_level act with regroup.target_rows only; set it, or neither"
            )
        if self.regroup.target_rows is not None and isinstance(levels, tuple):
            raise ValueError(
                f"regroup.target_rows adapts K up to one level, not to level={list(levels)}; level={max(levels)} fits"
            )
        return self

    @property
    def levels(self) -> tuple[int, ...]:
        """The grouping levels; none where the data decide."""
        if self.level is None:
            return ()
        return self.level if isinstance(self.level, tuple) else (self.level,)


class TrainConfig(Section):
    """The run: its length, cadences and numerics."""

    batch_size: Positive = _key(512, "Rows of one update, over all devices and microbatches.")
    epochs: Positive | None = _key(
        None, "Length of the run in epochs (default 30); steps and epochs exclude each other."
    )
    steps: Positive | None = _key(None, "Length of the run in updates.")
    seed: Seed = _key(777, "Seed of initialisation, data order and dropout.")
    members: Positive = _key(
        1, "Models trained side by side in one program (resident, regroup), each in the run's members/ and as a run of "
        "its own seed: seed, seed + 1, .."
    )  # fmt: skip
    accumulate: Positive = _key(
        1, "Microbatches of an update. The batch-wide losses are then defined on each microbatch, and averaged."
    )
    steps_per_dispatch: Positive = _key(
        1, "Steps that the host starts at a time (resident, regroup); cadences and a run's length in epochs round up "
        "to multiples of it, and signals act at its boundary."
    )  # fmt: skip
    eval_every: Positive | None = _key(None, "Steps between validations; null: one epoch.")
    save_every: Positive | None = _key(None, "Steps between checkpoints; null: as eval_every.")
    log_every: Positive = _key(50, "Steps between lines of the log.")
    early_stopping: Positive | None = _key(
        None, "Stop after this many validations without a better macro-F1; null: never."
    )
    averaging: Literal["none", "ema", "swa"] = _key(
        "none", "Average of the parameters, used in validation and prediction: exponential, or of the run's last part."
    )
    ema_decay: Share = _key(0.999, "Decay of averaging: ema (less in the first steps: min(decay, (1 + n) / (10 + n))).")
    swa_start: Share = _key(0.75, "Share of the schedule after which averaging: swa begins.")
    max_nonfinite_steps: Annotated[int, Field(ge=0)] = _key(
        10, "Steps with a loss or gradient that is not finite are skipped; after more than this many the run stops."
    )
    matmul_precision: Literal["default", "high", "highest"] = _key(
        "default", "Precision of float32 matrix products on accelerators (default: TF32 or bfloat16 passes there)."
    )
    deterministic: bool = _key(False, "Deterministic kernels on GPUs, at some cost; CPUs always are.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError(f"epochs={self.epochs} and steps={self.steps} are both set; set one")
        if self.steps is not None and self.steps % self.steps_per_dispatch:
            fits = max(1, round(self.steps / self.steps_per_dispatch)) * self.steps_per_dispatch
            raise ValueError(
                f"steps={self.steps} is no multiple of steps_per_dispatch={self.steps_per_dispatch}; steps={fits} fits"
            )
        if self.seed + self.members > 2**32:
            raise ValueError(f"seed={self.seed} leaves no seeds for {self.members} members; seed=777 fits")
        if self.batch_size % self.accumulate:
            fits = self.batch_size - self.batch_size % self.accumulate or self.accumulate
            raise ValueError(
                f"batch_size={self.batch_size} does not divide into accumulate={self.accumulate} microbatches; "
                f"batch_size={fits} fits"
            )
        return self


class OptimConfig(Section):
    """AdamW (0.9, 0.999, 1e-8) with a clip by global norm, warm-up and cosine."""

    learning_rate: PositiveFloat = _key(1e-4, "Peak learning rate of stem, encoder and final norm.")
    head_lr_multiplier: PositiveFloat = _key(1.5, "Learning rate of aggregator and heads over learning_rate.")
    weight_decay: NonNegative = _key(1e-3, "Decoupled weight decay, on every trained parameter.")
    clip: NonNegative = _key(1.0, "Largest global norm of the gradient over the trained parameters; 0: no clip.")
    schedule: Literal["per_step", "per_epoch"] = _key(
        "per_step", "Whether the learning rate moves at each step or once an epoch."
    )
    schedule_length: Positive | None = _key(
        None, "Length of warm-up and cosine, in steps (per_step) or epochs (per_epoch); null: that of the run."
    )
    warmup: Share = _key(0.05, "Share of the schedule that is linear warm-up.")
    swa_learning_rate: PositiveFloat | None = _key(
        None, "Constant learning rate once averaging: swa has begun; null: the schedule goes on."
    )
    frozen: Names = _key((), "Paths of parameters that are not trained, such as final_norm or encoder.layers.0.")


class ReportConfig(Section):
    """Loggers beside metrics.jsonl."""

    tensorboard: bool = _key(False, "Write TensorBoard events to the run folder (extra `tensorboard`).")
    wandb: bool = _key(False, "Log to Weights & Biases (extra `wandb`).")


class Config(Section):
    """All sections."""

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
                raise ValueError(f"train.{key}={value} needs a feed on the devices; data.feed=resident fits")
        if self.train.members > 1 and self.report.wandb:
            raise ValueError("report.wandb logs one model, not train.members; report.tensorboard=true fits")
        return self

    @model_validator(mode="after")
    def _heads_have_losses(self) -> Self:
        if self.loss.contrastive_weight and not self.model.projection_width:
            raise ValueError(
                "loss.contrastive_weight needs a projection head; model.projection_width=128 fits, or 0 weight"
            )
        if self.loss.ipa_weight and not self.model.ipa_width:
            raise ValueError("loss.ipa_weight needs the IPA head; model.ipa_width=64 fits, or loss.ipa_weight=0")
        if self.optim.swa_learning_rate and self.train.averaging != "swa":
            raise ValueError("optim.swa_learning_rate acts with train.averaging=swa only; set both or neither")
        return self
