"""Products and look-ups that lie in memory as a CPU wants them. Elsewhere they are plain `jnp.einsum`.

On a CPU, XLA merges a product with the transposes around it, and a product of operands that lie in another order than
it reads them runs at a third of the speed (benchmarks/NOTES.md). A barrier keeps the two apart. The compilers of
other backends choose layouts themselves, and their programs have no barrier.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int


def einsum(subscripts: str, left: Array, right: Array, *, dtype: DTypeLike | None = None) -> Array:
    """`jnp.einsum` of two arrays, such as "bthd,bshd->bhts", with the result in `dtype`.

    Axes that occur in both arrays and in the result come first, in the order of the result; the others keep theirs.
    """
    operands, result = subscripts.split("->")
    axes_left, axes_right = operands.split(",")
    batch = [axis for axis in result if axis in axes_left and axis in axes_right]

    def batch_first(axes: str) -> str:
        return "".join(batch + [axis for axis in axes if axis not in batch])

    ordered_left, ordered_right = batch_first(axes_left), batch_first(axes_right)
    free = [axis for axis in axes_left + axes_right if axis in result and axis not in batch]
    ordered_result = "".join(batch + free)
    product = jnp.einsum(
        f"{ordered_left},{ordered_right}->{ordered_result}",
        _laid_out(left, axes_left, ordered_left),
        _laid_out(right, axes_right, ordered_right),
        preferred_element_type=dtype,
    )
    return _transposed(apart_on_cpu(product), ordered_result, result)


def _laid_out(x: Array, axes: str, order: str) -> Array:
    """The axes in this order in memory. What lies so already needs no barrier and is made within the product."""
    return x if axes == order else apart_on_cpu(_transposed(x, axes, order))


def _transposed(x: Array, axes: str, order: str) -> Array:
    return x if axes == order else x.transpose([axes.index(axis) for axis in order])


def apart_on_cpu(x: Array) -> Array:
    """`x`; in programs for a CPU, the compiler merges nothing across it, in the forward and in the backward pass."""
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def apart(tree: Any) -> Any:
    """The arrays of a tree; in programs for accelerators, the compiler merges nothing across them."""
    leaves, structure = jax.tree.flatten(tree)
    kept = jax.lax.platform_dependent(*leaves, cpu=lambda *given: given, default=_barrier_of_all)
    return jax.tree.unflatten(structure, kept)


def apart_on_gpu(x: Array) -> Array:
    """`x`; in programs for an NVIDIA GPU, the compiler merges nothing across it."""
    return jax.lax.platform_dependent(x, cuda=jax.lax.optimization_barrier, default=lambda x: x)


def apart_on_tpu(x: Array) -> Array:
    """`x`; in programs for a TPU, the compiler merges nothing across it."""
    return jax.lax.platform_dependent(x, tpu=jax.lax.optimization_barrier, default=lambda x: x)


def _barrier_of_all(*given: Array) -> tuple[Array, ...]:
    return jax.lax.optimization_barrier(given)


def on_cpu_or_not(on_cpu: Callable[..., Array], elsewhere: Callable[..., Array], *arguments: Any) -> Array:
    """`on_cpu(*arguments)` in programs for a CPU, and `elsewhere(*arguments)` in those for other devices."""
    leaves, tree = jax.tree.flatten(arguments)
    arrays = [place for place, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def of(function: Callable[..., Array]) -> Callable[..., Array]:
        def run(*given: Array) -> Array:
            whole = list(leaves)
            for place, array in zip(arrays, given, strict=True):
                whole[place] = array
            return function(*jax.tree.unflatten(tree, whole))

        return run

    return jax.lax.platform_dependent(*(leaves[i] for i in arrays), cpu=of(on_cpu), default=of(elsewhere))


def expand_pairs(table: Float[Array, "R2 H D"], rows: Int[np.ndarray, "T S"]) -> Float[Array, "H T S D"]:
    """The table's row for every pair (t, s): rows[t, s] is its number.

    A product with a constant one-hot array, whose gradient is a product, too. On a CPU the rows are looked up, which
    is faster there; the gradient stays the product, because that of a look-up is a slow scatter-add everywhere.
    """
    one_hot = np.eye(table.shape[0], dtype=np.float32)[rows]

    def product(table: Float[Array, "R2 H D"]) -> Float[Array, "H T S D"]:
        return jnp.einsum("tsr,rhd->htsd", jnp.asarray(one_hot, table.dtype), table)

    def look_up(table: Float[Array, "R2 H D"]) -> Float[Array, "H T S D"]:
        return table.swapaxes(0, 1)[:, rows]

    @jax.custom_vjp
    def expand(table: Float[Array, "R2 H D"]) -> Float[Array, "H T S D"]:
        return jax.lax.platform_dependent(table, cpu=look_up, default=product)

    def forward(table: Float[Array, "R2 H D"]) -> tuple[Float[Array, "H T S D"], None]:
        return expand(table), None

    def backward(_: None, pairs: Float[Array, "H T S D"]) -> tuple[Float[Array, "R2 H D"]]:
        return jax.linear_transpose(product, table)(pairs)

    expand.defvjp(forward, backward)
    return expand(table)
