"""Scores of 39 phonemes that were made up."""

import numpy as np

from demega_jax.metrics import Calibration, Scores, scores
from demega_jax.phonemes import FEATURES, PHONEMES

__all__ = ["PHONEMES", "full_scores"]


def full_scores() -> Scores:
    """Everything known, many rows, none of zh."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 300, (39, 39)) + np.diag(rng.integers(10_000, 90_000, 39))
    counts[38] = 0
    features = {name: 0.5 + i / 100 for i, name in enumerate(FEATURES)}
    rows, at_10 = np.arange(15) * 100, counts.sum(1) * 9 // 10
    return scores(
        counts,
        PHONEMES,
        right_at_10=at_10,
        loss=2.25,
        ipa_accuracy=0.8125,
        ipa_feature_accuracy=features,
        reference_macro_f1=0.45,
        calibration=Calibration(rows, rows // 2, rows * np.linspace(0.05, 0.95, 15)),
    )
