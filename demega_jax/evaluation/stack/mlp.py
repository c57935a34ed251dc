"""Training of MLP stackers, several seeds side by side in one program."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from demega_jax.config import StackConfig
from demega_jax.metrics import macro_f1
from demega_jax.model.stacker import Stacker

Rows = Int[np.ndarray, " n"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Learner:
    """One stacker under training: its parameters, running statistics, Adam's moments and learning rate."""

    params: PyTree
    statistics: PyTree
    moments: PyTree
    rate: Float[Array, ""]


@dataclasses.dataclass(frozen=True, eq=False)
class MLPStackers:
    """Trained MLP stackers, whose probabilities are averaged. arrays: of each, with an axis of stackers in front."""

    graphdef: nnx.GraphDef
    params: PyTree
    statistics: PyTree
    held_out: tuple[float, ...]

    def predict(self, x: Float[np.ndarray, "N I"]) -> Float[np.ndarray, "N V"]:
        """Probabilities of the classes."""
        return np.asarray(_probabilities(self.graphdef, self.params, self.statistics, x)).mean(axis=0)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that `of` makes them of again."""
        leaves = jax.tree.leaves((self.params, self.statistics))
        found = {f"leaf_{place:02}": np.asarray(leaf) for place, leaf in enumerate(leaves)}
        return found | {"held_out": np.array(self.held_out)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], config: StackConfig, bases: int, classes: int) -> Self:
        """The stackers of their arrays. ValueError: there are too few, or too many."""
        graphdef, params, statistics = build(config, bases * classes, classes, 0)
        leaves = [arrays[name] for name in sorted(arrays) if name.startswith("leaf_")]
        params, statistics = jax.tree.unflatten(jax.tree.structure((params, statistics)), leaves)
        return cls(graphdef, params, statistics, tuple(arrays["held_out"].tolist()))


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(graphdef: nnx.GraphDef, params: PyTree, statistics: PyTree, x: Array) -> Float[Array, "S N V"]:
    def of_one(params: PyTree, statistics: PyTree) -> Float[Array, "N V"]:
        return jax.nn.softmax(nnx.merge(graphdef, params, statistics)(x))

    return jax.vmap(of_one)(params, statistics)


def _key(seed: int) -> PRNGKeyArray:
    """A random key of a named kind, so that JAX_DEFAULT_PRNG_IMPL changes nothing."""
    return jax.random.key(seed, impl="threefry2x32")


def build(config: StackConfig, features: int, classes: int, seed: int) -> tuple[nnx.GraphDef, PyTree, PyTree]:
    """(static part, parameters, running statistics) of a new stacker."""
    model = Stacker(features, classes, width=config.width, dropout=config.dropout, rngs=nnx.Rngs(_key(seed)))
    graphdef, params, *rest = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, params, rest[0]


class _Training:
    """The compiled epoch of all stackers together."""

    def __init__(self, config: StackConfig, features: int, classes: int):
        self.config = config
        self.adam = optax.scale_by_adam()
        built = [build(config, features, classes, config.seed + number) for number in range(config.seeds)]
        self.graphdef = built[0][0]
        learners = [self._new(params, statistics) for _, params, statistics in built]
        self.learners = jax.tree.map(lambda *leaves: jnp.stack(leaves), *learners)
        self.epoch = jax.jit(jax.vmap(self._epoch, in_axes=(0, None, None, 0, 0)))

    def _new(self, params: PyTree, statistics: PyTree) -> Learner:
        return Learner(params, statistics, self.adam.init(params), jnp.asarray(self.config.learning_rate))

    def _epoch(self, learner: Learner, x: Array, labels: Array, rows: Int[Array, "n B"], key: Array) -> Learner:
        """One pass over the batches of row numbers."""

        def step(learner: Learner, batch: tuple[Array, Array]) -> tuple[Learner, None]:
            chosen, key = batch

            def loss(params: PyTree) -> tuple[Float[Array, ""], PyTree]:
                model = nnx.merge(self.graphdef, params, learner.statistics, copy=True)  # it updates its statistics
                logits = model(x[chosen], key=key)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen])
                return losses.mean(), nnx.state(model, nnx.BatchStat)

            gradients, statistics = jax.grad(loss, has_aux=True)(learner.params)
            updates, moments = self.adam.update(gradients, learner.moments)
            decay = self.config.weight_decay
            params = jax.tree.map(lambda p, u: p - learner.rate * (u + decay * p), learner.params, updates)
            return Learner(params, statistics, moments, learner.rate), None

        learner, _ = jax.lax.scan(step, learner, (rows, jax.random.split(key, len(rows))))
        return learner


def train_mlp(
    x: Float[np.ndarray, "N I"],
    labels: Int[np.ndarray, " N"],
    learn: Rows,
    held_out: Rows,
    classes: int,
    config: StackConfig,
) -> MLPStackers:
    """Train stackers on the rows `learn`, and keep the best ones by macro-F1 on the rows `held_out`.

    x: logits of the base models, side by side.  Each stacker keeps the parameters of its best epoch; its learning rate
    is halved after `plateau` epochs without a better one, and it stops after `patience` of them.
    """
    training = _Training(config, x.shape[1], classes)
    learners = kept = training.learners
    rng = np.random.default_rng(config.seed)
    size = min(config.batch_size, len(learn))
    best, stale = np.full(config.seeds, -1.0), np.zeros(config.seeds, int)
    for epoch in range(config.epochs):
        batches = np.stack([_batches(learn, size, rng) for _ in range(config.seeds)])
        keys = jax.random.split(_key(config.seed + epoch), config.seeds)
        learners = training.epoch(learners, x, labels, batches, keys)
        p = np.asarray(_probabilities(training.graphdef, learners.params, learners.statistics, x[held_out]))
        scores = np.array([macro_f1(labels[held_out], one.argmax(axis=-1)) for one in p])
        better = (scores > best) & (stale < config.patience)
        kept = _where(better, learners, kept)
        best = np.where(better, scores, best)
        stale = np.where(better, 0, stale + 1)
        halve = (stale > 0) & (stale % config.plateau == 0)
        learners = dataclasses.replace(learners, rate=jnp.where(halve, learners.rate / 2, learners.rate))
        if (stale >= config.patience).all():
            break
    chosen = np.argsort(-best, kind="stable")[: config.best]
    params, statistics = jax.tree.map(lambda leaf: leaf[chosen], (kept.params, kept.statistics))
    return MLPStackers(training.graphdef, params, statistics, tuple(best[chosen].tolist()))


def _batches(rows: Rows, size: int, rng: np.random.Generator) -> Int[np.ndarray, "n B"]:
    """A shuffled pass over rows in batches; the last one is filled up with rows from the beginning of the pass."""
    order = rng.permutation(rows)
    count = -(-len(order) // size)
    return np.resize(order, (count, size))


def _where(chosen: np.ndarray, new: Learner, old: Learner) -> Learner:
    def pick(a: Array, b: Array) -> Array:
        return jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)
