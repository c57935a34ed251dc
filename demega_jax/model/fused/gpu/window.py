"""What both kernels of the attention are made of: sizes, reads and writes of a window, and the call."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float, Int32

from demega_jax.model.fused.gpu.kernel import LEAST, Ref, along, launch, load, store, whole
from demega_jax.model.fused.plan import Plan, power_of_two

TILE_BYTES = 2 * 8192  # of a tile's pairs: at eight warps, 32 registers of a thread hold a number of each
ROWS = 8  # rows of the batch that a program takes at most
WARPS = 8


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

    def kept(self, keep: Bool[Array, "B T"] | None) -> Int32[Array, "B S"]:
        """1 at the real positions of each row; without `keep`, one number that no kernel reads."""
        if keep is None:
            return jnp.zeros((1, 1), jnp.int32)
        return jnp.pad(keep.astype(jnp.int32), ((0, 0), (0, self.keys - self.plan.time)))

    def filled(self, table: Float[Array, "R H D"] | None, like: Array) -> Float[Array, "H R D"]:
        """A table with rows of zeros up to `table`; zeros for one that is not there."""
        if table is None:
            return jnp.zeros((self.plan.heads, self.table, self.plan.width), like.dtype)
        return jnp.pad(table, ((0, self.table - len(table)), (0, 0), (0, 0))).swapaxes(0, 1)


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

    def of_head(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec((1, *shape[1:]), lambda head, share: (head,) + (0,) * (len(shape) - 1))

    def of_program(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec((1, 1, *shape[2:]), lambda head, share: (head, share) + (0,) * (len(shape) - 2))

    return launch(
        "fused_attention" + kernel.__name__.removesuffix("_kernel"),
        partial(kernel, sizes),
        sizes.grid,
        inputs,
        [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype, _ in outputs],
        cost=cost,
        warps=WARPS,
        interpret=sizes.interpret,
        in_specs=[(of_head if i in tables else whole)(x.shape) for i, x in enumerate(inputs)],
        out_specs=[(of_program if own else whole)(shape) for shape, _, own in outputs],
    )
