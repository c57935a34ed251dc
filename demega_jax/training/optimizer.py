"""AdamW for groups of parameters, with clipping, warm-up and cosine (Loshchilov & Hutter, 2017, 2019)."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from demega_jax.config import Config
from demega_jax.errors import UserError
from demega_jax.names import MAX_STEPS

Schedule = Callable[[Any], Any]
KeyPath = tuple[Any, ...]
FROZEN = "frozen"
HEADS = ("aggregator", "classifier", "ipa", "projection")
BODY = ("encoder",)
DEFAULT_EPOCHS = 30


def path_name(path: KeyPath) -> str:
    """A key path of jax.tree_util as a name such as `encoder.layers.0.norm1.scale`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def assign_groups(params: Any, groups: Mapping[str, Sequence[str]], frozen: Sequence[str] = ()) -> Any:
    """The tree of `params` with the name of its group in place of each parameter.

    groups: path prefixes of each group.  frozen: paths whose parameters are in the group "frozen"; final_norm is short
    for encoder.final_norm.  UserError: a parameter is in no group or in several, or a frozen path names no parameter.
    """
    used: set[str] = set()

    def group_of(path: KeyPath, _: Any) -> str:
        name = path_name(path)
        matching = [p for p in frozen if _below(name, p) or _below(name, f"encoder.{p}")]
        used.update(matching)
        if matching:
            return FROZEN
        found = [group for group, prefixes in groups.items() if any(_below(name, p) for p in prefixes)]
        if len(found) != 1:
            came = f"in the groups {', '.join(found)}" if found else "in no optimizer group"
            raise UserError(f"parameter {name}", came, "exactly one group", f"choose one of {dict(groups)} for it")
        return found[0]

    labels = jax.tree_util.tree_map_with_path(group_of, params)
    if unused := sorted(set(frozen) - used):
        names = sorted({path_name(p).rpartition(".")[0] for p, _ in jax.tree_util.tree_leaves_with_path(params)})
        came, way_out = f"{unused[0]!r} names no parameter", "correct the path, or leave it out of optim.frozen"
        raise UserError("optim.frozen", came, f"a path such as {names[0]}", way_out)
    return labels


