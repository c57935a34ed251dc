"""What the kernels of both kinds of device know about their arrays before they run."""

import dataclasses
import math

import numpy as np
from jaxtyping import Int

from demega_jax.model.attend import PairRows
from demega_jax.model.dropout import Share
from demega_jax.model.fused.bits import PairBits


def power_of_two(count: int, least: int = 1) -> int:
    """The smallest power of two that is at least `count` and `least`."""
    return max(least, 1 << (count - 1).bit_length())


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes and settings of a fused attention.

    batch, time, heads, width: B, T, H, D.  rows: the table's row for every pair.  terms: which position terms there
    are (of keys, of queries).  bits: the dropout of the probabilities; None: there is none.  masked: whether only some
    positions of a window are real.
    """

    batch: int
    time: int
    heads: int
    width: int
    rows: PairRows
    terms: tuple[bool, bool]
    bits: PairBits | None
    masked: bool = False

    @property
    def scales(self) -> tuple[float, float]:
        """What content products and position products are multiplied by."""
        count = sum(self.terms)
        return 1 / math.sqrt(self.width * (1 + count)), 1 / math.sqrt(self.width * max(count, 1))

    @property
    def kept(self) -> float:
        """The share of probabilities that stay."""
        return 1.0 if self.bits is None else self.bits.kept

    @property
    def by_distance(self) -> Int[np.ndarray, " 2T-1"]:
        """The table's row for every distance t - s, from -(T - 1) on."""
        rows = self.rows.rows
        return np.concatenate([rows[0, ::-1], rows[1:, 0]])

    def cost(self, qkv_passes: int, products: int, value_bytes: int) -> dict[str, int]:
        """FLOPs and bytes of memory of a pass.

        qkv_passes: how often it moves an array like q.  products: how many products like q k'.  value_bytes: of a
        number.  The products with the position tables count; what stays in caches does not.
        """
        table_rows = int(self.rows.rows.max()) + 1
        pairs = self.batch * self.heads * self.time * self.width
        flops = 2 * products * pairs * (self.time + sum(self.terms) * table_rows)
        return {"flops": flops, "transcendentals": 0, "bytes_accessed": qkv_passes * pairs * value_bytes}


@dataclasses.dataclass(frozen=True)
class Masks:
    """The dropouts of a branch, one after the other. places: in the array of words [S, B, count]."""

    share: Share
    places: tuple[int, ...]

    @property
    def factor(self) -> float:
        """What elements that stay are multiplied by."""
        return self.share.kept ** -len(self.places)


@dataclasses.dataclass(frozen=True)
class Sum:
    """A branch that is added to the residual stream. number: in the array of gains.  masks: its dropouts, if any."""

    number: int
    masks: Masks | None


@dataclasses.dataclass(frozen=True)
class Branch:
    """A feed-forward branch. layer: whose weights it has.  masks: the dropout of its hidden features, if any."""

    layer: int
    masks: Masks | None
