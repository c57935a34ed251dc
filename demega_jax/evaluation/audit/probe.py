"""A small classifier that learns from a control's features alone: is the class in them at all?"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.split import Split
from demega_jax.evaluation.audit.controls import LEAST, blocks, noise_level, power

BANDS = 6  # of the spectrum, which grow with the frequency
RIDGE = 1e-9  # what is added to the covariance where nothing is to be shrunk

Features = dict[str, Float[np.ndarray, "N D"]]


def features_of(split: Split) -> Features:
    """The features of every row by control. The rows are read once, some at a time, and only the features are kept.

    phases: logarithm of the power of each sensor in each band.  moments: mean, and logarithm of the standard deviation,
    of each sensor.  level: the noise level.
    """
    found: dict[str, list[np.ndarray]] = {"phases": [], "moments": [], "level": []}
    for x in blocks(split):
        spectrum = power(x)
        deviation = np.log(np.maximum(x.std(axis=-1), LEAST))
        found["phases"].append(_bands(spectrum))
        found["moments"].append(np.concatenate([x.mean(axis=-1), deviation], axis=1))
        found["level"].append(noise_level(spectrum)[:, None])
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in found.items()}


def _bands(spectrum: Float[np.ndarray, "n C F"]) -> Float[np.ndarray, "n D"]:
    """The logarithm of the mean power of each sensor in each band."""
    count = spectrum.shape[-1]
    edges = np.unique(np.geomspace(1, count + 1, BANDS + 1).round().astype(int)) - 1
    powers = [spectrum[..., first:last].mean(axis=-1) for first, last in zip(edges, edges[1:], strict=False)]
    return np.log(np.maximum(np.concatenate(powers, axis=1), LEAST))


def shrinkage(x: Float[np.ndarray, "N D"]) -> float:
    """How far the covariance of centred features is best drawn to a multiple of the identity: 0 not at all, 1 wholly.

    Ledoit and Wolf, 2004, "A well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate
    Analysis 88, lemmas 3.2 to 3.4.
    """
    rows, width = x.shape
    covariance = x.T @ x / rows
    mean = np.trace(covariance) / width
    size = float(np.square(covariance).sum())
    error = (np.square(np.square(x).sum(axis=1)).sum() / rows - size) / rows
    distance = size - mean**2 * width
    return float(min(error, distance) / distance) if distance > 0 else 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """Linear discriminant analysis with one shrunk covariance, in which every class is as probable as another.

    mean, scale [D]: of the features.  classes [n]: those that occur.  weights [D, n], bias [n]: of their scores.
    """

    mean: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]
    classes: Int[np.ndarray, " n"]
    weights: Float[np.ndarray, "D n"]
    bias: Float[np.ndarray, " n"]

    @classmethod
    def fit(cls, x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"]) -> "Probe":
        """The probe of features and labels, in closed form."""
        classes, of_row = np.unique(labels, return_inverse=True)
        mean = x.mean(axis=0)
        centres = np.zeros((len(classes), x.shape[1]))
        np.add.at(centres, of_row, x - mean)
        centres /= np.bincount(of_row)[:, None]
        inner = x - mean - centres[of_row]
        scale = inner.std(axis=0)
        scale[scale == 0] = 1.0
        inner /= scale
        centres /= scale
        shrink = shrinkage(inner)
        covariance = inner.T @ inner / len(x)
        average = np.trace(covariance) / x.shape[1]
        covariance *= 1 - shrink
        covariance[np.diag_indices_from(covariance)] += (shrink + RIDGE) * average + LEAST
        weights = np.linalg.solve(covariance, centres.T)
        return cls(mean, scale, classes, weights, -np.einsum("nd,dn->n", centres, weights) / 2)

    def predict(self, x: Float[np.ndarray, "N D"]) -> Int[np.ndarray, " N"]:
        """The most probable class of each row."""
        scores = ((x - self.mean) / self.scale) @ self.weights + self.bias
        return self.classes[scores.argmax(axis=1)]
