"""Splits of one grouping level or of several together, as grouped files or shards, whichever is there."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demega_jax.data.grouped import GroupedSplit, find_level, find_split, open_grouped
from demega_jax.data.shards.reader import ShardedSplit, is_sharded, open_shards
from demega_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class CombinedSplit(GroupedSplit):
    """The rows of several splits, one after the other: levels that are trained on at once."""

    parts: tuple[GroupedSplit, ...]

    @property
    def nbytes(self) -> int:
        """Size of the rows as they are read."""
        return sum(part.nbytes for part in self.parts)


def open_levels(
    data: Path, levels: int | Sequence[int] | None, split: str, *, classes: Sequence[str] | None = None,
    expect_shape: tuple[int, int | None] | None = None,
) -> GroupedSplit:  # fmt: skip
    """A split of one level (None: the only one there), or of several as one `CombinedSplit`.

    classes, expect_shape: as for `open_grouped`; the first level decides for the others what is not given.
    """
    if levels is None or isinstance(levels, int):
        return _open(data, levels, split, classes, expect_shape)
    parts: list[GroupedSplit] = []
    for level in levels:
        parts.append(_open(data, level, split, classes, expect_shape))
        classes, expect_shape = parts[0].classes, (parts[0].sensors, parts[0].time_points)
    first = parts[0]
    stored = {(normalization(part), _stored_as(part)) for part in parts}
    if len(stored) > 1:
        raise UserError(
            data, f"levels {', '.join(map(str, levels))} that are stored in different ways",
            "one type and one normalisation in all", "shard them with the same settings, or train on one",
        )  # fmt: skip
    return CombinedSplit(
        data, split, None, sum(part.rows for part in parts), first.sensors, first.time_points, first.classes,
        np.concatenate([part.labels for part in parts]), None, tuple(parts),
    )  # fmt: skip


def _open(
    data: Path, level: int | None, split: str, classes: Sequence[str] | None, shape: tuple[int, int | None] | None
) -> GroupedSplit:
    folder = find_level(data, level)
    if is_sharded(folder):
        return open_shards(folder, split, classes=classes, expect_shape=shape)
    return open_grouped(find_split(data, level, split), classes=classes, expect_shape=shape)


def normalization(split: GroupedSplit) -> str | None:
    """How a split's windows are normalised already; None: not."""
    part = split.parts[0] if isinstance(split, CombinedSplit) else split
    return part.normalized if isinstance(part, ShardedSplit) else None


def _stored_as(split: GroupedSplit) -> tuple[str, bool]:
    return (split.dtype.name, split.statistics) if isinstance(split, ShardedSplit) else ("float32", False)