def unit_schedule(config: Config, steps_per_epoch: int, total_steps: int) -> Schedule:
    """Warm-up and cosine, with values between 0 and 1, as a function of the number of updates so far.

    per_step: (s + 1) / w for s < w, then (1 + cos(pi (s - w) / (n - w))) / 2, with n steps of which w warm up.
    per_epoch: the same with the epoch number s // steps_per_epoch in place of s, and n epochs (model.md section 7).
    """
    per_epoch = config.optim.schedule == "per_epoch"
    length = schedule_length(config, steps_per_epoch, total_steps)
    warm = round(config.optim.warmup * length)
    cosine = optax.cosine_decay_schedule(1.0, max(1, length - warm))
    if warm:
        # optax takes a ramp over no steps for a constant. A warm-up of one step is at 1 from the start.
        ramp = optax.linear_schedule(1 / warm, 1.0, warm - 1) if warm > 1 else optax.constant_schedule(1.0)
        shape = optax.join_schedules([ramp, cosine], [warm])
    else:
        shape = cosine
    return (lambda step: shape(step // steps_per_epoch)) if per_epoch else shape


def schedule_length(config: Config, steps_per_epoch: int, total_steps: int) -> int:
    """Length of warm-up and cosine together, in steps (per_step) or epochs (per_epoch)."""
    run = total_steps if config.optim.schedule == "per_step" else -(-total_steps // steps_per_epoch)
    return config.optim.schedule_length or run


def swa_start_step(config: Config, steps_per_epoch: int, total_steps: int) -> int:
    """The update after which averaging: swa begins."""
    length = schedule_length(config, steps_per_epoch, total_steps)
    steps = length * (steps_per_epoch if config.optim.schedule == "per_epoch" else 1)
    return int(config.train.swa_start * min(steps, total_steps))


def learning_rate_schedule(config: Config, steps_per_epoch: int, total_steps: int) -> Schedule:
    """Learning rate of the encoder as a function of the number of updates; heads have head_lr_multiplier times it."""
    shape = unit_schedule(config, steps_per_epoch, total_steps)
    peak, late = config.optim.learning_rate, config.optim.swa_learning_rate
    if late is None:
        return lambda step: peak * shape(step)
    start = swa_start_step(config, steps_per_epoch, total_steps)
    return lambda step: jnp.where(step < start, peak * shape(step), late)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FlatParams:
    """The parameters of a model: the trained ones as one vector, and the frozen leaves as they are."""

    vector: Float[Array, " N"]
    frozen: list[Array]


@dataclasses.dataclass(frozen=True, eq=False)
class ParameterGroups:
    """The trained parameters as one vector: those of the body, then those of the heads. Frozen ones are not in it.

    The optimizer then runs a few large kernels in place of several for each of a hundred parameters, and the step
    compiles in half the time.

    names: the group of each leaf, in the order of the leaves of the tree.  shapes, structure: of the leaves, and of the
    tree.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    structure: Any

    @classmethod
    def of(cls, config: Config, params: Any) -> "ParameterGroups":
        """The groups of the parameters of a model: body, heads and frozen."""
        labels = assign_groups(params, {"body": BODY, "heads": HEADS}, config.optim.frozen)
        leaves, structure = jax.tree.flatten(params)
        return cls(tuple(jax.tree.leaves(labels)), tuple(leaf.shape for leaf in leaves), structure)

    @property
    def order(self) -> list[int]:
        """The numbers of the trained leaves, as they lie in the vector."""
        return [number for group in ("body", "heads") for number, name in enumerate(self.names) if name == group]

    def multipliers(self, of_heads: float) -> Float[Array, " N"]:
        """What multiplies the learning rate of each trained parameter: 1 in the body."""
        sizes = [math.prod(self.shapes[number]) for number in self.order]
        body = sum(size for number, size in zip(self.order, sizes, strict=True) if self.names[number] == "body")
        return jnp.where(jnp.arange(sum(sizes)) < body, 1.0, of_heads)

    def vector(self, tree: Any) -> Float[Array, " N"]:
        """The values of the trained leaves."""
        leaves = jax.tree.leaves(tree)
        return jnp.concatenate([jnp.ravel(leaves[number]) for number in self.order] or [jnp.zeros(0)])

    def flat(self, tree: Any) -> FlatParams:
        """The trained parameters as a vector, beside the frozen leaves."""
        frozen = [leaf for name, leaf in zip(self.names, jax.tree.leaves(tree), strict=True) if name == FROZEN]
        return FlatParams(self.vector(tree), frozen)

    def tree(self, flat: FlatParams) -> Any:
        """The tree of parameters whose trained values are those of the vector."""
        at, found = 0, {}
        for number in self.order:
            end = at + math.prod(self.shapes[number])
            found[number] = flat.vector[at:end].reshape(self.shapes[number])
            at = end
        frozen = iter(flat.frozen)
        leaves = [next(frozen) if name == FROZEN else found[number] for number, name in enumerate(self.names)]
        return jax.tree.unflatten(self.structure, leaves)

    def replace(self, tree: Any, vector: Float[Array, " N"]) -> Any:
        """The tree with the trained values of `vector`. Frozen leaves stay unchanged."""
        return self.tree(dataclasses.replace(self.flat(tree), vector=vector))


def make_optimizer(config: Config, schedule: Schedule, groups: ParameterGroups) -> optax.GradientTransformation:
    """An optimizer of `ParameterGroups.vector`: clip by its norm, then AdamW, whose learning rate is that of the
    group."""

    def rates(count: Array) -> Float[Array, " N"]:
        return groups.multipliers(config.optim.head_lr_multiplier) * schedule(count)

    clip = optax.clip_by_global_norm(config.optim.clip) if config.optim.clip else optax.identity()
    return optax.chain(clip, optax.adamw(rates, weight_decay=config.optim.weight_decay))


def run_length(config: Config, steps_per_epoch: int) -> int:
    """Number of updates in the whole training run. A length in epochs is rounded up to whole dispatches.

    UserError: it, or its schedule in epochs, has more steps than are counted (MAX_STEPS).
    """
    if config.train.steps is not None:
        return config.train.steps
    each, epochs = config.train.steps_per_dispatch, config.train.epochs or DEFAULT_EPOCHS
    schedule = config.optim.schedule_length if config.optim.schedule == "per_epoch" else None
    for key, length in (("train.epochs", epochs), ("optim.schedule_length", schedule or 0)):
        if length * steps_per_epoch + each > MAX_STEPS:
            came = f"{length} epochs of {steps_per_epoch} steps"
            raise UserError(
                key, came, f"at most {MAX_STEPS:,} steps", f"set {key}={MAX_STEPS // steps_per_epoch - each}"
            )
    return -(-epochs * steps_per_epoch // each) * each
