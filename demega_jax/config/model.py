"""The sections `model` and `loss`."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from demega_jax.config.kinds import shown
from demega_jax.config.section import (
    ListField,
    Names,
    NonNegative,
    PositiveFloat,
    Section,
    Share,
    Size,
    UpToThousand,
    Width,
    WidthOrNone,
    unfit,
)
from demega_jax.errors import UserError
from demega_jax.names import MAX_PARAMETERS, MAX_SIZE, PHONEMES, Norm, all_different

IPA_WEIGHT = 0.2  # of the loss, where there is a head for it

# What the kernels of attention=fused take (model/fused): widths of a head, and time points of a window.
KERNEL_WIDTHS, MOST_KERNEL_TIME_POINTS = (16, 32, 64, 128), 512


class ModelConfig(Section):
    """The network. Sensors, time points and classes come from the data unless set."""

    sensors: Size | None = None
    """Number of sensors C of a window; null: as in the data."""
    time_points: Size | None = None
    """Number of time points T of a window; null: as in the data."""
    classes: Names | None = None
    """Names of the classes, in the order of the logits; null: as in the data."""
    input_norm: Norm = "median_iqr"
    """Normalisation of each window. median_iqr: (x - median) / IQR per sensor over time; instance: zero mean and unit
    variance per sensor over time; zscore: the same over sensors and time together; none: windows stay unchanged."""
    encoder: Literal["conformer", "lstm"] = "conformer"
    """Conformer with a convolutional stem, or bidirectional LSTM."""
    width: Width = 128
    """Width E of the encoder; of an LSTM, the width of each direction."""
    layers: Annotated[int, Field(gt=0, le=63)] = 4
    """Number of encoder layers N."""
    heads: Width = 4
    """Number of attention heads H. It must divide width."""
    stem_kernel_sizes: Annotated[tuple[Size, Size], ListField] = (5, 3)
    """Kernel sizes of the two convolutions of the stem, in time points."""
    kernel_size: Size = 3
    """Kernel size of the depthwise convolution in each layer, in time points."""
    feedforward_factor: UpToThousand = 2
    """Width of the feed-forward network in each layer, as a multiple of width."""
    norm: Literal["pre", "post"] = "pre"
    """pre: LayerNorm before each sublayer; post: LayerNorm after its residual sum."""
    attention: Literal["plain", "fused"] = "plain"
    """plain: products that the compiler puts together; fused: one kernel a pass on NVIDIA GPUs and TPUs, which has not
    run on one yet, with random bits of its own; on NVIDIA GPUs, the sum with each branch of a layer and the
    normalisation after it are one kernel, too, and so is the feed-forward branch. CPUs take the plain one. It is for
    windows of at most 512 time points; a model that takes any length predicts longer ones by the plain one."""
    position_terms: Annotated[tuple[Literal["c2p", "p2c"], ...], ListField] = ("c2p", "p2c")
    """Position terms of disentangled attention. c2p: content to position; p2c: position to content; []: none."""
    position_init: PositiveFloat = 0.02
    """Standard deviation of the position tables before training. A table is normalised before use. This key therefore
    does not change what the network computes at first, only how fast the table learns: at 0.02, which DeBERTa uses,
    fifty times as fast as at 1.0, which the published DeMEGa uses (configs/original.yaml)."""
    share_key: bool = False
    """true: positions are projected by the key and query projections of the content; false: by their own."""
    num_buckets: Annotated[int, Field(ge=0, le=MAX_SIZE)] = 32
    """Number of buckets R of distances in each direction, on a log scale; 0: one per distance up to max_distance."""
    max_distance: Size = 128
    """Relative distance, in time points, from which on all distances are in the last bucket."""
    pool: Literal["flatten", "mean", "attention"] = "flatten"
    """How the time axis is pooled. flatten: windows have time_points time points; mean, attention: any length fits."""
    embedding_width: Width = 128
    """Width Z of the embedding that all output heads read."""
    projection_width: WidthOrNone = 128
    """Width P of the projection head, which the contrastive loss reads; 0: no such head."""
    ipa_width: WidthOrNone | None = None
    """Hidden width of the head that predicts phonetic (IPA) features; 0: no such head; null: half of embedding_width
    where all classes are phonemes, or else 0."""
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
            raise unfit(came, f"heads that fit the width, such as {near}", f"set model.heads={near[0]}")
        if self.num_buckets % 2:
            came = f"model.num_buckets={self.num_buckets} is odd"
            raise unfit(came, "an even number of buckets", f"set model.num_buckets={self.num_buckets + 1}")
        least = self.num_buckets // 2 + 2
        if self.num_buckets and self.max_distance < least:
            came = f"model.max_distance={self.max_distance} is too small for model.num_buckets={self.num_buckets}"
            raise unfit(came, f"at least {least}", f"set model.max_distance={least}, or fewer buckets")
        if self.classifier != "linear" and self.ipa_width == 0:
            came = f"model.classifier={self.classifier} needs the IPA head, and model.ipa_width is 0"
            raise unfit(came, "a width above 0", "set model.ipa_width=64, or model.classifier=linear")
        if len(set(self.position_terms)) != len(self.position_terms):
            came = f"model.position_terms={list(self.position_terms)} has a term twice"
            raise unfit(came, "each term once", "set model.position_terms=[c2p, p2c], or one of the two")
        if self.classes is not None and (len(self.classes) < 2 or not all_different(self.classes)):
            came = f"model.classes={list(self.classes)}"
            way_out = "name each class once, or leave model.classes out to take the classes of the data"
            raise unfit(came, "at least two different names", way_out)
        self._check_kernels(self.time_points)
        self._check_size()
        return self

    def with_ipa(self) -> "ModelConfig":
        """This configuration with a number for ipa_width: where it is null, that of the classes, once they are set."""
        if self.ipa_width is not None or self.classes is None:
            return self
        wanted = set(self.classes) <= set(PHONEMES) or self.classifier != "linear"
        return self.model_copy(update={"ipa_width": max(1, self.embedding_width // 2) if wanted else 0})

    def _check_size(self) -> None:
        """UserError: the largest arrays of the model alone are too large, which is known before they are made."""
        pooled = (self.time_points or 1) if self.pool == "flatten" else 1
        arrays = {
            # Attention and the pointwise convolution; the feed-forward network. Of an LSTM: two directions, four gates.
            "model.layers": self.layers * self.width**2 * (12 if self.encoder == "lstm" else 5),
            "model.feedforward_factor": self.layers * self.width**2 * 2 * self.feedforward_factor,
            "model.stem_kernel_sizes": self.stem_kernel_sizes[1] * self.width**2,
            "model.kernel_size": self.layers * self.kernel_size * self.width,
            "model.max_distance": self.layers * (self.num_buckets or self.max_distance) * self.width,
            "model.embedding_width": 2 * self.width * pooled * self.embedding_width,
        }
        key, count = max(arrays.items(), key=lambda item: item[1])
        if count > MAX_PARAMETERS:
            came = f"model.width={self.width} and {key}={shown(getattr(self, key.removeprefix('model.')))} make a model"
            wanted = f"at most {MAX_PARAMETERS:,} parameters"
            raise unfit(f"{came} of more than {count:,} parameters", wanted, f"set a smaller model.width or {key}")

    def _check_kernels(self, time_points: int | None) -> None:
        """UserError: the kernels of attention=fused do not have these sizes."""
        if self.attention != "fused" or self.encoder != "conformer":
            return
        head = self.width // self.heads
        came, wanted = f"model.attention=fused with heads of width {head}", "a power of two from 16 to 128"
        if head not in KERNEL_WIDTHS:
            raise unfit(came, wanted, "set another model.width or model.heads, or model.attention=plain")
        came, wanted = f"model.attention=fused with {time_points} time points", f"at most {MOST_KERNEL_TIME_POINTS}"
        if time_points is not None and time_points > MOST_KERNEL_TIME_POINTS:
            raise unfit(came, wanted, "use shorter windows, or set model.attention=plain")

    def for_data(self, *, sensors: int, time_points: int, classes: Sequence[str]) -> "ModelConfig":
        """This configuration with sensors, time points and classes of the data filled in.

        UserError: one of them was set to something else, or the kernels of attention=fused do not have such sizes.
        """
        found = {"sensors": sensors, "time_points": time_points, "classes": tuple(classes)}
        for name, value in found.items():
            wanted = getattr(self, name)
            if wanted is not None and wanted != value:
                came, expected = f"the configuration says {_brief(wanted)}", f"{_brief(value)}, as in the data"
                way_out = f"leave model.{name} out of the configuration, or name other data with --data"
                raise UserError(f"model.{name}", came, expected, way_out)
        filled = self.model_copy(update=found)
        filled._check_kernels(time_points)
        filled._check_size()
        return filled


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
    ipa_weight: NonNegative | None = None
    """Weight of the IPA feature loss; null: 0.2 where the model has a head for it, or else 0."""
