"""Class losses: present-class focal, plain focal and smoothed cross entropy, and the weights of classes.

Means are over the rows of the global batch that are `valid`, on every device that shares `axis_name`; each device
computes what its own rows add to them.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from demega_jax.config import LossConfig
from demega_jax.losses.reduce import Rows

ClassWeights = Literal["none", "temperature", "inverse", "inverse_sqrt", "effective"]

PROBABILITY_FLOOR = 1e-8
BALANCED_CE_SHARE = 0.2  # balanced_focal with smoothing: 0.8 focal + 0.2 cross entropy
FOCAL_CE_SHARE = 0.3  # focal with smoothing: 0.7 focal + 0.3 cross entropy
WEIGHT_RANGE = (0.5, 5.0)  # of class_weights: temperature


def smoothed_cross_entropy(
    log_p: Float[Array, "B V"], target: Float[Array, "B V"], smoothing: float
) -> Float[Array, " B"]:
    """(1 - s) sum_j(-y_j log p_j) + s/V sum_j(-log p_j), unweighted (Szegedy et al., 2016), for targets y."""
    return -(1 - smoothing) * jnp.sum(log_p * target, axis=-1) - smoothing * jnp.mean(log_p, axis=-1)


def present_class_focal(
    log_p: Float[Array, "B V"],
    target: Float[Array, "B V"],
    *,
    gamma: float,
    smoothing: float,
    weights: Float[Array, " V"] | None,
) -> Float[Array, " B"]:
    """Focal terms of rows (Lin et al., 2017) against targets smoothed over the OTHER classes.

    sum_j -y~_j a_j (1 - p_j)^gamma log p_j with y~ = y (1 - s - s / (V - 1)) + s / (V - 1): for a target y that is 1 at
    the label, 1 - s there and s / (V - 1) elsewhere.
    """
    classes = log_p.shape[-1]
    smoothed = target * (1 - smoothing - smoothing / (classes - 1)) + smoothing / (classes - 1)
    terms = smoothed * _focus(log_p, gamma) * log_p
    return -jnp.sum(terms if weights is None else terms * weights, axis=-1)


def class_sums(
    row_loss: Float[Array, " B"], label: Int[Array, " B"], valid: Bool[Array, " B"], classes: int
) -> Float[Array, " V"]:
    """Sum of the valid rows' losses for each class."""
    return jnp.where(valid, row_loss, 0.0) @ (jax.nn.one_hot(label, classes) * valid[:, None])


def mean_over_present_classes(sums: Float[Array, " V"], counts: Float[Array, " V"]) -> Float[Array, ""]:
    """What sums of losses by class add to the mean of each present class's mean; 0 when no class is present.

    counts: rows of each class in the global batch.
    """
    present = counts > 0
    return jnp.sum(sums / jnp.maximum(counts, 1)) / jnp.maximum(jnp.sum(present), 1)


def loss_shares(config: LossConfig) -> tuple[float, float]:
    """(share of the focal part, share of the cross-entropy part) of a class loss."""
    if config.class_loss == "cross_entropy":
        return 0.0, 1.0
    share = BALANCED_CE_SHARE if config.class_loss == "balanced_focal" else FOCAL_CE_SHARE
    return (1.0 - share, share) if config.label_smoothing else (1.0, 0.0)


def row_losses(
    logits: Float[Array, "B V"], target: Float[Array, "B V"], config: LossConfig, weights: Float[Array, " V"] | None
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """(focal part, cross-entropy part) of each row's class loss. target: the probabilities that are wanted."""
    kind, gamma, smoothing = config.class_loss, config.focal_gamma, config.label_smoothing
    log_p = jax.nn.log_softmax(logits)
    cross_entropy = smoothed_cross_entropy(log_p, target, smoothing)
    if kind == "balanced_focal":
        focal = present_class_focal(log_p, target, gamma=gamma, smoothing=smoothing, weights=weights)
    elif kind == "focal":
        terms = target * _focus(log_p, gamma) * log_p
        focal = -jnp.sum(terms if weights is None else terms * weights, axis=-1)
    else:
        focal = jnp.zeros_like(cross_entropy)
    return focal, cross_entropy


def class_loss(
    logits: Float[Array, "B V"],
    rows: Rows,
    config: LossConfig,
    *,
    weights: Float[Array, " V"] | None = None,
    target: Float[Array, "B V"] | None = None,
) -> Float[Array, ""]:
    """What these rows add to the class loss of the global batch (model.md section 6): balanced_focal, focal or
    cross_entropy.

    target: the probabilities that are wanted; None: 1 for the label. Rows of a class are those with its label.
    """
    target = jax.nn.one_hot(rows.label, logits.shape[-1]) if target is None else target
    focal, cross_entropy = row_losses(logits, target, config, weights)
    focal_share, ce_share = loss_shares(config)
    total = ce_share * rows.share_of_mean(cross_entropy)
    if config.class_loss == "balanced_focal":
        sums = class_sums(focal, rows.label, rows.valid, logits.shape[-1])
        return focal_share * mean_over_present_classes(sums, rows.counts) + total
    return focal_share * rows.share_of_mean(focal) + total


def _focus(log_p: Float[Array, "*B"], gamma: float) -> Float[Array, "*B"]:
    """(1 - clip(p, 1e-8, 1 - 1e-8))^gamma; clipped after the subtraction, since 1 - 1e-8 is 1 in float32."""
    return jnp.clip(1 - jnp.exp(log_p), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR) ** gamma


def class_weights(
    counts: Int[np.ndarray, " V"], how: ClassWeights, *, temperature: float = 1.0, beta: float = 0.999
) -> Float[np.ndarray, " V"] | None:
    """Weights of the classes from the training split's counts, mean 1; None for `none`.

    temperature: exp(-t n_c / n), divided by the mean, clipped to [0.5, 5] (model.md section 6).
    inverse: 1 / n_c.  inverse_sqrt: 1 / sqrt(n_c).  effective: (1 - beta) / (1 - beta^n_c) (Cui et al., 2019).
    A class without rows counts as one row; it occurs in no training loss.
    """
    n = np.asarray(counts, np.float64)
    if how == "none":
        return None
    if how == "temperature":
        weights = np.exp(-temperature * n / n.sum())
        return np.clip(weights / weights.mean(), *WEIGHT_RANGE)
    n = np.maximum(n, 1)
    if how == "effective":
        weights = (1 - beta) / (1 - beta**n) if beta else np.ones_like(n)
    else:
        weights = 1 / n if how == "inverse" else 1 / np.sqrt(n)
    return weights / weights.mean()
