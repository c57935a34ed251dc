"""Older formats of checkpoints are read as today's."""

import numpy as np

from demega_jax.training.formats import from_format_1


def test_two_optimizers_become_one():
    """The moments of the body come before those of the heads, as in the vector of parameters; by hand."""
    old = {"params.w": np.arange(2.0), "step": np.asarray(7)}
    for start, group in ((0.0, "body"), (10.0, "heads")):
        inner = f"opt_state.1.inner_states.{group}.inner_state"
        old[f"{inner}.0.count"], old[f"{inner}.2.count"] = np.asarray(5), np.asarray(7)
        old[f"{inner}.0.mu.{group}"] = start + np.arange(3.0)
        old[f"{inner}.0.nu.{group}"] = start + 0.5 + np.arange(3.0)
    new = from_format_1(old)
    assert new.keys() == {
        *("params.w", "step", "opt_state.1.0.count", "opt_state.1.0.mu", "opt_state.1.0.nu", "opt_state.1.2.count")
    }
    np.testing.assert_array_equal(new["opt_state.1.0.mu"], [0, 1, 2, 10, 11, 12])
    np.testing.assert_array_equal(new["opt_state.1.0.nu"], [0.5, 1.5, 2.5, 10.5, 11.5, 12.5])
    assert (new["opt_state.1.0.count"], new["opt_state.1.2.count"], new["step"]) == (5, 7, 7)


def test_all_of_the_body_frozen():
    """Then the optimizer has moments of the heads alone."""
    inner = "opt_state.1.inner_states.heads.inner_state"
    new = from_format_1({f"{inner}.0.mu.heads": np.ones(2), f"{inner}.0.count": np.asarray(1)})
    np.testing.assert_array_equal(new["opt_state.1.0.mu"], [1, 1])
    assert new["opt_state.1.0.count"] == 1
