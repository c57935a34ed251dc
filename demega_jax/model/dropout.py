"""Dropout whose bits belong to rows: the same for a row however many devices share the batch.

Ours because Flax's dropout draws one mask for the whole batch from one key.

A row's key is made from the step's key and the row's number in the global batch. Bits come from threefry2x32 in
counter mode (Salmon et al., 2011): counter = (site, word), so every dropout site of the network draws its own
stream, and both words of a block are used. One bit an element serves p = 0.5, eight bits any other p.
"""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
from jax.extend.random import threefry2x32_p
from jaxtyping import Array, Bool, Float, UInt32


def row_keys(step_key: UInt32[Array, "2"], rows: UInt32[Array, " B"]) -> UInt32[Array, "B 2"]:
    """A key for each row: the threefry block of counter (0, row) under the step's key."""
    high, low = jnp.zeros_like(rows), rows
    key = jnp.broadcast_to(step_key[:, None], (2, *rows.shape))
    return jnp.stack(threefry2x32_p.bind(key[0], key[1], high, low), axis=-1)


@dataclasses.dataclass(frozen=True)
class Noise:
    """What a forward pass in training draws its dropout from. In evaluation there is none (`None`).

    keys: one threefry key a row.  site: number of the place in the network, folded in by `at`.
    """

    keys: UInt32[Array, "B 2"]
    site: int = 0

    def at(self, site: int) -> "Noise":
        """The noise of a sub-site: sites nest, each level having room for 63."""
        return dataclasses.replace(self, site=self.site * 64 + site + 1)

    def keep(self, shape: tuple[int, ...], rate: float) -> "Dropped":
        """A mask that keeps with the probability in the result: 1 - rate, to 1/256 unless rate is 0.5."""
        count = math.prod(shape)
        bits_each = 1 if rate == 0.5 else 8
        per_word = 32 // bits_each
        words = self._words(-(-count // per_word))
        shifts = jnp.arange(per_word, dtype=jnp.uint32) * bits_each
        values = (words[:, :, None] >> shifts) & jnp.uint32(2**bits_each - 1)
        # at least one value is kept: with p near 1 nothing would be left, and the scale would be infinite
        kept = max(1, round((1 - rate) * 2**bits_each))
        keep = (values < kept).reshape(words.shape[0], -1)[:, :count]
        return Dropped(keep.reshape(-1, *shape), kept / 2**bits_each)

    def _words(self, count: int) -> UInt32[Array, "B count"]:
        blocks = -(-count // 2)
        shape = (self.keys.shape[0], blocks)
        index = jnp.broadcast_to(jnp.arange(blocks, dtype=jnp.uint32), shape)
        site = jnp.full(shape, self.site + 1, jnp.uint32)
        key = (jnp.broadcast_to(self.keys[:, i, None], shape) for i in (0, 1))
        return jnp.concatenate(threefry2x32_p.bind(*key, site, index), axis=1)[:, :count]


class Dropped(NamedTuple):
    """What dropout does to an array. keep: the elements that stay.  kept: the share of elements that stay."""

    keep: Bool[Array, "B *shape"]
    kept: float


def apply_dropout(x: Float[Array, "B *shape"], dropped: Dropped | None) -> Float[Array, "B *shape"]:
    """`x` with zeros where elements do not stay, and the others scaled up to the same mean; None: unchanged."""
    if dropped is None:
        return x
    return jnp.where(dropped.keep, x * jnp.asarray(1 / dropped.kept, x.dtype), jnp.zeros((), x.dtype))


def dropout(x: Float[Array, "B *shape"], rate: float, noise: Noise | None) -> Float[Array, "B *shape"]:
    """`x` with elements zeroed at `rate` and the others scaled up to the same mean; unchanged without noise."""
    return x if noise is None or rate == 0.0 else apply_dropout(x, noise.keep(x.shape[1:], rate))
