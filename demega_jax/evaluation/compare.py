"""Two sides of training runs on the same rows: over rows, and over seeds."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from demega_jax.data.split import Split
from demega_jax.errors import UserError
from demega_jax.evaluation.ensemble import combine
from demega_jax.evaluation.ensemble_report import Score
from demega_jax.evaluation.model import Model
from demega_jax.evaluation.predict import Predictions
from demega_jax.evaluation.runs import Ensemble
from demega_jax.evaluation.statistics import PairedDifference, compare_macro_f1

SeedTest = Literal["Wilcoxon signed-rank", "Mann-Whitney"]


@dataclasses.dataclass(frozen=True)
class SeedScore:
    """The score of one model. name: of its run or member.  seed: that it was trained with."""

    name: str
    seed: int
    score: Score


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a comparison. ensemble: the mean of the probabilities of all its models."""

    models: tuple[SeedScore, ...]
    ensemble: Score

    @property
    def scores(self) -> list[float]:
        """The macro-F1 of each model."""
        return [model.score.macro_f1 for model in self.models]

    @property
    def mean(self) -> float:
        """The mean macro-F1 of the models."""
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the models' macro-F1 (of a sample); None for one model."""
        return float(np.std(self.scores, ddof=1)) if len(self.models) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """The side in plain Python types."""
        return dataclasses.asdict(self) | {"mean": self.mean, "standard_deviation": self.deviation}


@dataclasses.dataclass(frozen=True)
class SeedComparison:
    """A test over seeds. p: two-sided.  least_p: the smallest p that so few seeds can give.

    difference: mean macro-F1 of the first side less that of the second.  deviation: standard deviation of the
    differences of pairs; None where seeds are not paired.  sizes: models of each side.
    """

    test: SeedTest
    difference: float
    deviation: float | None
    p: float
    least_p: float
    sizes: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """count: rows.  rows: the paired bootstrap over rows between the two ensembles.

    seeds: the test over seeds; None where a side has one model only.
    """

    sides: tuple[Side, Side]
    count: int
    rows: PairedDifference
    seeds: SeedComparison | None

    def to_json(self) -> dict[str, Any]:
        """The comparison in plain Python types."""
        return {
            "rows": self.count,
            "sides": [side.to_json() for side in self.sides],
            "over_rows": dataclasses.asdict(self.rows),
            "over_seeds": None if self.seeds is None else dataclasses.asdict(self.seeds),
        }


def compare_sides(models: Sequence[Model], others: Sequence[Model], split: Split) -> Comparison:
    """Compare the models of two sides on a split whose rows all have labels. UserError: rows without a label."""
    if not split.labelled:
        raise UserError(split.path, "rows without a label", "a label for every row", "use data with labels")
    found = Ensemble.of([*models, *others], rows=split.rows).predict(split)
    first = sum(len(model.steps) for model in models)
    parts = [
        dataclasses.replace(found, names=found.names[some], logits=found.logits[some])
        for some in (slice(first), slice(first, None))
    ]
    sides = _side(models, parts[0]), _side(others, parts[1])
    one, other = (combine(part, "mean").argmax(axis=-1) for part in parts)
    over_rows = compare_macro_f1(split.labels, one, other)
    several = all(len(side.models) > 1 for side in sides)
    return Comparison(sides, split.rows, over_rows, compare_seeds(*sides) if several else None)


def _side(models: Sequence[Model], found: Predictions) -> Side:
    seeds = [model.config.train.seed + member for model in models for member in range(len(model.steps))]
    scores = [Score.of(found.labels, p) for p in found.probabilities]
    each = tuple(SeedScore(*both) for both in zip(found.names, seeds, scores, strict=True))
    return Side(each, Score.of(found.labels, combine(found, "mean")))


def compare_seeds(one: Side, other: Side) -> SeedComparison:
    """A test of whether the scores of two sides differ beyond what seeds do.

    Where both sides have the same seeds, each once, scores are paired by seed: the signed-rank test of Wilcoxon (1945).
    Otherwise the rank-sum test of Mann and Whitney (1947). Both are exact for few seeds and scores without ties.
    """
    seeds = [[model.seed for model in side.models] for side in (one, other)]
    sizes = len(seeds[0]), len(seeds[1])
    difference = one.mean - other.mean
    if sorted(seeds[0]) == sorted(seeds[1]) and len(set(seeds[0])) == sizes[0]:
        pairs = _by_seed(one) - _by_seed(other)
        p = float(stats.wilcoxon(pairs).pvalue) if pairs.any() else 1.0
        return SeedComparison(
            "Wilcoxon signed-rank", difference, float(pairs.std(ddof=1)), p, min(1.0, 2.0 ** (1 - sizes[0])), sizes
        )
    p = float(stats.mannwhitneyu(one.scores, other.scores).pvalue)
    least = min(1.0, 2 / math.comb(sum(sizes), sizes[0]))
    return SeedComparison("Mann-Whitney", difference, None, p, least, sizes)


def _by_seed(side: Side) -> Float[np.ndarray, " M"]:
    """The scores in the order of the seeds."""
    return np.array([model.score.macro_f1 for model in sorted(side.models, key=lambda model: model.seed)])
