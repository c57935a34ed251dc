"""Windows from an array, an HDF5 dataset, or anything that gives blocks of them, a part at a time."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from demega_jax.errors import UserError

BLOCK_BYTES = 2**24  # of windows that are read at once
WANTED = "numbers of shape [windows, sensors, time points]"
Block = Float[np.ndarray, "n C T"]


class Blocks(NamedTuple):
    """Windows in blocks. window: (sensors, time points).  rows: how many, where that is known before they are read."""

    window: tuple[int, int]
    rows: int | None
    parts: Iterator[Block]


def blocks_of(x: ArrayLike | h5py.Dataset | Iterable[ArrayLike]) -> Blocks:
    """Windows [N, C, T], or an iterable of blocks [n, C, T] or of windows [C, T], in finite float32.

    UserError: another shape, values that are no numbers, or not finite; the latter when they are read.
    """
    if isinstance(x, np.ndarray | h5py.Dataset):
        _check(x, 0, None)
        step = max(1, BLOCK_BYTES // (int(np.prod(x.shape[1:])) * 4))
        raw: Iterator[np.ndarray] = (x[first : first + step] for first in range(0, len(x), step))
        return Blocks(x.shape[1:], len(x), _checked(raw, x.shape[1:]))
    if not isinstance(x, Iterable):
        raise UserError("x", f"a {type(x).__name__}", WANTED, "give one array, or a list of blocks")
    found = _with_rows(x)
    first = next(found, None)
    if first is None:
        raise UserError("x", "no window", WANTED, "give at least one window of each class")
    _check(first, 0, None)
    return Blocks(first.shape[1:], None, _checked(itertools.chain([first], found), first.shape[1:]))


def _with_rows(x: Iterable[ArrayLike]) -> Iterator[np.ndarray]:
    for each in x:
        block = np.asanyarray(each)
        yield block[None] if block.ndim == 2 else block


def _check(block: np.ndarray | h5py.Dataset, row: int, window: tuple[int, ...] | None) -> None:
    """UserError: no windows of numbers, or another window than in the first block. row: the first of the block."""
    if block.ndim != 3 or 0 in block.shape or (window is not None and block.shape[1:] != window):
        sizes = "" if window is None else f" of {window[0]} x {window[1]}, as in the first block"
        came = f"an array of shape {list(block.shape)}" + (f" from row {row} on" if row else "")
        raise UserError("x", came, WANTED + sizes, "give windows of one shape, with all three axes")
    if block.dtype.kind not in "fiu":
        raise UserError("x", f"values of type {block.dtype}", "real numbers", "convert them, for example to float32")


def _checked(parts: Iterator[np.ndarray], window: tuple[int, ...]) -> Iterator[Block]:
    row = 0
    for part in parts:
        _check(part, row, window)
        if np.ma.is_masked(part):
            raise UserError(
                "x", f"masked values from row {row} on", "numbers everywhere", "fill them, or drop the rows"
            )
        with np.errstate(over="ignore"):  # gives an infinity, which the check finds
            block = np.asarray(part, np.float32)
        _check_finite(block, row)
        yield block
        row += len(block)


def _check_finite(block: Block, row: int) -> None:
    if np.isfinite(block).all():
        return
    place, sensor, time_point = np.argwhere(~np.isfinite(block))[0].tolist()
    came = f"{block[place, sensor, time_point]} in row {row + place}, sensor {sensor}, time point {time_point}"
    raise UserError("x", came, "finite numbers in the range of float32", "leave this window out, or repair it")
