"""The linear stacker: multinomial logistic regression with an L2 penalty that is chosen on held-out rows."""

import dataclasses
from collections.abc import Mapping
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the squared weights, beside the mean cross entropy
TINY = 1e-12  # a feature that varies less than this is constant


@dataclasses.dataclass(frozen=True, eq=False)
class LinearStacker:
    """weight [I, V] and bias [V], for features that are standardised by mean [I] and scale [I].  penalty: chosen."""

    weight: Float[np.ndarray, "I V"]
    bias: Float[np.ndarray, " V"]
    mean: Float[np.ndarray, " I"]
    scale: Float[np.ndarray, " I"]
    penalty: float

    def predict(self, x: Float[np.ndarray, "N I"]) -> Float[np.ndarray, "N V"]:
        """Probabilities of the classes."""
        logits = (x - self.mean) / self.scale @ self.weight + self.bias
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that `of` makes it of again."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The stacker of its arrays. KeyError: one is not there."""
        penalty = float(arrays["penalty"])
        return cls(arrays["weight"], arrays["bias"], arrays["mean"], arrays["scale"], penalty)


@jax.jit
def _loss(
    parameters: Float[Array, " P"], x: Float[Array, "N I"], labels: Int[Array, " N"], penalty: Float[Array, ""]
) -> Float[Array, ""]:
    features = x.shape[1]
    table = parameters.reshape(features + 1, -1)
    weight, bias = table[:features], table[features]
    log_p = jax.nn.log_softmax(x @ weight + bias)
    return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean() + penalty * jnp.square(weight).sum()


_loss_and_gradient = jax.jit(jax.value_and_grad(_loss))


def fit_linear(
    x: Float[np.ndarray, "N I"], labels: Int[np.ndarray, " N"], classes: int, penalty: float
) -> LinearStacker:
    """The stacker with the least penalised mean cross entropy, which is convex (L-BFGS)."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.where(deviation > TINY, deviation, 1.0)
    standard = jnp.asarray((x - mean) / scale, jnp.float32)

    def of(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _loss_and_gradient(jnp.asarray(parameters, jnp.float32), standard, labels, penalty)
        return float(value), np.asarray(gradient, np.float64)

    start = np.zeros((x.shape[1] + 1) * classes)
    found = minimize(of, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    table = found.x.reshape(-1, classes)
    return LinearStacker(table[:-1], table[-1], mean, scale, penalty)


def train_linear(
    x: Float[np.ndarray, "N I"],
    labels: Int[np.ndarray, " N"],
    learn: Int[np.ndarray, " n"],
    held_out: Int[np.ndarray, " m"],
    classes: int,
) -> LinearStacker:
    """The stacker of the rows `learn` with the penalty that gives the rows `held_out` the least cross entropy."""

    def loss(stacker: LinearStacker) -> float:
        p = stacker.predict(x[held_out])
        return float(-np.log(np.maximum(p[np.arange(len(held_out)), labels[held_out]], TINY)).mean())

    return min((fit_linear(x[learn], labels[learn], classes, penalty) for penalty in PENALTIES), key=loss)
