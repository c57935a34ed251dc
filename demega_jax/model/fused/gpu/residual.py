"""The sum of a branch and its normalisation for NVIDIA GPUs: a program takes a few hundred lines, a tile at a time.

A line is the features of one time point of one row of the batch. Sums over lines, which are the gradients of bias,
scale and shift, are those of a program's lines, in float32. All kernels write theirs into one array, so that XLA adds
them up at once.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, UInt32

from demega_jax.model.fused.gpu.kernel import LEAST, Lines, Ref, along, launch, load, store
from demega_jax.model.fused.plan import Sum, power_of_two
from demega_jax.model.layers import LAYER_NORM_EPSILON

TILE_BYTES = 4096  # of a tile in memory: 16 lines of 128 numbers of two bytes
PROGRAMS = 512  # about so many: several for each multiprocessor, and few sums for XLA to add up
WARPS = 4

Sums = tuple[Array, Array, Array]  # of bias, scale and shift


@dataclasses.dataclass(frozen=True)
class Sizes(Lines):
    """Lines. turns: tiles of a program."""

    turns: int
    of: Sum

    @classmethod
    def fitting(cls, x: Float[Array, "B T E"], of: Sum, interpret: bool) -> "Sizes":
        """The sizes for an array."""
        batch, time, width = x.shape
        tile = max(1, TILE_BYTES // (x.dtype.itemsize * power_of_two(width, LEAST)))
        turns = math.ceil(batch * time / (tile * PROGRAMS))
        return cls(batch, time, width, tile, interpret, turns, of)

    @property
    def programs(self) -> int:
        """How many programs take all lines."""
        return math.ceil(self.count / (self.tile * self.turns))

    def without_dropped(self, words: Ref, line: Array, x: Float[Array, "t E"]) -> Float[Array, "t E"]:
        """What dropout leaves of the lines [t, 1]."""
        return self.dropped(self.of.masks, words, line, along(self.padded), self.width, x)


def _standardised(sizes: Sizes, x: Float[Array, "t E"], there: Array) -> tuple[Array, Array]:
    """(x with mean 0 and variance 1 along each line, what its deviations were multiplied by [t, 1]), float32."""
    centred = jnp.where(there, x - jnp.sum(x, axis=1, keepdims=True) / sizes.width, 0.0)
    variance = jnp.sum(centred * centred, axis=1, keepdims=True) / sizes.width
    factor = jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return centred * factor, factor


def _gain(sizes: Sizes, gains: Ref, which: int) -> Float[Array, "1 E"]:
    """A gain of each feature: 0 the bias, 1 the scale, 2 the shift."""
    features = along(sizes.padded)
    return load(gains, sizes.of.number, which, features, mask=features < sizes.width)


def _forward_kernel(sizes: Sizes, words: Ref, gains: Ref, x: Ref, y: Ref, total: Ref, normed: Ref) -> None:
    first = pl.program_id(0) * sizes.turns

    def one_tile(turn: Array, _: None) -> None:
        line = sizes.of_tile(first + turn)
        added = sizes.read(y, line).astype(jnp.float32) + _gain(sizes, gains, 0)
        added = sizes.without_dropped(words, line, added)
        summed = (sizes.read(x, line).astype(jnp.float32) + added).astype(total.dtype)
        sizes.write(total, line, summed)
        standard = _standardised(sizes, summed.astype(jnp.float32), sizes.there(line))[0]
        sizes.write(normed, line, standard * _gain(sizes, gains, 1) + _gain(sizes, gains, 2))

    jax.lax.fori_loop(0, sizes.turns, one_tile, None)


def _backward_kernel(
    sizes: Sizes, words: Ref, gains: Ref, total: Ref, g_total: Ref, g_normed: Ref, _: Ref, room: Ref, dx: Ref, *dy: Ref
) -> None:
    first = pl.program_id(0) * sizes.turns

    def one_tile(turn: Array, so_far: Sums) -> Sums:
        line = sizes.of_tile(first + turn)
        standard, factor = _standardised(sizes, sizes.read(total, line).astype(jnp.float32), sizes.there(line))
        g = sizes.read(g_normed, line).astype(jnp.float32)
        scaled = g * _gain(sizes, gains, 1)
        mean = jnp.sum(scaled, axis=1, keepdims=True) / sizes.width
        share = jnp.sum(scaled * standard, axis=1, keepdims=True) / sizes.width
        through = factor * (scaled - mean - standard * share)
        both = (sizes.read(g_total, line).astype(jnp.float32) + through).astype(dx.dtype)
        sizes.write(dx, line, both)
        branch = sizes.without_dropped(words, line, both.astype(jnp.float32))
        for ref in dy:
            sizes.write(ref, line, branch)
        bias, scale, shift = (jnp.sum(each, axis=0, keepdims=True) for each in (branch, g * standard, g))
        return so_far[0] + bias, so_far[1] + scale, so_far[2] + shift

    zeros = jnp.zeros((1, sizes.padded), jnp.float32)
    found = jax.lax.fori_loop(0, sizes.turns, one_tile, (zeros, zeros, zeros))
    features = along(sizes.padded)
    for which, value in enumerate(found):
        store(room, value, sizes.of.number, pl.program_id(0), which, features, mask=features < sizes.width)


def _call(
    sizes: Sizes,
    kernel: Callable[..., None],
    inputs: Sequence[Array],
    outputs: Sequence[jax.ShapeDtypeStruct],
    room: Sequence[Array] = (),
) -> list[Array]:
    """Run a kernel. room: an array that is its last input and, where it writes a part of it, its first output."""
    moved = sum(math.prod(each.shape) * each.dtype.itemsize for each in outputs)
    moved += sum(each.nbytes for each in inputs[1:]) + sum(each[0].nbytes for each in room)
    if sizes.of.masks is not None:  # of the words, those of its own sites
        moved += len(sizes.of.masks.places) * inputs[0][0].nbytes
    return launch(
        "fused_residual" + kernel.__name__.removesuffix("_kernel"),
        partial(kernel, sizes),
        (sizes.programs,),
        [*inputs, *room],
        [*(jax.ShapeDtypeStruct(each.shape, each.dtype) for each in room), *outputs],
        cost={"flops": 0, "bytes_accessed": moved},
        warps=WARPS,
        interpret=sizes.interpret,
        aliases={len(inputs): 0} if room else {},
    )


def _words(words: Array | None) -> UInt32[Array, "S B count"]:
    return jnp.zeros((1, 1, 1), jnp.uint32) if words is None else words


def forward(
    of: Sum,
    words: UInt32[Array, "S B count"] | None,
    x: Float[Array, "B T E"],
    y: Float[Array, "B T E"],
    gains: Float[Array, "N 3 E"],
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "B T E"], Float[Array, "B T E"]]:
    """The sum and its normalisation."""
    sizes = Sizes.fitting(x, of, interpret)
    flat = jax.ShapeDtypeStruct((sizes.count, sizes.width), x.dtype)
    inputs = [_words(words), gains, x.reshape(flat.shape), y.reshape(flat.shape)]
    total, normed = _call(sizes, _forward_kernel, inputs, [flat, flat])
    return total.reshape(x.shape), normed.reshape(x.shape)


def parts(x: Float[Array, "B T E"]) -> int:
    """How many programs take an array."""
    return Sizes.fitting(x, Sum(0, None), False).programs


def backward(
    of: Sum,
    words: UInt32[Array, "S B count"] | None,
    total: Float[Array, "B T E"],
    gains: Float[Array, "N 3 E"],
    g: tuple[Float[Array, "B T E"], Float[Array, "B T E"]],
    room: Float[Array, "N P 3 E"],
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "B T E"], Float[Array, "B T E"], Float[Array, "N P 3 E"], Float[Array, "N 3 E"]]:
    """Gradients of x, y, the room and the gains: the room has the parts of this sum, and the gains have none of it."""
    sizes = Sizes.fitting(total, of, interpret)
    flat = jax.ShapeDtypeStruct((sizes.count, sizes.width), total.dtype)
    inputs = [_words(words), gains, *(each.reshape(flat.shape) for each in (total, *g))]
    # without dropout the gradients of x and y are the same
    outputs = [flat] * (1 if of.masks is None else 2)
    room, dx, *dy = _call(sizes, _backward_kernel, inputs, outputs, [room])
    found = [each.reshape(total.shape) for each in (dx, *dy)]
    return found[0], found[-1], room, jnp.zeros_like(gains)
