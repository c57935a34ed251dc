"""What both kernels are made of: sizes, loads and stores of a window, and the call."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float

from demega_jax.model.fused.plan import Masks, Plan, power_of_two

LEAST = 16  # products have no smaller axis
TILE_BYTES = 2 * 8192  # of a tile's pairs: at eight warps, 32 registers of a thread hold a number of each
ROWS = 8  # rows of the batch that a program takes at most
WARPS = 8

Ref = Array  # what a kernel reads and writes: an array in memory


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Axes as products want them. keys: S.  tile: queries of a tile.  table: R.  share: rows of a program.

    interpret: whether the kernel is run line by line, where there is no GPU.
    """

    plan: Plan
    keys: int
    tile: int
    table: int
    share: int
    interpret: bool

    @classmethod
    def of(cls, plan: Plan, value_bytes: int, interpret: bool) -> "Sizes":
        """The sizes of a plan. value_bytes: of a number in memory."""
        keys = power_of_two(plan.time, LEAST)
        share = next(count for count in range(min(ROWS, plan.batch), 0, -1) if plan.batch % count == 0)
        table = power_of_two(int(plan.rows.rows.max()) + 1, LEAST)
        return cls(plan, keys, min(keys, max(LEAST, TILE_BYTES // value_bytes // keys)), table, share, interpret)

    def wait(self) -> None:
        """Within a kernel, let every thread of the program see what the others wrote."""
        if not self.interpret:
            triton.debug_barrier()

    @property
    def grid(self) -> tuple[int, int]:
        """A program for each head and each share of the rows."""
        return self.plan.heads, self.plan.batch // self.share

    @property
    def pair_rows(self) -> Array:
        """The table's row of every pair and, below, of every pair the other way round, [2, S, S]."""
        rows = np.pad(self.plan.rows.rows, (0, self.keys - self.plan.time)).astype(np.int32)
        return jnp.asarray(np.stack([rows, rows.T]))

    def of_distances(self, dtype: np.dtype) -> Array:
        """1 where a distance t - s, from -(S - 1) on, has that row of the table, [2S, R]."""
        there, more = self.plan.by_distance, self.keys - self.plan.time
        padded = np.pad(there, (more, 2 * self.keys - len(there) - more), constant_values=-1)
        return jnp.asarray(padded[:, None] == np.arange(self.table), dtype)

    def filled(self, table: Float[Array, "R H D"] | None, like: Array) -> Float[Array, "H R D"]:
        """A table with rows of zeros up to `table`; zeros for one that is not there."""
        if table is None:
            return jnp.zeros((self.plan.heads, self.table, self.plan.width), like.dtype)
        return jnp.pad(table, ((0, self.table - len(table)), (0, 0), (0, 0))).swapaxes(0, 1)


def dot(a: Array, b: Array, *, trans_a: bool = False, trans_b: bool = False) -> Array:
    """A product with sums in float32, and with all bits of float32 operands."""
    return triton.dot(a, b, trans_a=trans_a, trans_b=trans_b, allow_tf32=False)


def down(count: int, first: Array | int = 0) -> Array:
    """The numbers from `first` on as a column [count, 1]."""
    return first + jax.lax.broadcasted_iota(jnp.int32, (count, 1), 0)


def along(count: int) -> Array:
    """The numbers from 0 on as a line [1, count]."""
    return jax.lax.broadcasted_iota(jnp.int32, (1, count), 1)


def load(ref: Ref, *indices: Array | int, mask: Array | None = None) -> Array:
    """The elements at indices that are broadcast to one shape; zeros where the mask says so."""
    found = ref.at[_places(*indices)]
    zero = 0 if jnp.issubdtype(ref.dtype, jnp.integer) else 0.0
    return triton.load(found, mask=mask, other=None if mask is None else zero)  # type: ignore[arg-type]  # in kernels only


def store(ref: Ref, value: Array, *indices: Array | int, mask: Array | None = None) -> None:
    """Write the elements at indices that are broadcast to the shape of `value`, but for those that the mask hides."""
    triton.store(ref.at[_places(*indices)], value, mask=mask)  # type: ignore[arg-type]  # in kernels only


def kept(masks: Masks, words: Ref, row: Array, element: Array, there: Array) -> Bool[Array, "t E"]:
    """Which elements stay after every dropout of a branch.

    words [S, B, count].  row [t, 1], element [t, E]: of each element, the row of the batch and its number in the row.
    there: which elements exist; the others do not stay.
    """
    share, stays = masks.share, there
    shift = (element % share.per_word * share.bits).astype(jnp.uint32)
    for place in masks.places:
        word = load(words, place, row, element // share.per_word, mask=there)
        stays = stays & (((word >> shift) & jnp.uint32(2**share.bits - 1)) < jnp.uint32(share.limit))
    return stays


def _places(*indices: Array | int) -> tuple[Array, ...]:
    return tuple(jnp.asarray(index, jnp.int32) for index in indices)


class Window:
    """One row of the batch and one head, within a kernel: reads and writes [B, T, 3, H, D] and [B, T, H, D]."""

    def __init__(self, sizes: Sizes, head: Array, row: Array):
        self.sizes, self.head, self.row = sizes, head, row

    def _at(self, t: Array, part: tuple[int, ...]) -> tuple[Array | int, ...]:
        return (self.row, t, *part, self.head, along(self.sizes.plan.width))

    def read(self, ref: Ref, t: Array, *part: int) -> Float[Array, "t D"]:
        """The lines t [t, 1], zeros where there is no such time point."""
        # Every element of the block has an answer of its own, as a mask of one column would be refused.
        there = jnp.broadcast_to(t < self.sizes.plan.time, (t.shape[0], self.sizes.plan.width))
        return load(ref, *self._at(t, part), mask=there)

    def write(self, ref: Ref, t: Array, value: Float[Array, "t D"], *part: int) -> None:
        """Write the lines t [t, 1] that are time points."""
        there = jnp.broadcast_to(t < self.sizes.plan.time, value.shape)
        store(ref, value.astype(ref.dtype), *self._at(t, part), mask=there)


def call(
    sizes: Sizes,
    kernel: Callable[..., None],
    inputs: Sequence[Array],
    tables: Sequence[int],
    outputs: Sequence[tuple[tuple[int, ...], np.dtype, bool]],
    cost: dict[str, int],
) -> list[Array]:
    """Run a kernel. tables: which inputs have a block for each head.  outputs: shape, type, and whether each program
    has a block [1, 1, ..] of its own; the others are whole for every program."""

    def whole(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec(shape, lambda *_: (0,) * len(shape))

    def of_head(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec((1, *shape[1:]), lambda head, share: (head,) + (0,) * (len(shape) - 1))

    def of_program(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec((1, 1, *shape[2:]), lambda head, share: (head, share) + (0,) * (len(shape) - 2))

    return pl.pallas_call(
        partial(kernel, sizes),
        grid=sizes.grid,
        in_specs=[(of_head if i in tables else whole)(x.shape) for i, x in enumerate(inputs)],
        out_specs=[(of_program if own else whole)(shape) for shape, _, own in outputs],
        out_shape=[jax.ShapeDtypeStruct(shape, dtype) for shape, dtype, _ in outputs],
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        # This lowering drops a `cost_estimate`; `benchmark --target` reads it here.
        metadata={name: str(value) for name, value in cost.items()},
        interpret=sizes.interpret,
        name="fused_attention" + kernel.__name__.removesuffix("_kernel"),
    )(*inputs)
