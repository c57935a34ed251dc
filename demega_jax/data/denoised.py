"""A split whose rows are denoised when they are read."""

import dataclasses

import numpy as np

from demega_jax.data.split import RowNumbers, RowReader, Rows, Split
from demega_jax.errors import UserError
from demega_jax.signal.denoise import denoise


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DenoisedSplit(Split):
    """The rows of another split, denoised."""

    source: Split

    def reader(self) -> RowReader:
        """Reads rows of the source and denoises them."""
        return DenoisedRows(self.source.reader())


class DenoisedRows:
    """Rows of another reader, denoised."""

    def __init__(self, source: RowReader):
        self._source = source

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for, in float32."""
        clean = denoise(self._source.read(rows))
        if out is None:
            return clean
        np.copyto(out, clean)
        return out


def denoised(split: Split) -> DenoisedSplit:
    """A split with wavelet denoising. UserError: its rows are stored normalised, which comes after denoising."""
    if split.normalization is not None:
        came = f"windows that are stored normalised by {split.normalization}"
        raise UserError(split.path, came, "windows as `demega-jax group` writes them", "give the grouped files")
    shared = {field.name: getattr(split, field.name) for field in dataclasses.fields(Split)}
    return DenoisedSplit(**shared, source=split)
