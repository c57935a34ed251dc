"""Dropout of attention probabilities, as a kernel can draw it for a part of the pairs.

Bits come from threefry2x32 under the key of a row, as those of `model.dropout`, but they lie otherwise: a word belongs
to a head, a key s and a run of neighbouring queries t, so that a kernel makes the words of its queries as whole lines
along s, and finds a pair's bits by a shift. One bit a pair serves a rate of 0.5, eight bits any other rate.
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt32

from demega_jax.model.dropout import Dropped, Share

# Rotations of the rounds, and what the two key words are joined with (Salmon et al., 2011).
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry2x32(
    key: tuple[UInt32[Array, "..."], UInt32[Array, "..."]], counter: tuple[UInt32[Array, "..."], UInt32[Array, "..."]]
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """The two words of a block, of plain operations on integers, which every compiler of kernels knows."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = ((y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


@dataclasses.dataclass(frozen=True)
class PairBits:
    """Which pairs stay: all, or those whose value of `bits` bits is below `limit`.

    site: number of the place in the network.  time: T, time points of a window.
    """

    site: int
    time: int
    bits: int
    limit: int

    @classmethod
    def of(cls, site: int, time: int, rate: float) -> "PairBits | None":
        """The bits of a rate; None: every pair stays."""
        if not rate:
            return None
        share = Share.of(rate)
        return cls(site, time, share.bits, share.limit)

    @property
    def kept(self) -> float:
        """The share of pairs that stay."""
        return self.limit / 2**self.bits

    @property
    def queries(self) -> int:
        """How many neighbouring queries the two words of a block serve."""
        return 2 * (32 // self.bits)

    def keep(
        self, key: tuple[Array, Array], head: Array | int, first: Array | int, query: Array, s: UInt32[Array, "1 S"]
    ) -> Bool[Array, "t S"]:
        """Which pairs of the queries `first` .. stay. query: their numbers [t, 1] from 0 on, uint32.

        first: a multiple of `queries`, or the queries are within one block.  key: the two words of the row's key.
        """
        count, words = query.shape[0], self.queries // 2
        blocks = -(-self.time // self.queries)
        place = jnp.uint32(first) + query
        word = jnp.zeros((count, s.shape[1]), jnp.uint32)
        for block in range(-(-count // self.queries)):
            number = jnp.uint32(first) // jnp.uint32(self.queries) + jnp.uint32(block)
            line = (jnp.uint32(head) * jnp.uint32(blocks) + number) * jnp.uint32(self.time)
            low, high = threefry2x32(key, (jnp.full_like(s, self.site + 1), line + s))
            here = jnp.where((place // jnp.uint32(words)) % jnp.uint32(2) == jnp.uint32(0), low, high)
            word = jnp.where(place // jnp.uint32(self.queries) == number, here, word)
        shift = (place % jnp.uint32(words)) * jnp.uint32(self.bits)
        value = (word >> shift) & jnp.uint32(2**self.bits - 1)
        return value < jnp.uint32(self.limit)


def keep_pairs(words: UInt32[Array, "B 2"], heads: int, bits: PairBits) -> Dropped:
    """The same pairs [B, H, T, S] by plain JAX. words: the rows' keys."""
    queries, time = bits.queries, bits.time
    shape = (len(words), heads, -(-time // queries), time)
    line = jnp.arange(math.prod(shape[1:]), dtype=jnp.uint32).reshape(1, *shape[1:])
    key = (words[:, 0, None, None, None], words[:, 1, None, None, None])
    counter = (jnp.full(shape, bits.site + 1, jnp.uint32), jnp.broadcast_to(line, shape))
    pair = jnp.stack(threefry2x32(key, counter), axis=3)  # [B, H, blocks, 2, S]
    shifts = jnp.arange(queries // 2, dtype=jnp.uint32)[:, None] * jnp.uint32(bits.bits)
    values = (pair[..., None, :] >> shifts) & jnp.uint32(2**bits.bits - 1)
    keep = (values < bits.limit).reshape(*shape[:2], -1, time)
    return Dropped(keep[:, :, :time], bits.kept)
