"""Comparisons of batches and of trees of arrays."""

from collections.abc import Mapping

import jax
import numpy as np

# A bias of keys moves all scores of a query alike, which softmax does not see: its gradient is rounding alone, and
# Adam makes steps of it (golden/README).
INERT = "attention.position_key.bias"


def assert_same_arrays(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """The same names, types, shapes and values; a NaN equals a NaN."""
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        got, wanted = np.asarray(ours[name]), np.asarray(values)
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), name
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def bits(tree) -> list[bytes]:
    """The bytes of every array of a tree."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
