"""Sums over the global batch: across the devices of a named axis, or, without one, of the arrays as they are."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Tree = TypeVar("Tree")


def psum(tree: Tree, axis_name: str | None) -> Tree:
    """The sum over the devices of `axis_name`; without one, the tree itself."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def gather(x: Array, axis_name: str | None) -> Array:
    """The rows of every device of `axis_name`, in order; without one, the rows themselves."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def masked_mean(values: Float[Array, " B"], valid: Bool[Array, " B"], axis_name: str | None) -> Float[Array, ""]:
    """Mean over the valid rows of the global batch; 0 when there is none."""
    total, count = psum((jnp.sum(jnp.where(valid, values, 0.0)), jnp.sum(valid)), axis_name)
    return total / jnp.maximum(count, 1)
