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
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, UInt32

from demega_jax.model.fused.gpu.kernel import Ref, along, down, kept, load, store
from demega_jax.model.fused.plan import Sum, power_of_two
from demega_jax.model.layers import LAYER_NORM_EPSILON

TILE_BYTES = 4096  # of a tile in memory: 16 lines of 128 numbers of two bytes
PROGRAMS = 512  # about so many: several for each multiprocessor, and few sums for XLA to add up
WARPS = 4


@dataclasses.dataclass(frozen=True)
class Lines:
    """Sizes. batch, time, width: B, T, E.  tile: lines of a tile.  turns: tiles of a program."""

    batch: int
    time: int
    width: int
    tile: int
    turns: int
    of: Sum
    interpret: bool

    @classmethod
    def fitting(cls, x: Float[Array, "B T E"], of: Sum, interpret: bool) -> "Lines":
        """The sizes for an array."""
        batch, time, width = x.shape
        tile = max(1, TILE_BYTES // (x.dtype.itemsize * power_of_two(width)))
        turns = math.ceil(batch * time / (tile * PROGRAMS))
        return cls(batch, time, width, tile, turns, of, interpret)

    @property
    def count(self) -> int:
        """All lines."""
        return self.batch * self.time

    @property
    def programs(self) -> int:
        """How many programs take them all."""
        return math.ceil(self.count / (self.tile * self.turns))

    def features(self) -> Array:
        """Numbers of features [1, E], with some more up to a power of two."""
        return along(power_of_two(self.width))

    def there(self, line: Array) -> Array:
        """Which elements of the tile exist."""
        return (line < self.count) & (self.features() < self.width)

    def dropped(self, words: Ref, line: Array, x: Float[Array, "t E"]) -> Float[Array, "t E"]:
        """What dropout leaves of the elements of a tile."""
        masks = self.of.masks
        if masks is None:
            return x
        row, element = line // self.time, (line % self.time) * self.width + self.features()
        stays = kept(masks, words, row, element, self.there(line))
        return jnp.where(stays, x * masks.factor, 0.0)


def _standardised(lines: Lines, x: Float[Array, "t E"], there: Array) -> tuple[Array, Array]:
    """(x with mean 0 and variance 1 along each line, what its deviations were multiplied by [t, 1]), float32."""
    centred = jnp.where(there, x - jnp.sum(x, axis=1, keepdims=True) / lines.width, 0.0)
    variance = jnp.sum(centred * centred, axis=1, keepdims=True) / lines.width
    factor = jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return centred * factor, factor


def _gain(lines: Lines, gains: Ref, which: int) -> Float[Array, "1 E"]:
    """A gain of each feature: 0 the bias, 1 the scale, 2 the shift."""
    features = lines.features()
    return load(gains, lines.of.number, which, features, mask=features < lines.width)


def _forward_kernel(lines: Lines, words: Ref, gains: Ref, x: Ref, y: Ref, total: Ref, normed: Ref) -> None:
    first = pl.program_id(0) * lines.turns * lines.tile

    def one_tile(turn: Array, _: None) -> None:
        line = down(lines.tile, first + turn * lines.tile)
        there, at = lines.there(line), (line, lines.features())
        added = load(y, *at, mask=there).astype(jnp.float32) + _gain(lines, gains, 0)
        added = lines.dropped(words, line, added)
        summed = (load(x, *at, mask=there).astype(jnp.float32) + added).astype(total.dtype)
        store(total, summed, *at, mask=there)
        standard = _standardised(lines, jnp.where(there, summed.astype(jnp.float32), 0.0), there)[0]
        result = standard * _gain(lines, gains, 1) + _gain(lines, gains, 2)
        store(normed, result.astype(normed.dtype), *at, mask=there)

    jax.lax.fori_loop(0, lines.turns, one_tile, None)


def _backward_kernel(
    lines: Lines, words: Ref, gains: Ref, total: Ref, g_total: Ref, g_normed: Ref, _: Ref, room: Ref, dx: Ref, *dy: Ref
) -> None:
    first = pl.program_id(0) * lines.turns * lines.tile

    def one_tile(turn: Array, so_far: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        line = down(lines.tile, first + turn * lines.tile)
        there, at = lines.there(line), (line, lines.features())
        standard, factor = _standardised(lines, load(total, *at, mask=there).astype(jnp.float32), there)
        g = load(g_normed, *at, mask=there).astype(jnp.float32)
        scaled = g * _gain(lines, gains, 1)
        mean = jnp.sum(scaled, axis=1, keepdims=True) / lines.width
        share = jnp.sum(scaled * standard, axis=1, keepdims=True) / lines.width
        through = factor * (scaled - mean - standard * share)
        both = (load(g_total, *at, mask=there).astype(jnp.float32) + through).astype(dx.dtype)
        store(dx, both, *at, mask=there)
        branch = lines.dropped(words, line, jnp.where(there, both.astype(jnp.float32), 0.0))
        for ref in dy:
            store(ref, branch.astype(ref.dtype), *at, mask=there)
        return tuple(
            a + jnp.sum(b, axis=0, keepdims=True) for a, b in zip(so_far, (branch, g * standard, g), strict=True)
        )  # type: ignore[return-value]

    zeros = jnp.zeros((1, power_of_two(lines.width)), jnp.float32)
    found = jax.lax.fori_loop(0, lines.turns, one_tile, (zeros, zeros, zeros))
    features = lines.features()
    for which, value in enumerate(found):
        store(room, value, lines.of.number, pl.program_id(0), which, features, mask=features < lines.width)


def _call(
    lines: Lines,
    kernel: Callable[..., None],
    inputs: Sequence[Array],
    outputs: Sequence[tuple[tuple[int, ...], np.dtype]],
    room: Sequence[Array] = (),
) -> list[Array]:
    """Run a kernel. outputs: shapes and types.  room: an array that is its last input and, where it writes a part of
    it, its first output."""

    def whole(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec(shape, lambda *_: (0,) * len(shape))

    moved = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in outputs)
    moved += sum(each.size * each.dtype.itemsize for each in inputs[1:])
    if lines.of.masks is not None:  # of the words, those of its own sites
        moved += len(lines.of.masks.places) * inputs[0][0].size * inputs[0].dtype.itemsize
    moved += sum(each[0].nbytes for each in room)
    inputs = [*inputs, *room]
    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in room]
    shapes += [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in outputs]
    return pl.pallas_call(
        partial(kernel, lines),
        grid=(lines.programs,),
        in_specs=[whole(each.shape) for each in inputs],
        out_specs=[whole(each.shape) for each in shapes],
        out_shape=shapes,
        input_output_aliases={len(inputs) - 1: 0} if room else {},
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        metadata={"flops": "0", "bytes_accessed": str(moved)},
        interpret=lines.interpret,
        name="fused_residual" + kernel.__name__.removesuffix("_kernel"),
    )(*inputs)


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
    lines = Lines.fitting(x, of, interpret)
    flat = (lines.count, lines.width)
    inputs = [_words(words), gains, x.reshape(flat), y.reshape(flat)]
    total, normed = _call(lines, _forward_kernel, inputs, [(flat, x.dtype), (flat, x.dtype)])
    return total.reshape(x.shape), normed.reshape(x.shape)


def parts(x: Float[Array, "B T E"]) -> int:
    """How many programs take an array."""
    return Lines.fitting(x, Sum(0, None), False).programs


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
    lines = Lines.fitting(total, of, interpret)
    flat = (lines.count, lines.width)
    inputs = [_words(words), gains, *(each.reshape(flat) for each in (total, *g))]
    # without dropout the gradients of x and y are the same
    outputs = [(flat, total.dtype)] * (1 if of.masks is None else 2)
    room, dx, *dy = _call(lines, _backward_kernel, inputs, outputs, [room])
    found = [each.reshape(total.shape) for each in (dx, *dy)]
    return found[0], found[-1], room, jnp.zeros_like(gains)
