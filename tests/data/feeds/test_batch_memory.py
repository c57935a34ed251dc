"""Memory of batches on the host: used again when nothing shares it any more, and never before."""

import weakref

import jax
import numpy as np
import pytest
from helpers.feeds import by_row

from demega_jax.data.feeds.host_batch import BatchMemory


@pytest.mark.parametrize("devices", [1, 8])
def test_memory_is_used_again_only_when_no_placed_array_shares_it(devices):
    """A CPU device shares host memory that begins at a multiple of 64 bytes, which is made sure of here."""
    memory = BatchMemory((64, 4, 17), 4)
    taken = memory.take()
    address = taken.ctypes.data
    skip = -(address // 4) % 16
    x = taken.reshape(-1)[skip : skip + 64 * 4 * 16].reshape(64, 4, 16)
    x[:] = 1
    placed = jax.device_put(x, by_row(devices))
    shards = placed.addressable_shards
    assert all(x.ctypes.data <= shard.data.unsafe_buffer_pointer() < x.ctypes.data + x.nbytes for shard in shards)
    del taken, x
    others = [memory.take() for _ in range(8)]
    assert address not in [other.ctypes.data for other in others]
    for other in others:
        other[:] = 2
    np.testing.assert_array_equal(placed, 1)
    del placed, shards, others, other
    jax.device_put(0)  # JAX lets go of arrays of numpy at its next call
    assert memory.take().ctypes.data == address


def test_memory_is_used_again_and_bounded():
    memory = BatchMemory((5, 3), 3)
    taken = [memory.take() for _ in range(4)]
    owners = [weakref.ref(x.base) for x in taken]
    assert len({id(owner()) for owner in owners}) == 4
    row = taken[0][2:3].reshape(-1)  # a view of a view
    taken.clear()
    assert owners[3]() is None  # beyond the bound, so not kept
    assert memory.take().base is owners[1]()
    del row
    again = [memory.take() for _ in range(3)]
    assert [x.base is owner() for x, owner in zip(again, owners[:3], strict=True)] == [True] * 3
