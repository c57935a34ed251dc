"""The order in which blocks of shards are read: whole, once an epoch, and pinned."""

import numpy as np
from helpers.feeds import PADDING, BlockOrder
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None, max_examples=60)
@given(
    shard_rows=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    block_rows=st.integers(1, 20),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 3),
)
def test_blocks_come_whole_and_once_an_epoch(shard_rows, block_rows, batch_size, seed, epoch):
    order, total = BlockOrder(shard_rows, block_rows, batch_size, seed), sum(shard_rows)
    steps = order.steps_per_epoch
    assert steps == -(-total // batch_size)
    batches = [order.row_numbers(epoch * steps + place) for place in range(steps)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    rows = np.concatenate(batches)
    assert (rows[total:] == PADDING).all()
    rows = rows[:total]
    np.testing.assert_array_equal(np.sort(rows), np.arange(total))
    edges = np.cumsum([0, *shard_rows])
    starts = {int(first) for low, high in zip(edges, edges[1:], strict=False) for first in range(low, high, block_rows)}
    jumps = rows[np.flatnonzero(np.diff(rows, prepend=-2) != 1)]
    assert set(jumps.tolist()) <= starts  # whoever leaves a block, does so at its end
    again = BlockOrder(shard_rows, block_rows, batch_size, seed)
    np.testing.assert_array_equal(again.row_numbers(epoch * steps), batches[0])


def test_the_order_of_blocks_is_pinned_and_changes_with_seed_and_epoch():
    order = BlockOrder([6, 5], 2, 4, 777)
    assert [order.row_numbers(step).tolist() for step in range(6)] == PINNED
    many = BlockOrder([1000], 2, 1000, 777)
    assert (many.row_numbers(0) != many.row_numbers(1)).mean() > 0.9
    assert (many.row_numbers(0) != BlockOrder([1000], 2, 1000, 778).row_numbers(0)).mean() > 0.9


PINNED = [[10, 0, 1, 8], [9, 2, 3, 4], [5, 6, 7, -1], [8, 9, 6, 7], [10, 0, 1, 4], [5, 2, 3, -1]]
