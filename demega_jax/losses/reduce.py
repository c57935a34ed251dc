"""Sums over the global batch: across the devices of a named axis, or, without one, of the arrays as they are.

Each loss is computed as shares: what the rows of a device add to the loss of the global batch. Only numbers of rows go
over the devices before that. The shares are summed once, together with the gradients, which are shares as well.
"""

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


def share_of_mean(values: Float[Array, " B"], valid: Bool[Array, " B"], axis_name: str | None) -> Float[Array, ""]:
    """What these rows add to the mean over the valid rows of the global batch; 0 when there is none."""
    count = psum(jnp.sum(valid), axis_name)
    return jnp.sum(jnp.where(valid, values, 0.0)) / jnp.maximum(count, 1)
