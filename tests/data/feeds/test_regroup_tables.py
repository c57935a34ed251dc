"""Tables of groups: sizes, remainders and overlaps whatever the counts; and the means that are taken of them."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demega_jax.config import RegroupConfig
from demega_jax.data.feeds.regroup import mean_windows
from demega_jax.data.feeds.regroup_tables import adapt, make_table


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=5),
    st.lists(st.integers(1, 20), min_size=1, max_size=3),
    st.booleans(),
    st.none() | st.integers(1, 30),
    st.integers(1, 9),
    st.floats(1, 4),
    st.integers(0, 3),
)
def test_tables(counts, levels, drop, rows, least, overlap, seed):
    settings = RegroupConfig(drop_remaining=drop, target_rows=rows, min_level=least, overlap=overlap)
    sizes = adapt(np.array(counts), levels[0], settings)
    table = make_table(np.array(counts), tuple(levels), settings, sizes, np.random.default_rng(seed))
    assert (np.diff(table.label) >= 0).all() and (table.size > 0).all()
    for label, n in enumerate(counts):
        mine = table.label == label
        start, size = table.start[mine], table.size[mine]
        assert (size <= n).all()  # no window twice in a group
        if rows is None:
            assert (start == np.cumsum(size) - size).all() and set(size[:-1]) <= set(levels)
            left = n - int(size.sum())
            assert (0 <= left < max(levels) and set(size) <= set(levels)) if drop else left == 0
        elif n:
            assert 1 <= len(size) <= rows and len(set(size)) == 1 and (start < n).all()
            assert len(size) == 1 or size.sum() <= overlap * n
            assert min(n, least, levels[0]) <= size[0] <= levels[0]
            assert len(size) == 1 or size[0] < n  # no two groups of the same windows
            if size.sum() <= n:
                assert (np.diff(start) >= size[0]).all()


@given(st.lists(st.lists(st.integers(0, 40), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 30))
def test_shares_have_adapted_groups_in_proportion_and_together_as_many(counts, rows):
    counts = np.array(counts)
    whole = adapt(counts.sum(axis=0), 7, RegroupConfig(target_rows=rows, min_level=2, overlap=2.0))
    parts = whole.shared(counts)
    made = np.array([part.groups for part in parts])
    np.testing.assert_array_equal(made.sum(axis=0), whole.groups)
    fair = counts * whole.groups / np.maximum(counts.sum(axis=0), 1)
    assert (np.abs(made - fair) < 1 + 1e-9).all() and all((part.size == whole.size).all() for part in parts)


@pytest.mark.parametrize("most", [1, 8, 9, 37])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_means_of_any_number_of_windows(most, dtype):
    rng = np.random.default_rng(most)
    x = rng.standard_normal((200, 3)).astype(dtype)
    first, size = rng.integers(0, 196, (5, most)), rng.integers(1, most + 1, 5)
    got = np.asarray(jax.jit(mean_windows, static_argnums=3)(x, first, size, 4))
    for row in range(5):
        wanted = np.mean([x[at : at + 4].astype(np.float64) for at in first[row, : size[row]]], axis=0)
        np.testing.assert_allclose(got[row], wanted, rtol=1e-5, atol=1e-6)
