"""How well phonetic (IPA) features are told: by the predicted phoneme, and by the feature head where there is one."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from demega_jax.evaluation.report.figure import BLUE, ORANGE, bare, new_figure
from demega_jax.metrics import Scores
from demega_jax.phonemes import FEATURES, PHONEMES, feature_table


def features_of_predictions(scores: Scores) -> dict[str, float]:
    """The share of rows whose predicted phoneme has the feature's true value; empty where classes are not phonemes."""
    if not set(scores.classes) <= set(PHONEMES):
        return {}
    table = feature_table(scores.classes)
    same = table[:, None] == table[None]
    right = (scores.confusion[..., None] * same).sum(axis=(0, 1)) / scores.rows
    return dict(zip(FEATURES, right.tolist(), strict=True))


def majority(scores: Scores) -> Float[np.ndarray, " F"]:
    """For each feature, the share of rows that have its more frequent value."""
    share = scores.support @ feature_table(scores.classes) / scores.rows
    return np.maximum(share, 1 - share)


def draw_features(scores: Scores) -> Figure | None:
    """A bar for each feature, with a mark at the accuracy of always saying its more frequent value.

    None where the classes are not phonemes.
    """
    predicted = features_of_predictions(scores)
    if not predicted:
        return None
    head: Mapping[str, float] = scores.ipa_feature_accuracy or {}
    bars = [("of the predicted phoneme", predicted, BLUE)]
    if set(head) == set(predicted):
        bars.append(("of the IPA feature head", dict(head), ORANGE))
    figure = new_figure(5.6, 5.2)
    axes = figure.subplots()
    height = 0.8 / len(bars)
    places = np.arange(len(FEATURES))
    for number, (label, values, color) in enumerate(bars):
        shift = (number - (len(bars) - 1) / 2) * height
        found = [values[name] for name in FEATURES]
        mean = np.mean(found)
        axes.barh(places + shift, found, height=0.9 * height, color=color, label=f"{label}, mean {mean:.3f}")
    label = "always the more frequent value"
    axes.vlines(majority(scores), places - 0.45, places + 0.45, color="black", linewidth=1.8, label=label)
    axes.set_yticks(places, FEATURES)
    axes.set_ylim(len(FEATURES) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy (0 to 1)")
    axes.set_title(f"Accuracy of phonetic features, n = {scores.rows:,} rows", fontsize=11)
    bare(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8.5)
    return figure
