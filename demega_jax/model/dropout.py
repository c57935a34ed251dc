"""Dropout whose bits belong to rows: the same for a row however many devices share the batch.

Ours because Flax's dropout draws one mask for the whole batch from one key.

A row's key is made from the step's key and the row's number in the global batch. Bits come from threefry2x32 in
counter mode (Salmon et al., 2011): counter = (site, word), so every dropout site of the network draws its own
stream, and both words of a block are used. One bit an element serves p = 0.5, eight bits any other p.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p
from jaxtyping import Array, Bool, Float, UInt32

from demega_jax.model import cpu_layout


def row_keys(step_key: UInt32[Array, "2"], rows: UInt32[Array, " B"]) -> UInt32[Array, "B 2"]:
    """A key for each row: the threefry block of counter (0, row) under the step's key."""
    high, low = jnp.zeros_like(rows), rows
    key = jnp.broadcast_to(step_key[:, None], (2, *rows.shape))
    return jnp.stack(threefry2x32_p.bind(key[0], key[1], high, low), axis=-1)


@dataclasses.dataclass(frozen=True)
class Share:
    """Which elements stay: those whose value of `bits` bits is below `limit`.

    One bit serves a rate of 0.5, eight bits any other, to 1/256.
    """

    bits: int
    limit: int

    @classmethod
    def of(cls, rate: float) -> "Share":
        """The elements that stay at a rate of dropout above 0."""
        bits = 1 if rate == 0.5 else 8
        # at least one value is kept: with a rate near 1 nothing would be left, and the scale would be infinite
        return cls(bits, max(1, round((1 - rate) * 2**bits)))

    @property
    def kept(self) -> float:
        """The share of elements that stay."""
        return self.limit / 2**self.bits

    @property
    def per_word(self) -> int:
        """How many elements a word serves."""
        return 32 // self.bits

    @property
    def shifts(self) -> UInt32[Array, " per_word"]:
        """Where each value begins in a word."""
        return jnp.arange(self.per_word, dtype=jnp.uint32) * self.bits

    def words(self, elements: int) -> int:
        """How many words so many elements need."""
        return -(-elements // self.per_word)


def words_of(keys: UInt32[Array, "B 2"], sites: Sequence[int], count: int) -> UInt32[Array, "S B count"]:
    """`count` random words for each row at each of these sites."""
    blocks = -(-count // 2)
    shape = (len(sites), keys.shape[0], blocks)
    index = jnp.broadcast_to(jnp.arange(blocks, dtype=jnp.uint32), shape)
    site = jnp.broadcast_to(jnp.asarray(sites, jnp.uint32)[:, None, None] + 1, shape)
    key = (jnp.broadcast_to(keys[:, i, None], shape) for i in (0, 1))
    return jnp.concatenate(threefry2x32_p.bind(*key, site, index), axis=2)[:, :, :count]


class Drawn(NamedTuple):
    """Random words of several sites: the numbers of the sites, and the words [site, B, count]."""

    sites: tuple[int, ...]
    words: UInt32[Array, "S B count"]

    def place(self, noise: "Noise") -> int:
        """Which of the arrays has the words of a site."""
        return self.sites.index(noise.site)

    def of(self, noise: "Noise") -> UInt32[Array, "B count"]:
        """The words of a site."""
        place, count = self.place(noise), self.words.shape[2]

        def picked(keys: UInt32[Array, "B 2"], words: UInt32[Array, "S B count"]) -> UInt32[Array, "B count"]:
            return words[place]

        def drawn(keys: UInt32[Array, "B 2"], words: UInt32[Array, "S B count"]) -> UInt32[Array, "B count"]:
            return words_of(keys, (noise.site,), count)[0]

        # A CPU draws the words of a site, the same ones, beside other work. The barrier of `apart_on_tpu` keeps a TPU's
        # compiler from making the masks of all sites at once.
        return cpu_layout.apart_on_tpu(jax.lax.platform_dependent(noise.keys, self.words, cpu=drawn, default=picked))


@dataclasses.dataclass(frozen=True)
class Noise:
    """What a forward pass in training draws its dropout from. In evaluation there is none (`None`).

    keys: one threefry key a row.  site: number of the place in the network, folded in by `at`.  ahead: words that were
    drawn already.
    """

    keys: UInt32[Array, "B 2"]
    site: int = 0
    ahead: tuple[Drawn, ...] = ()

    def at(self, site: int) -> "Noise":
        """The noise of a sub-site: sites nest, each level having room for 63."""
        return dataclasses.replace(self, site=self.site * 64 + site + 1)

    def drawn_ahead(self, sites: Sequence["Noise"], elements: int, rate: float) -> "Noise":
        """The same noise, for which the words of these sites, of so many elements each, are one array."""
        count = Share.of(rate).words(elements)
        drawn = self.words(sites, count)
        return dataclasses.replace(self, ahead=(*self.ahead, drawn))

    def keep(self, shape: tuple[int, ...], rate: float) -> "Dropped":
        """A mask that keeps with the probability in the result: 1 - rate, to 1/256 unless rate is 0.5."""
        count, share = math.prod(shape), Share.of(rate)
        drawn = self.words([self], share.words(count))
        return mask_of(drawn.of(self), shape, share)

    def words(self, sites: Sequence["Noise"], count: int) -> Drawn:
        """`count` random words for each row at each of these sites, and perhaps at more."""
        numbers = tuple(noise.site for noise in sites)
        for drawn in self.ahead:
            if drawn.words.shape[2] == count and set(numbers) <= set(drawn.sites):
                return drawn
        return Drawn(numbers, words_of(self.keys, numbers, count))


def at(noise: Noise | None, site: int) -> Noise | None:
    """The noise of a sub-site; in evaluation there is none."""
    return None if noise is None else noise.at(site)


class Dropped(NamedTuple):
    """What dropout does to an array. keep: the elements that stay.  kept: the share of elements that stay."""

    keep: Bool[Array, "B *shape"]
    kept: float


def mask_of(words: UInt32[Array, "B count"], shape: tuple[int, ...], share: Share) -> Dropped:
    """The mask [B, *shape] of the words of a site."""
    keep = jax.lax.platform_dependent(
        words, tpu=functools.partial(_kept_on_tpu, share), default=functools.partial(_kept, share)
    )
    return Dropped(keep[:, : math.prod(shape)].reshape(-1, *shape), share.kept)


def _kept(share: Share, words: UInt32[Array, "B count"]) -> Bool[Array, "B elements"]:
    """Which elements the words keep."""
    return _below(share, words[:, :, None], share.shifts).reshape(words.shape[0], -1)


def _kept_on_tpu(share: Share, words: UInt32[Array, "B count"]) -> Bool[Array, "B elements"]:
    """`_kept` with the rows of the batch side by side: along the few bits of a word, most of a TPU's lanes are idle."""
    keep = _below(share, words.T[:, None], share.shifts[:, None])
    return jax.lax.optimization_barrier(keep).reshape(-1, words.shape[0]).T


def _below(share: Share, words: UInt32[Array, "..."], shifts: UInt32[Array, "..."]) -> Bool[Array, "..."]:
    """Whether the values at these places of words keep an element."""
    return (words >> shifts) & jnp.uint32(2**share.bits - 1) < share.limit


def apply_dropout(x: Float[Array, "B *shape"], dropped: Dropped | None) -> Float[Array, "B *shape"]:
    """`x` with zeros where elements do not stay, and the others scaled up to the same mean; None: unchanged."""
    if dropped is None:
        return x
    return jnp.where(dropped.keep, x * jnp.asarray(1 / dropped.kept, x.dtype), jnp.zeros((), x.dtype))


def dropout(x: Float[Array, "B *shape"], rate: float, noise: Noise | None) -> Float[Array, "B *shape"]:
    """`x` with elements zeroed at `rate` and the others scaled up to the same mean; unchanged without noise."""
    return x if noise is None or rate == 0.0 else apply_dropout(x, noise.keep(x.shape[1:], rate))
