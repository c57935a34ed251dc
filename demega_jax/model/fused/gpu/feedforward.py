"""The feed-forward branch for NVIDIA GPUs.

A program takes a tile of lines (a line is the features of one time point of one row of the batch) and the hidden
features piece by piece, so that they never leave it. For the gradients of the weights a program has one piece and a
share of all lines, and adds up in float32; XLA adds the shares.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, UInt32

from demega_jax.model.fused.gpu.kernel import LEAST, Lines, Ref, along, dot, down, launch, load, store
from demega_jax.model.fused.plan import Branch, power_of_two

# Bytes of a tile of lines and of a piece of U or D. Where the gradients of the weights are summed, pieces are wide, so
# that each line is read less often. What a program holds has room in 100 KB of shared memory.
LINES, LINES_OF_WEIGHTS = 16384, 8192
PIECE, PIECE_OF_WEIGHTS = 16384, 32768
PROGRAMS = 128  # about one for each multiprocessor where the gradients of the weights are summed
WARPS = 8


@dataclasses.dataclass(frozen=True)
class Sizes(Lines):
    """Lines, and hidden features. hidden: I.  piece: hidden features at a time."""

    hidden: int
    piece: int
    of: Branch

    @classmethod
    def fitting(cls, x: Array, bias: Array, of: Branch, tile: int, piece: int, interpret: bool) -> "Sizes":
        """The sizes for x [B, T, E] and biases [L, I], with so many bytes of a tile and of a piece."""
        (batch, time, width), hidden = x.shape, bias.shape[1]
        line = x.dtype.itemsize * power_of_two(width, LEAST)
        fitting = min(max(LEAST, piece // line), power_of_two(hidden, LEAST))
        return cls(batch, time, width, max(LEAST, tile // line), interpret, hidden, fitting, of)

    @property
    def pieces(self) -> int:
        """How many pieces have all hidden features."""
        return math.ceil(self.hidden / self.piece)

    @property
    def shares(self) -> int:
        """Programs of a piece where the gradients of the weights are summed."""
        return min(self.tiles, max(1, PROGRAMS // self.pieces))


class _Weights(NamedTuple):
    """What each kernel reads: words of dropout, and the weights of all layers."""

    words: Ref
    up: Ref
    bias: Ref
    down: Ref


class _Piece:
    """A piece of the hidden features, within a kernel."""

    def __init__(self, sizes: Sizes, weights: _Weights, number: Array | int):
        self.sizes, self.weights = sizes, weights
        self.hidden = number * sizes.piece + along(sizes.piece)
        layer, features = sizes.of.layer, down(sizes.padded)
        there = (features < sizes.width) & (self.hidden < sizes.hidden)
        self.up = load(weights.up, layer, features, self.hidden, mask=there)
        self.down = load(weights.down, layer, self.hidden, features, mask=there)  # turned: [E, i]
        self.bias = load(weights.bias, layer, self.hidden, mask=self.hidden < sizes.hidden).astype(jnp.float32)

    def before(self, x: Float[Array, "t E"]) -> Float[Array, "t i"]:
        """x U + b, float32."""
        return dot(x, self.up) + self.bias

    def dropped(self, line: Array, value: Float[Array, "t i"]) -> Float[Array, "t i"]:
        """What dropout leaves of the elements of a tile; nothing where there is no such line or feature."""
        sizes = self.sizes
        return sizes.dropped(sizes.of.masks, self.weights.words, line, self.hidden, sizes.hidden, value)


def _slope(h: Float[Array, "t i"], sigmoid: Float[Array, "t i"]) -> Float[Array, "t i"]:
    """The derivative of h sigmoid(h)."""
    return sigmoid * (1 + h * (1 - sigmoid))


def _forward_kernel(sizes: Sizes, words: Ref, up: Ref, bias: Ref, down_: Ref, x: Ref, y: Ref) -> None:
    line = sizes.of_tile(pl.program_id(0))
    tile, weights = sizes.read(x, line), _Weights(words, up, bias, down_)

    def one_piece(number: Array, total: Array) -> Array:
        piece = _Piece(sizes, weights, number)
        hidden = piece.dropped(line, jax.nn.silu(piece.before(tile)))
        return total + dot(hidden.astype(tile.dtype), piece.down, trans_b=True)

    zeros = jnp.zeros((sizes.tile, sizes.padded), jnp.float32)
    sizes.write(y, line, jax.lax.fori_loop(0, sizes.pieces, one_piece, zeros))


def _back(piece: _Piece, line: Array, x: Array, g: Array) -> tuple[Float[Array, "t i"], Float[Array, "t i"]]:
    """(the hidden features after dropout, the gradient of those before the activation) of a tile."""
    h = piece.before(x)
    sigmoid = jax.nn.sigmoid(h)
    d_hidden = piece.dropped(line, dot(g, piece.down) * _slope(h, sigmoid))
    return piece.dropped(line, h * sigmoid).astype(x.dtype), d_hidden.astype(x.dtype)


def _inputs_kernel(sizes: Sizes, words: Ref, up: Ref, bias: Ref, down_: Ref, x: Ref, g: Ref, dx: Ref) -> None:
    line = sizes.of_tile(pl.program_id(0))
    tile, g_tile, weights = sizes.read(x, line), sizes.read(g, line), _Weights(words, up, bias, down_)

    def one_piece(number: Array, total: Array) -> Array:
        piece = _Piece(sizes, weights, number)
        return total + dot(_back(piece, line, tile, g_tile)[1], piece.up, trans_b=True)

    zeros = jnp.zeros((sizes.tile, sizes.padded), jnp.float32)
    sizes.write(dx, line, jax.lax.fori_loop(0, sizes.pieces, one_piece, zeros))


def _weights_kernel(sizes: Sizes, words: Ref, up: Ref, bias: Ref, down_: Ref, x: Ref, g: Ref, sums: Ref) -> None:
    """sums [shares, 2 E + 1, I]: the gradients of U, of D turned, and of b."""
    piece, share = _Piece(sizes, _Weights(words, up, bias, down_), pl.program_id(0)), pl.program_id(1)

    def one_tile(turn: Array, so_far: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        line = sizes.of_tile(share + turn * sizes.shares)
        tile, g_tile = sizes.read(x, line), sizes.read(g, line)
        hidden, d_hidden = _back(piece, line, tile, g_tile)
        found = dot(tile, d_hidden, trans_a=True), dot(g_tile, hidden, trans_a=True)
        of_bias = jnp.sum(d_hidden.astype(jnp.float32), axis=0, keepdims=True)
        return so_far[0] + found[0], so_far[1] + found[1], so_far[2] + of_bias

    none = tuple(jnp.zeros((count, sizes.piece), jnp.float32) for count in (sizes.padded, sizes.padded, 1))
    found = jax.lax.fori_loop(0, math.ceil(sizes.tiles / sizes.shares), one_tile, none)
    there, features = piece.hidden < sizes.hidden, down(sizes.padded)
    for which, value in enumerate(found[:2]):
        line = which * sizes.width + features
        store(sums, value, share, line, piece.hidden, mask=(features < sizes.width) & there)
    store(sums, found[2], share, 2 * sizes.width, piece.hidden, mask=there)


def _call(
    sizes: Sizes,
    kernel: Callable[..., None],
    grid: tuple[int, ...],
    inputs: Sequence[Array],
    output: jax.ShapeDtypeStruct,
    products: int,
    reads: int = 1,
) -> Array:
    """Run a kernel. products: how many like x U it computes.  reads: how often it reads each line."""
    words, *weights = inputs[:4]
    moved = sum(each[0].nbytes for each in weights) + reads * sum(each.nbytes for each in inputs[4:])
    moved += math.prod(output.shape) * output.dtype.itemsize
    if sizes.of.masks is not None:
        moved += reads * words[0].nbytes
    flops = 2 * products * sizes.count * sizes.width * sizes.hidden
    (result,) = launch(
        "fused_feedforward" + kernel.__name__.removesuffix("_kernel"),
        partial(kernel, sizes),
        grid,
        inputs,
        [output],
        cost={"flops": flops, "bytes_accessed": moved},
        warps=WARPS,
        interpret=sizes.interpret,
    )
    return result


def _inputs(
    words: UInt32[Array, "S B count"] | None, x: Float[Array, "B T E"], weights: Sequence[Array], *more: Array
) -> list[Array]:
    words = jnp.zeros((1, 1, 1), jnp.uint32) if words is None else words
    return [words, *weights, *(each.reshape(-1, x.shape[-1]) for each in (x, *more))]


def forward(
    of: Branch,
    words: UInt32[Array, "S B count"] | None,
    x: Float[Array, "B T E"],
    up: Float[Array, "L E I"],
    bias: Float[Array, "L I"],
    down: Float[Array, "L I E"],
    *,
    interpret: bool = False,
) -> Float[Array, "B T E"]:
    """The branch."""
    sizes = Sizes.fitting(x, bias, of, LINES, PIECE, interpret)
    inputs, output = _inputs(words, x, (up, bias, down)), jax.ShapeDtypeStruct((sizes.count, sizes.width), x.dtype)
    return _call(sizes, _forward_kernel, (sizes.tiles,), inputs, output, products=2).reshape(x.shape)


def backward(
    of: Branch,
    words: UInt32[Array, "S B count"] | None,
    x: Float[Array, "B T E"],
    up: Float[Array, "L E I"],
    bias: Float[Array, "L I"],
    down: Float[Array, "L I E"],
    g: Float[Array, "B T E"],
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "B T E"], Float[Array, "E I"], Float[Array, " I"], Float[Array, "I E"]]:
    """Gradients of x, and in float32 of U, b and D of the layer."""
    inputs, width = _inputs(words, x, (up, bias, down), g), x.shape[-1]
    sizes = Sizes.fitting(x, bias, of, LINES, PIECE, interpret)
    output = jax.ShapeDtypeStruct((sizes.count, width), x.dtype)
    dx = _call(sizes, _inputs_kernel, (sizes.tiles,), inputs, output, products=3)
    sizes = Sizes.fitting(x, bias, of, LINES_OF_WEIGHTS, PIECE_OF_WEIGHTS, interpret)
    output = jax.ShapeDtypeStruct((sizes.shares, 2 * width + 1, sizes.hidden), jnp.float32)
    grid = (sizes.pieces, sizes.shares)
    shares = _call(sizes, _weights_kernel, grid, inputs, output, products=4, reads=sizes.pieces)
    d_up, d_down, d_bias = jnp.split(jnp.sum(shares, axis=0), (width, 2 * width))
    return dx.reshape(x.shape), d_up, d_bias[0], d_down.T
