"""Sums over the global batch: across the devices of a named axis, or, without one, of the arrays as they are.

Each loss is computed as shares: what the rows of a device add to the loss of the global batch. Before that, only the
numbers of rows of each class go over the devices. The shares are summed once, together with the gradients, which are
shares as well.
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Tree = TypeVar("Tree")


def psum(tree: Tree, axis_name: str | None) -> Tree:
    """The sum over the devices of `axis_name`; without one, the tree itself."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def gather(x: Array, axis_name: str | None) -> Array:
    """The rows of every device of `axis_name`, in order; without one, the rows themselves."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


class Rows(NamedTuple):
    """The rows of a device, of which those that are not valid are padding. counts: valid rows of a class everywhere."""

    label: Int[Array, " B"]
    valid: Bool[Array, " B"]
    counts: Float[Array, " V"]

    @classmethod
    def of(
        cls, label: Int[Array, " B"], valid: Bool[Array, " B"], classes: int, axis_name: str | None = None
    ) -> "Rows":
        """The rows with these labels, of so many classes."""
        one_hot = jax.nn.one_hot(label, classes) * valid[:, None]
        return cls(label, valid, psum(one_hot.sum(0), axis_name))

    def share_of_mean(self, values: Float[Array, " B"]) -> Float[Array, ""]:
        """What these rows add to the mean over the valid rows of the global batch; 0 when there is none."""
        return jnp.sum(jnp.where(self.valid, values, 0.0)) / jnp.maximum(self.counts.sum(), 1)
