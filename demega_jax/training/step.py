"""The train step: a pure function that may know an axis name, never a device.

A batch is {"x": [B, C, T], "label": [B], "valid": [B]}; rows that are not valid are padding. Every loss and count is
that of the global batch, also where each device has only its own rows (`axis_name`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt32

from demega_jax.config import Config
from demega_jax.losses.objective import Losses, objective
from demega_jax.losses.reduce import psum
from demega_jax.model import cpu_layout
from demega_jax.model.dropout import Noise, row_keys
from demega_jax.names import Norm
from demega_jax.signal.augment import augment
from demega_jax.signal.normalize import normalize
from demega_jax.training.optimizer import ParameterGroups
from demega_jax.training.state import TrainState

Batch = Mapping[str, Array]
Vector = Float[Array, " N"]
Metrics = dict[str, Float[Array, ""]]


def global_rows(batch: Batch, axis_name: str | None) -> UInt32[Array, " B"]:
    """The numbers that the rows of this device have in the global batch."""
    count = batch["label"].shape[0]
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    return (first + jnp.arange(count)).astype(jnp.uint32)


def inputs(batch: Batch, how: Norm, normalized: bool) -> Float[Array, "B C T"]:
    """The windows of a batch in float32, normalised.

    normalized: whether they were stored normalised.  Where the batch has `median` and `iqr` [B, C], those are used.
    """
    return batch["x"].astype(jnp.float32) if normalized else normalize(batch["x"], how, batch)


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """The function (state, batch) -> (state, metrics), with what stays the same in all steps.

    graphdef: static part of the model.  weights [V]: of the classes in the loss, or None.  groups: of the parameters.
    tx: the optimizer of their vector.  swa_start: the update after which averaging=swa begins.  normalized: whether
    windows are stored normalised.
    """

    graphdef: Any
    config: Config
    weights: Float[Array, " V"] | None
    groups: ParameterGroups
    tx: optax.GradientTransformation
    swa_start: int
    normalized: bool = False

    def losses(
        self, params: Any, buffers: Any, batch: Batch, keys: UInt32[Array, "B 2"], axis_name: str | None
    ) -> tuple[Float[Array, ""], Losses]:
        """What the rows of a device add to the loss that is minimised, and to its parts. keys: random keys of the
        rows."""
        model = nnx.merge(self.graphdef, params, buffers)
        x = inputs(batch, self.config.model.input_norm, self.normalized)
        x = augment(x, keys, self.config.data.augment)
        outputs = model(x, normalized=True, noise=Noise(keys))
        table = model.feature_table[...] if model.ipa is not None else None
        losses = objective(
            outputs,
            batch["label"],
            batch["valid"],
            self.config.loss,
            table=table,
            weights=self.weights,
            soft=batch.get("target"),
            axis_name=axis_name,
        )
        return losses.loss, losses

    def gradients(self, state: TrainState, batch: Batch, axis_name: str | None) -> tuple[Vector, Losses]:
        """Gradient (as a vector) and losses of the global batch. With microbatches they are means over those."""
        run_key = jax.random.wrap_key_data(state.key, impl="threefry2x32")  # whatever JAX_DEFAULT_PRNG_IMPL says
        step_key = jax.random.key_data(jax.random.fold_in(run_key, state.step))
        keyed = dict(batch, keys=row_keys(step_key, global_rows(batch, axis_name)))
        gradient = jax.grad(self.losses, has_aux=True)
        count = self.config.train.accumulate

        def of(part: Batch) -> tuple[Any, Losses]:
            return gradient(state.params, state.buffers, part, part["keys"], axis_name)

        if count == 1:
            grads, losses = of(keyed)
        else:
            # Row r is in microbatch r % count for any number of devices, and no row moves to another device.
            parts = jax.tree.map(lambda a: a.reshape(-1, count, *a.shape[1:]).swapaxes(0, 1), keyed)

            def add(total: Any, part: Batch) -> tuple[Any, Any]:
                filled = psum(jnp.any(part["valid"]).astype(jnp.float32), axis_name) > 0
                return jax.tree.map(jnp.add, total, (of(part), filled.astype(jnp.float32))), None

            zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(of, jax.tree.map(lambda a: a[0], parts)))
            (total, filled), _ = jax.lax.scan(add, (zeros, jnp.zeros(())), parts)
            grads, losses = jax.tree.map(lambda a: a / jnp.maximum(filled, 1), total)
        return self._over_devices(self.groups.vector(grads), losses, axis_name)

    def _over_devices(self, gradient: Vector, losses: Losses, axis_name: str | None) -> tuple[Vector, Losses]:
        """Gradient and losses of the global batch: the sums of what each device found."""
        if axis_name is None:
            return gradient, losses
        # One array: the compiler would join two by copies of its own, and cut them again afterwards.
        joined = cpu_layout.apart(jnp.concatenate([gradient, jnp.stack(losses)]))
        total, scalars = jnp.split(cpu_layout.apart(jax.lax.psum(joined, axis_name)), [len(gradient)])
        return total, Losses(*scalars)

    def flat(self, state: TrainState) -> TrainState:
        """A state whose parameters and average are vectors, as the optimizer wants them."""
        average = None if state.average is None else self.groups.flat(state.average)
        return dataclasses.replace(state, params=self.groups.flat(state.params), average=average)

    def tree(self, state: TrainState) -> TrainState:
        """The state that `flat` was given."""
        average = None if state.average is None else self.groups.tree(state.average)
        return dataclasses.replace(state, params=self.groups.tree(state.params), average=average)

    def __call__(self, state: TrainState, batch: Batch, axis_name: str | None = None) -> tuple[TrainState, Metrics]:
        """One update. Where the loss or the gradient is not finite, nothing changes but the count of such steps."""
        flat, metrics = self.on_flat(self.flat(state), batch, axis_name)
        # Else every leaf that is cut from the vector would compute the update again.
        return self.tree(cpu_layout.apart(flat)), metrics

    def on_flat(self, flat: TrainState, batch: Batch, axis_name: str | None = None) -> tuple[TrainState, Metrics]:
        """One update of a `flat` state. Many steps in one program leave out joining and cutting the vector."""
        gradient, losses = self.gradients(self.tree(flat), batch, axis_name)
        before = flat.params.vector
        grad_norm = optax.tree.norm(gradient)
        updates, opt_state = self.tx.update(gradient, flat.opt_state, before)
        after = optax.apply_updates(before, updates)
        # A finite gradient leads to finite parameters (OptimConfig). To look whether they are would be a pass over all
        # of them before they can be written.
        finite = jnp.isfinite(losses.loss) & jnp.isfinite(grad_norm)
        old_average = None if flat.average is None else flat.average.vector
        average, averaged = self._average(flat, old_average, after)
        new = (after, opt_state, average, averaged)
        old = (before, flat.opt_state, old_average, flat.averaged)
        after, opt_state, average, averaged = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
        step = flat.step + 1
        skipped = flat.skipped + jnp.where(finite, 0, 1)
        last_skipped = jnp.where(finite, flat.last_skipped, step)
        state = dataclasses.replace(
            flat,
            params=dataclasses.replace(flat.params, vector=after),
            opt_state=opt_state,
            step=step,
            average=None if flat.average is None else dataclasses.replace(flat.average, vector=average),
            skipped=skipped,
            last_skipped=last_skipped,
            averaged=averaged,
        )
        # Copies, because the counters of the state are donated to the next step.
        counts = {"skipped": jnp.copy(skipped), "last_skipped": jnp.copy(last_skipped)}
        return state, dict(losses._asdict(), grad_norm=grad_norm, **counts)

    def _average(
        self, state: TrainState, average: Vector | None, params: Vector
    ) -> tuple[Vector | None, Int[Array, ""]]:
        """The average with the new parameters: exponential (ema), or the mean of those after swa_start (swa)."""
        n = state.averaged
        if average is None:
            return None, n
        if self.config.train.averaging == "ema":
            share = 1 - jnp.minimum(self.config.train.ema_decay, (1 + n) / (10 + n))
            n = n + 1
        else:
            n = jnp.where(state.step >= self.swa_start, n + 1, 0)
            share = 1 / jnp.maximum(n, 1)
        return jnp.where(share == 1, params, average + share * (params - average)), n
