"""Splits that consist of other splits, or of an array in memory."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.acquisition import merged
from demega_jax.data.rows import CombinedRows, MemoryRows
from demega_jax.data.split import RowReader, ShuffledBlocks, Split, facts
from demega_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ArraySplit(Split):
    """A split whose rows are an array in memory."""

    x: Float[np.ndarray, "N C T"]
    in_memory = True

    def reader(self) -> RowReader:
        """The rows from memory."""
        return MemoryRows(self, self.x)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CombinedSplit(Split):
    """The rows of several splits, one after the other, to train on several levels together."""

    parts: tuple[Split, ...]

    @property
    def shuffled_blocks(self) -> ShuffledBlocks | None:
        """The blocks of all parts, if all parts have blocks of the same size."""
        found = [part.shuffled_blocks for part in self.parts]
        blocks = [each for each in found if each is not None]
        if len(blocks) < len(found) or len({each.size for each in blocks}) > 1:
            return None
        return ShuffledBlocks(tuple(rows for each in blocks for rows in each.rows), blocks[0].size)

    @property
    def slow_reason(self) -> str:
        """The reason of the first part that has one."""
        return next((part.slow_reason for part in self.parts if part.slow_reason), "")

    def reader(self) -> RowReader:
        """A reader of all parts, with one numbering of rows."""
        return CombinedRows(self, self.parts)

    def read_row_arrays(self) -> dict[str, Float[np.ndarray, "N n"]]:
        """The arrays of the parts, one after the other."""
        found = [part.read_row_arrays() for part in self.parts]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def combine(parts: Sequence[Split], path: Path) -> CombinedSplit:
    """Several splits of the same classes and windows as one split. UserError: types or normalisations differ."""
    first = parts[0]
    stored = {(part.dtype, part.normalization, part.has_statistics) for part in parts}
    if len(stored) > 1:
        came = f"levels {', '.join(str(part.level) for part in parts)} that are stored in different ways"
        way_out = "run `demega-jax shard` with the same settings for all, or train on one --level"
        raise UserError(path, came, "the same type and normalisation in all levels", way_out)
    labels = np.concatenate([part.labels for part in parts])
    known = facts(first) | {"path": path, "level": None, "labels": labels, "reference_macro_f1": None}
    known["acquisition"] = merged([part.acquisition for part in parts])
    known["simulated"] = all(part.simulated for part in parts)
    return CombinedSplit(**known, dtype=first.dtype, has_statistics=first.has_statistics, parts=tuple(parts))
