"""The training objective: class loss + contrastive + IPA feature loss, on the global batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from demega_jax.config import LossConfig
from demega_jax.config.model import IPA_WEIGHT
from demega_jax.losses.contrastive import supervised_nt_xent
from demega_jax.losses.focal import class_loss
from demega_jax.losses.reduce import Rows
from demega_jax.model.demega import Outputs


class Losses(NamedTuple):
    """The objective and its parts, each a scalar; a part that is off is 0."""

    loss: Float[Array, ""]
    class_loss: Float[Array, ""]
    contrastive_loss: Float[Array, ""]
    ipa_loss: Float[Array, ""]


def ipa_loss(ipa_logits: Float[Array, "B F"], rows: Rows, table: Float[Array, "V F"]) -> Float[Array, ""]:
    """What these rows add to the mean binary cross entropy of feature logits against the features of the label."""
    return rows.share_of_mean(jnp.mean(optax.sigmoid_binary_cross_entropy(ipa_logits, table[rows.label]), axis=-1))


def objective(
    outputs: Outputs,
    label: Int[Array, " B"],
    valid: Bool[Array, " B"],
    config: LossConfig,
    *,
    table: Float[Array, "V F"] | None,
    weights: Float[Array, " V"] | None,
    soft: Float[Array, "B V"] | None = None,
    axis_name: str | None = None,
) -> Losses:
    """All losses of a batch (model.md section 6). table: features of the classes; weights: of the classes.

    axis_name: over whose devices the global batch is divided; the losses are then what these rows add to its losses.
    soft: the wanted probabilities of rows without a sure label, and zeros in the others. Rows that have them count in
    the class loss alone, since the two other losses need the class itself.
    """
    target, classes = None, outputs.logits.shape[-1]
    rows = sure_rows = Rows.of(label, valid, classes, axis_name)
    if soft is not None:
        sure = soft.sum(axis=-1) == 0
        target = jnp.where(sure[:, None], jax.nn.one_hot(label, classes), soft)
        sure_rows = Rows.of(label, valid & sure, classes, axis_name)
    classification = class_loss(outputs.logits, rows, config, weights=weights, target=target)
    contrastive = ipa = jnp.zeros((), jnp.float32)
    if config.contrastive_weight and outputs.projection is not None:
        contrastive = supervised_nt_xent(
            outputs.projection, sure_rows, temperature=config.contrastive_temperature, axis_name=axis_name
        )
    ipa_weight = IPA_WEIGHT if config.ipa_weight is None else config.ipa_weight
    if ipa_weight and outputs.ipa_logits is not None and table is not None:
        ipa = ipa_loss(outputs.ipa_logits, sure_rows, table)
    total = classification + config.contrastive_weight * contrastive + ipa_weight * ipa
    return Losses(total, classification, contrastive, ipa)
