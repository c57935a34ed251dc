"""The encoder of DeMEGa: a convolutional stem and Conformer layers (after Gulati et al., 2020)."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from demega_jax.config import ModelConfig
from demega_jax.config.model import MOST_KERNEL_TIME_POINTS
from demega_jax.model import cpu_layout
from demega_jax.model.attention import DisentangledAttention, LayerTables, tables_of
from demega_jax.model.dropout import Noise, at, dropout
from demega_jax.model.fused.feedforward import feedforward, weights_of
from demega_jax.model.fused.residual import Stream, add_and_normalize, gains_of, stream_of
from demega_jax.model.layers import DepthwiseConv, LayerNorm, affine, conv, linear, product


class Stem(nnx.Module):
    """Two convolutions and a skip, [B, T, C] -> [B, T, E]: conv -> SiLU -> conv, plus conv of size 1."""

    def __init__(self, config: ModelConfig, sensors: int, *, rng: np.random.Generator):
        first, second = config.stem_kernel_sizes
        width, dtype = config.width, jnp.dtype(config.dtype)
        self.conv1 = conv(sensors, width, first, dtype=dtype, rng=rng)
        self.conv2 = conv(width, width, second, dtype=dtype, rng=rng)
        self.skip = linear(sensors, width, dtype=dtype, rng=rng)

    def __call__(self, x: Float[Array, "B T C"], *, keep: Bool[Array, "B T"] | None = None) -> Float[Array, "B T E"]:
        x = _hide(x, keep)
        return self.convolved(x, keep) + self.skip(x)

    def convolved(self, x: Float[Array, "B T C"], keep: Bool[Array, "B T"] | None = None) -> Float[Array, "B T E"]:
        """The two convolutions."""
        # Hidden again: the first convolution leaves its bias at padded positions, where beyond the ends there is 0.
        return self.conv2(_hide(jax.nn.silu(self.conv1(x)), keep))

    def branch(self, x: Float[Array, "B T C"]) -> Float[Array, "B T E"]:
        """The skip before its bias."""
        return product(self.skip, x)


class ConvModule(nnx.Module):
    """Depthwise convolution -> SiLU -> pointwise, [B, T, E] -> [B, T, E]."""

    def __init__(self, config: ModelConfig, *, rng: np.random.Generator):
        dtype = jnp.dtype(config.dtype)
        self.depthwise = DepthwiseConv(config.width, config.kernel_size, dtype=dtype, rng=rng)
        self.pointwise = linear(config.width, config.width, dtype=dtype, rng=rng)

    def __call__(self, x: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
        return affine(self.pointwise, jax.nn.silu(self.depthwise(x)))

    def branch(self, x: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
        """The same before its last bias."""
        return product(self.pointwise, jax.nn.silu(self.depthwise(x)))


class FeedForward(nnx.Module):
    """Linear -> SiLU -> dropout -> Linear -> dropout, [B, T, E] -> [B, T, E]."""

    def __init__(self, config: ModelConfig, *, rng: np.random.Generator):
        hidden, dtype = config.width * config.feedforward_factor, jnp.dtype(config.dtype)
        self.up = linear(config.width, hidden, dtype=dtype, rng=rng)
        self.down = linear(hidden, config.width, dtype=dtype, rng=rng)
        self.rate = config.dropout

    def __call__(self, x: Float[Array, "B T E"], *, noise: Noise | None = None) -> Float[Array, "B T E"]:
        hidden = dropout(jax.nn.silu(affine(self.up, x)), self.rate, at(noise, 0))
        return dropout(affine(self.down, hidden), self.rate, at(noise, 1))


class ConformerLayer(nnx.Module):
    """Convolution, disentangled attention and feed-forward, each with a residual and a LayerNorm.

    pre:   x += drop(conv(LN1 x));  x += drop(attn(LN2 x));  x += ffn(LN3 x)
    post:  x = LN1(x + conv x);     x = LN2(x + drop(attn x));  x = LN3(x + ffn x)
    """

    def __init__(self, config: ModelConfig, *, rng: np.random.Generator):
        dtype = jnp.dtype(config.dtype)
        self.conv = ConvModule(config, rng=rng)
        self.attention = DisentangledAttention(config, rng=rng)
        self.feedforward = FeedForward(config, rng=rng)
        self.norm1, self.norm2, self.norm3 = (LayerNorm(config.width, dtype=dtype) for _ in range(3))
        self.pre_norm, self.rate = config.norm == "pre", config.dropout

    def __call__(
        self,
        x: Float[Array, "B T E"],
        *,
        keep: Bool[Array, "B T"] | None = None,
        noise: Noise | None = None,
        tables: LayerTables | None = None,
    ) -> Float[Array, "B T E"]:
        """One layer.

        keep: real positions; others are hidden from convolution and attention.  tables: of its attention, if they are
        at hand.
        """
        of_conv, of_attention, after_attention, of_feedforward = (at(noise, site) for site in range(4))
        attention = functools.partial(self.attention, keep=keep, noise=of_attention, tables=tables)
        if self.pre_norm:
            x = x + dropout(self.conv(_hide(self.norm1(x), keep)), self.rate, of_conv)
            x = x + dropout(attention(self.norm2(x)), self.rate, after_attention)
            return x + self.feedforward(self.norm3(x), noise=of_feedforward)
        x = self.norm1(x + self.conv(_hide(x, keep)))
        x = self.norm2(x + dropout(attention(x), self.rate, after_attention))
        return self.norm3(x + self.feedforward(x, noise=of_feedforward))

    def fused(
        self,
        x: Stream,
        normed: Float[Array, "B T E"],
        add: Callable[..., tuple[Stream, Float[Array, "B T E"]]],
        keep: Bool[Array, "B T"] | None,
        noise: Noise | None,
        tables: LayerTables,
        feedforward: Callable[..., Float[Array, "B T E"]],
    ) -> tuple[Stream, Float[Array, "B T E"]]:
        """The layer by the kernels for accelerators.

        x: the residual stream.  normed: what the first branch takes.  add: (x, branch, number of the sum, sites of
        dropout) -> the stream after it, and what the next branch takes.  feedforward: (x, noise) -> the branch before
        its last bias and dropout. Returns what `add` does, after the layer. Where `keep` hides a position, it has
        other values than those of `__call__`, which no kept position sees.
        """
        of_attention, of_feedforward = at(noise, 1), at(noise, 3)
        x, normed = add(x, self.conv.branch(_hide(normed, keep)), 0, (at(noise, 0),) if self.pre_norm else ())
        attended = self.attention.branch(normed, keep, of_attention, tables)
        x, normed = add(x, attended, 1, (at(of_attention, 1), at(noise, 2)))
        return add(x, feedforward(normed, at(of_feedforward, 0)), 2, (at(of_feedforward, 1),))

    def sites(self, noise: Noise) -> list[Noise]:
        """Where dropout acts on an array like the layer's input."""
        at = noise.at
        return [*((at(0),) if self.pre_norm else ()), at(1).at(1), at(2), at(3).at(1)]


