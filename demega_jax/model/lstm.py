"""The recurrent encoder: a bidirectional LSTM (Hochreiter & Schmidhuber, 1997)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from demega_jax.config import ModelConfig
from demega_jax.model.dropout import Noise, dropout
from demega_jax.model.layers import uniform_fan_in


class LSTM(nnx.Module):
    """One direction of one layer, [B, T, I] -> [B, T, E]; gates in the order input, forget, cell, output.

    Ours because Flax's cell multiplies the input inside the recurrence and has no mask of real positions.
    """

    def __init__(self, inputs: int, width: int, *, dtype: jnp.dtype, rng: np.random.Generator):
        self.input_kernel = nnx.Param(uniform_fan_in(rng, (inputs, 4 * width), width))
        self.hidden_kernel = nnx.Param(uniform_fan_in(rng, (width, 4 * width), width))
        self.bias = nnx.Param(uniform_fan_in(rng, (4 * width,), width))
        self.width, self.dtype = width, dtype

    def __call__(
        self, x: Float[Array, "B T I"], *, keep: Bool[Array, "B T"] | None = None, reverse: bool = False
    ) -> Float[Array, "B T E"]:
        """Outputs at every time point; a position that is not kept leaves the state as it was and outputs 0."""
        # The input's share of all gates is one product; only the recurrence is sequential.
        gates = x.astype(self.dtype) @ self.input_kernel[...].astype(self.dtype) + self.bias[...].astype(self.dtype)
        hidden_kernel = self.hidden_kernel[...].astype(self.dtype)
        start = jnp.zeros((x.shape[0], self.width), jnp.float32)
        kept = jnp.ones(x.shape[:2], bool) if keep is None else keep

        def step(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            (hidden, cell), (gate_t, keep_t) = carry, now
            total = gate_t.astype(jnp.float32) + (hidden.astype(self.dtype) @ hidden_kernel).astype(jnp.float32)
            i, f, g, o = jnp.split(total, 4, axis=-1)
            new_cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            new_hidden = jax.nn.sigmoid(o) * jnp.tanh(new_cell)
            mask = keep_t[:, None]
            carry = jnp.where(mask, new_hidden, hidden), jnp.where(mask, new_cell, cell)
            return carry, jnp.where(mask, new_hidden, 0.0).astype(self.dtype)

        _, y = jax.lax.scan(step, (start, start), (gates.swapaxes(0, 1), kept.T), reverse=reverse)
        return y.swapaxes(0, 1)


class BidirectionalLSTM(nnx.Module):
    """N bidirectional layers with dropout between them, [B, C, T] -> features [B, T, 2E]."""

    def __init__(self, config: ModelConfig, sensors: int, *, rng: np.random.Generator):
        dtype = jnp.dtype(config.dtype)
        widths = [sensors] + [2 * config.width] * (config.layers - 1)
        self.forward = nnx.List([LSTM(width, config.width, dtype=dtype, rng=rng) for width in widths])
        self.backward = nnx.List([LSTM(width, config.width, dtype=dtype, rng=rng) for width in widths])
        self.rate = config.dropout

    def __call__(
        self, x: Float[Array, "B C T"], *, keep: Bool[Array, "B T"] | None = None, noise: Noise | None = None
    ) -> Float[Array, "B T E2"]:
        x = x.swapaxes(1, 2)
        for number, (ahead, back) in enumerate(zip(self.forward, self.backward, strict=True)):
            if number:
                x = dropout(x, self.rate, noise and noise.at(number))
            x = jnp.concatenate([ahead(x, keep=keep), back(x, keep=keep, reverse=True)], axis=-1)
        return x
