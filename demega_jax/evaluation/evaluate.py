"""Scores of a whole split: integer counts on the devices, one division at the end."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from demega_jax.config import Config
from demega_jax.data.feeds.stream import split_batches
from demega_jax.data.grouped import GroupedSplit
from demega_jax.evaluation.metrics import Scores, scores
from demega_jax.losses.focal import loss_shares
from demega_jax.phonemes import FEATURES
from demega_jax.training.parallel import Placement
from demega_jax.training.step import EvaluationCounts

EvaluateStep = Callable[[Any, Any, Any, Any], EvaluationCounts]


def evaluate_split(
    evaluate: EvaluateStep, params: Any, buffers: Any, split: GroupedSplit, config: Config, placement: Placement,
    batch_size: int,
) -> Scores:  # fmt: skip
    """Scores of every row of a split. The batch size and the devices change nothing but the time it takes."""
    features = buffers["feature_table"].shape[-1] if "feature_table" in buffers else 0
    counts = placement.replicate(EvaluationCounts.zero(len(split.classes), features))
    for batch in split_batches(split, batch_size=batch_size, place=placement.put_batch):
        counts = evaluate(params, buffers, counts, batch)
    return scores_of(jax.tree.map(np.asarray, counts), split, config)


def scores_of(counts: EvaluationCounts, split: GroupedSplit, config: Config) -> Scores:
    """Scores from the counts of a whole split; the loss is the class loss alone (model.md section 6)."""
    confusion = np.asarray(counts.confusion, np.int64)
    support = confusion.sum(1)
    rows = support.sum()
    present = support > 0
    focal_share, ce_share = loss_shares(config.loss.class_loss, config.loss.label_smoothing)
    focal = np.asarray(counts.focal, np.float64)
    by_class = config.loss.class_loss == "balanced_focal"
    focal_mean = np.mean(focal[present] / support[present]) if by_class else focal.sum() / rows
    loss = focal_share * focal_mean + ce_share * np.asarray(counts.cross_entropy, np.float64).sum() / rows
    ipa = np.asarray(counts.ipa_correct, np.float64) / rows
    names = FEATURES if len(ipa) == len(FEATURES) else tuple(f"feature_{i}" for i in range(len(ipa)))
    return scores(
        confusion, split.classes, loss=float(loss),
        ipa_accuracy=float(ipa.mean()) if len(ipa) else None,
        ipa_feature_accuracy=dict(zip(names, ipa.tolist(), strict=True)) if len(ipa) else None,
        reference_macro_f1=split.reference_macro_f1,
    )  # fmt: skip