def _hide(x: Float[Array, "B T E"], keep: Bool[Array, "B T"] | None) -> Float[Array, "B T E"]:
    return x if keep is None else jnp.where(keep[:, :, None], x, jnp.zeros((), x.dtype))


class ConformerEncoder(nnx.Module):
    """Stem, layers and (in DeMEGa) a final LayerNorm, [B, C, T] -> features [B, T, E]."""

    def __init__(self, config: ModelConfig, sensors: int, *, rng: np.random.Generator):
        self.stem = Stem(config, sensors, rng=rng)
        self.layers = nnx.List([ConformerLayer(config, rng=rng) for _ in range(config.layers)])
        self.final_norm = LayerNorm(config.width, dtype=jnp.dtype(config.dtype))
        self.is_fused, self.pre_norm = config.attention == "fused", config.norm == "pre"
        self.rate, self.width, self.factor = config.dropout, config.width, config.feedforward_factor

    def __call__(
        self, x: Float[Array, "B C T"], *, keep: Bool[Array, "B T"] | None = None, noise: Noise | None = None
    ) -> Float[Array, "B T E"]:
        # Else each product that takes them would read and turn the windows of the split again.
        x = cpu_layout.apart(x.swapaxes(1, 2))
        if noise is not None and self.rate:
            noise = self._drawn_ahead(noise, x.shape[1] * self.width)
        tables = tables_of([layer.attention for layer in self.layers], x.shape[1])
        if self.is_fused and x.shape[1] <= MOST_KERNEL_TIME_POINTS:
            return self._fused(x, keep, noise, tables)
        x = self.stem(x, keep=keep)
        for number, (layer, of_layer) in enumerate(zip(self.layers, tables, strict=True)):
            x = layer(x, keep=keep, noise=at(noise, number), tables=of_layer)
        return self.final_norm(x)

    def _drawn_ahead(self, noise: Noise, elements: int) -> Noise:
        """The noise with the words of all layers at hand, which one kernel draws."""
        each = list(enumerate(self.layers))
        noise = noise.drawn_ahead([site for i, layer in each for site in layer.sites(noise.at(i))], elements, self.rate)
        inner = [noise.at(i).at(3).at(0) for i, _ in each]
        return noise.drawn_ahead(inner, elements * self.factor, self.rate)

    def _fused(
        self,
        x: Float[Array, "B T C"],
        keep: Bool[Array, "B T"] | None,
        noise: Noise | None,
        tables: Sequence[LayerTables],
    ) -> Float[Array, "B T E"]:
        """The layers by the kernels for accelerators."""
        layers = list(self.layers)
        ends = [end for layer in layers for end in (layer.conv.pointwise, layer.attention.out, layer.feedforward.down)]
        norms = [norm for layer in layers for norm in (layer.norm1, layer.norm2, layer.norm3)]
        if self.pre_norm:  # the sum of the stem is normalised, too, and each sum by the norm of the next branch
            ends, norms = [self.stem.skip, *ends], [*norms, self.final_norm]
        gains = gains_of(ends, norms)

        def add(
            first: int, x: Stream, branch: Array, number: int, sites: Sequence[Noise | None]
        ) -> tuple[Stream, Array]:
            x, normed = add_and_normalize(x, branch, gains, first + number, sites, self.rate)
            return (x if self.pre_norm else x._replace(x=normed)), normed

        if self.pre_norm:
            x = _hide(x, keep)
            stream, normed = add(0, stream_of(self.stem.convolved(x, keep), gains), self.stem.branch(x), 0, ())
        else:
            normed = self.stem(x, keep=keep)
            stream = stream_of(normed, gains)
        weights = weights_of([(layer.feedforward.up, layer.feedforward.down) for layer in layers], normed.dtype)

        def branch(number: int, x: Array, noise: Noise | None) -> Array:
            return feedforward(x, weights, number, noise, self.rate)

        for number, layer in enumerate(layers):
            sums = functools.partial(add, 3 * number + int(self.pre_norm))
            of_layer = tables[number], functools.partial(branch, number)
            stream, normed = layer.fused(stream, normed, sums, keep, at(noise, number), *of_layer)
        return normed if self.pre_norm else self.final_norm(normed)
