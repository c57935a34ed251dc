"""Scores of a whole split: integer counts on the devices, one division at the end."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from demega_jax.config import Config
from demega_jax.data.feeds.stream import split_batches
from demega_jax.data.split import Split
from demega_jax.evaluation.compiled import compile_evaluate
from demega_jax.evaluation.step import EvaluateStep, EvaluationCounts
from demega_jax.losses.focal import loss_shares
from demega_jax.metrics import Calibration, Scores, scores
from demega_jax.phonemes import FEATURES
from demega_jax.training.parallel import Placement
from demega_jax.training.setup import Experiment, is_normalized, loss_weights

CompiledStep = Callable[[Any, Any, Any, Any], EvaluationCounts]
Validate = Callable[[Any, Any], Scores]


def make_evaluate_step(
    config: Config, graphdef: Any, class_counts: Int[np.ndarray, " V"], split: Split, *, members: bool = False
) -> EvaluateStep:
    """The evaluation step of a model on a split. class_counts [V]: of the training split.

    members: whether several models are averaged.
    """
    return EvaluateStep(graphdef, config, loss_weights(config, class_counts), is_normalized(config, split), members)


def validation_of(experiment: Experiment) -> Validate:
    """The function (params, buffers) -> scores of the validation split, for the training loop."""
    config, data, placement = experiment.config, experiment.data, experiment.placement
    step = make_evaluate_step(config, experiment.train_step.graphdef, data.train.class_counts(), data.validation)
    compiled = compile_evaluate(placement, step)

    def validate(params: Any, buffers: Any) -> Scores:
        size = placement.padded(config.train.batch_size)
        return evaluate_split(compiled, params, buffers, data.validation, config, placement, size)

    return validate


def evaluate_split(
    evaluate: CompiledStep,
    params: Any,
    buffers: Any,
    split: Split,
    config: Config,
    placement: Placement,
    batch_size: int,
) -> Scores:
    """Scores over all rows of a split. The batch size and the devices change only how long it takes."""
    features = buffers["feature_table"].shape[-1] if "feature_table" in buffers else 0
    counts = placement.replicate(EvaluationCounts.zero(len(split.classes), features))
    who = {"process_index": placement.process, "process_count": placement.processes}
    for batch in split_batches(split, batch_size=batch_size, place=placement.put_batch, **who):
        counts = evaluate(params, buffers, counts, batch)
    return scores_of(jax.tree.map(np.asarray, counts), split, config)


def scores_of(counts: EvaluationCounts, split: Split, config: Config) -> Scores:
    """Scores from the counts of a whole split. The loss is the class loss without the others (model.md section 6)."""
    confusion = np.asarray(counts.confusion, np.int64)
    support = confusion.sum(1)
    rows = support.sum()
    present = support > 0
    focal_share, ce_share = loss_shares(config.loss)
    focal = np.asarray(counts.focal, np.float64)
    by_class = config.loss.class_loss == "balanced_focal"
    focal_mean = np.mean(focal[present] / support[present]) if by_class else focal.sum() / rows
    loss = focal_share * focal_mean + ce_share * np.asarray(counts.cross_entropy, np.float64).sum() / rows
    ipa = np.asarray(counts.ipa_correct, np.float64) / rows
    names = FEATURES if len(ipa) == len(FEATURES) else tuple(f"feature_{i}" for i in range(len(ipa)))
    return scores(
        confusion,
        split.classes,
        right_at_10=np.asarray(counts.right_at_10, np.int64),
        loss=float(loss),
        ipa_accuracy=float(ipa.mean()) if len(ipa) else None,
        ipa_feature_accuracy=dict(zip(names, ipa.tolist(), strict=True)) if len(ipa) else None,
        reference_macro_f1=split.reference_macro_f1,
        calibration=Calibration(
            np.asarray(counts.bin_rows, np.int64),
            np.asarray(counts.bin_right, np.int64),
            np.asarray(counts.bin_confidence, np.float64),
        ),
    )
