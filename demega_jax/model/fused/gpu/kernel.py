"""What all kernels are made of: numbers, loads and stores, products, tiles of lines, and the launch."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float

from demega_jax.model.fused.plan import Masks, power_of_two

LEAST = 16  # products have no smaller axis

Ref = Array  # what a kernel reads and writes: an array in memory


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


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of an array [B, T, E], each the features of one time point of one row, taken tile by tile.

    batch, time, width: B, T, E.  tile: lines of a tile.  interpret: whether the kernel is run line by line, where there
    is no GPU.
    """

    batch: int
    time: int
    width: int
    tile: int
    interpret: bool

    @property
    def count(self) -> int:
        """All lines."""
        return self.batch * self.time

    @property
    def padded(self) -> int:
        """Features of a line, with some more up to what products want."""
        return power_of_two(self.width, LEAST)

    @property
    def tiles(self) -> int:
        """How many tiles have all lines."""
        return math.ceil(self.count / self.tile)

    def of_tile(self, number: Array | int) -> Array:
        """The lines of a tile [t, 1]."""
        return down(self.tile, number * self.tile)

    def there(self, line: Array) -> Bool[Array, "t E"]:
        """Which elements of the lines [t, 1] exist."""
        return (line < self.count) & (along(self.padded) < self.width)

    def read(self, ref: Ref, line: Array) -> Float[Array, "t E"]:
        """The lines [t, 1] of an array [B T, E], zeros where there are none."""
        return load(ref, line, along(self.padded), mask=self.there(line))

    def write(self, ref: Ref, line: Array, value: Float[Array, "t E"]) -> None:
        """Write the lines [t, 1] that there are, in the type of the array."""
        store(ref, value.astype(ref.dtype), line, along(self.padded), mask=self.there(line))

    def dropped(
        self, masks: Masks | None, words: Ref, line: Array, feature: Array, of: int, value: Float[Array, "t n"]
    ) -> Float[Array, "t n"]:
        """What dropout leaves of the features [1, n] of lines [t, 1] with `of` features; zeros where there are none."""
        there = (line < self.count) & (feature < of)
        if masks is None:
            return jnp.where(there, value, 0.0)
        row, element = line // self.time, line % self.time * of + feature
        return jnp.where(kept(masks, words, row, element, there), value * masks.factor, 0.0)


def whole(shape: tuple[int, ...]) -> pl.BlockSpec:
    """Every program sees the whole array."""
    return pl.BlockSpec(shape, lambda *_: (0,) * len(shape))


def launch(
    name: str,
    kernel: Callable[..., None],
    grid: tuple[int, ...],
    inputs: Sequence[Array],
    outputs: Sequence[jax.ShapeDtypeStruct],
    *,
    cost: dict[str, int],
    warps: int,
    interpret: bool,
    in_specs: Sequence[pl.BlockSpec] | None = None,
    out_specs: Sequence[pl.BlockSpec] | None = None,
    aliases: dict[int, int] | None = None,
) -> list[Array]:
    """Run a kernel. cost: its FLOPs and the bytes that it moves.  in_specs, out_specs: whole arrays where not given.
    aliases: inputs (by number) that are written over, as which output."""
    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=in_specs or [whole(each.shape) for each in inputs],
        out_specs=out_specs or [whole(each.shape) for each in outputs],
        out_shape=list(outputs),
        input_output_aliases=aliases or {},
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        # This lowering drops a `cost_estimate`; `benchmark --target` reads it here.
        metadata={key: str(value) for key, value in cost.items()},
        interpret=interpret,
        name=name,
    )(*inputs)
