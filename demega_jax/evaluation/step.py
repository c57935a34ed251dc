"""The evaluation step: a pure function that may know an axis name, never a device."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Int32

from demega_jax.config import Config
from demega_jax.losses.focal import class_sums, row_losses
from demega_jax.losses.reduce import psum
from demega_jax.metrics import BINS, TOP
from demega_jax.model.demega import Outputs
from demega_jax.training.step import Batch, inputs


def confusion_counts(
    logits: Float[Array, "B V"], label: Int[Array, " B"], valid: Bool[Array, " B"]
) -> Int32[Array, "V V"]:
    """Counts of (label, prediction) over the valid rows. Counts of batches and of devices are added.

    The prediction is the class with the largest logit, the first of equal ones. A label outside 0 .. V-1 is left out.
    """
    classes = logits.shape[-1]
    label_bv = jax.nn.one_hot(label, classes) * valid[:, None]
    prediction_bv = jax.nn.one_hot(jnp.argmax(logits, axis=-1), classes)
    # A product of zeros and ones instead of a scatter. The float32 sums are exact below 2**24 rows, even where a matrix
    # unit rounds its inputs.
    counts = jnp.einsum("bi,bj->ij", label_bv, prediction_bv, preferred_element_type=jnp.float32)
    return counts.astype(jnp.int32)


def right_at_10(logits: Float[Array, "B V"], label: Int[Array, " B"], valid: Bool[Array, " B"]) -> Int32[Array, " V"]:
    """Valid rows of each class whose label is among the 10 largest logits, as `right_at_10_of` counts them.

    The rank of the label is a count of comparisons, which needs no sort. A logit that is not a number ranks before it.
    """
    classes = jnp.arange(logits.shape[-1])
    is_label = label[:, None] == classes
    of_label = jnp.max(jnp.where(is_label, logits, -jnp.inf), axis=-1, keepdims=True)
    listed_first = classes < label[:, None]
    before = ~is_label & jnp.where(listed_first, ~(logits < of_label), ~(logits <= of_label))
    within = (jnp.sum(before, axis=-1) < TOP) & valid
    return jnp.sum(is_label & within[:, None], axis=0, dtype=jnp.int32)


def mean_probabilities(logits: Float[Array, "M B V"]) -> Float[Array, "B V"]:
    """Probabilities of the classes, averaged over members."""
    return jnp.mean(jax.nn.softmax(logits), axis=0)


def calibration_sums(
    logits: Float[Array, "B V"], label: Int[Array, " B"], valid: Bool[Array, " B"]
) -> tuple[Int32[Array, " b"], Int32[Array, " b"], Float[Array, " b"]]:
    """Rows, rows predicted right, and the sum of the confidences, of the valid rows in each bin of `Calibration`."""
    confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
    right = jnp.argmax(logits, axis=-1) == label
    place = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    within = (place[:, None] == jnp.arange(BINS)) & valid[:, None]
    rows, of_right = (jnp.sum(chosen, axis=0, dtype=jnp.int32) for chosen in (within, within & right[:, None]))
    return rows, of_right, jnp.sum(jnp.where(within, confidence[:, None], 0.0), axis=0)


class EvaluationCounts(NamedTuple):
    """Sums over rows: counts of (label, prediction) [V, V], rows of each class that are right at 10 [V], losses of each
    class [V], right IPA features [F], and rows, right rows and confidence of each bin of confidence [b]."""

    confusion: Int[Array, "V V"]
    right_at_10: Int[Array, " V"]
    focal: Float[Array, " V"]
    cross_entropy: Float[Array, " V"]
    ipa_correct: Int[Array, " F"]
    bin_rows: Int[Array, " b"]
    bin_right: Int[Array, " b"]
    bin_confidence: Float[Array, " b"]

    @classmethod
    def zero(cls, classes: int, features: int) -> "EvaluationCounts":
        """The counts of no rows."""
        confusion, right = jnp.zeros((classes, classes), jnp.int32), jnp.zeros(features, jnp.int32)
        at_10, bins = jnp.zeros(classes, jnp.int32), jnp.zeros(BINS, jnp.int32)
        return cls(confusion, at_10, jnp.zeros(classes), jnp.zeros(classes), right, bins, bins, jnp.zeros(BINS))


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluateStep:
    """The function (params, buffers, counts, batch) -> counts, with what stays the same for all batches.

    graphdef: static part of the model.  weights [V]: of the classes in the training loss, or None.
    normalized: whether windows are stored normalised.  members: whether params and buffers have an axis of members in
    front; their probabilities are averaged.
    """

    graphdef: Any
    config: Config
    weights: Float[Array, " V"] | None
    normalized: bool = False
    members: bool = False

    def _outputs(self, params: Any, buffers: Any, x: Array) -> tuple[Float[Array, "B V"], Float[Array, "B F"] | None]:
        """Logits of the classes, and of the IPA features where the model predicts them."""

        def of_one(params: Any, buffers: Any) -> Outputs:
            return nnx.merge(self.graphdef, params, buffers)(x, normalized=True)

        if not self.members:
            outputs = of_one(params, buffers)
            return outputs.logits, outputs.ipa_logits
        outputs, ipa_logits = jax.vmap(of_one)(params, buffers), None
        if outputs.ipa_logits is not None:
            ipa_logits = jax.scipy.special.logit(jnp.mean(jax.nn.sigmoid(outputs.ipa_logits), axis=0))
        return jnp.log(mean_probabilities(outputs.logits)), ipa_logits

    def __call__(
        self, params: Any, buffers: Any, counts: EvaluationCounts, batch: Batch, axis_name: str | None = None
    ) -> EvaluationCounts:
        """`counts` with those of a batch added."""
        x = inputs(batch, self.config.model.input_norm, self.normalized)
        logits, ipa_logits = self._outputs(params, buffers, x)
        label, valid = batch["label"], batch["valid"]
        classes = logits.shape[-1]
        focal, cross_entropy = row_losses(logits, jax.nn.one_hot(label, classes), self.config.loss, self.weights)
        ipa_correct = jnp.zeros_like(counts.ipa_correct)
        if ipa_logits is not None:
            table = buffers["feature_table"][0] if self.members else buffers["feature_table"]
            right = (ipa_logits > 0) == (table[label] > 0.5)
            ipa_correct = jnp.sum(right & valid[:, None], axis=0, dtype=jnp.int32)
        batch_counts = EvaluationCounts(
            confusion_counts(logits, label, valid),
            right_at_10(logits, label, valid),
            class_sums(focal, label, valid, classes),
            class_sums(cross_entropy, label, valid, classes),
            ipa_correct,
            *calibration_sums(logits, label, valid),
        )
        return jax.tree.map(jnp.add, counts, psum(batch_counts, axis_name))
