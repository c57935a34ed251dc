"""The rows of simulated grouped files, block by block, and whether a file that is there holds them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.hdf5 import find_dataset, open_file
from demega_jax.data.labels import own_names
from demega_jax.data.simulate.generative import GenerativeModel
from demega_jax.errors import UserError
from demega_jax.names import SPLITS

BLOCK_ROWS = 32  # rows of a chunk, which is drawn by its own seed: a file needs memory for a few chunks


def draw_blocks(
    model: GenerativeModel, labels: Int[np.ndarray, " N"], *, level: int, split: str, seed: int
) -> Iterator[tuple[slice, Float[np.ndarray, "n C T"], Int[np.ndarray, "n S"]]]:
    """(rows, data, session counts) of the groups of a file, 32 at a time (see `GenerativeModel.draw`).

    Each block has its own random numbers, by seed, level, split and number of the block.
    """
    for number, start in enumerate(range(0, len(labels), BLOCK_ROWS)):
        rows = slice(start, min(start + BLOCK_ROWS, len(labels)))
        bits = np.random.SeedSequence(seed, spawn_key=(1, level, SPLITS.index(split), number))
        yield rows, *model.draw(labels[rows], level, np.random.default_rng(bits))


def check_same(
    path: Path, model: GenerativeModel, labels: Int[np.ndarray, " N"], *, level: int, split: str, seed: int
) -> None:
    """UserError: a file that is there is not the one that these arguments make, by its labels and its first rows.

    Files have their name only when they are whole, so the rest of a file of a stopped command is as it should be.
    """
    rows, x, _ = next(draw_blocks(model, labels, level=level, split=split, seed=seed))
    wrong = UserError(
        path,
        "the file exists, and is another one than this command makes",
        "no file of this name, or what the same command wrote before it was stopped",
        "choose another folder, move the file away, or give the same options as before",
    )
    try:
        with open_file(path) as file:
            data, stored = find_dataset(path, file, "data"), find_dataset(path, file, "labels")
            if data is None or stored is None or data.shape != (len(labels), *x.shape[1:]):
                raise wrong
            same = np.array_equal(stored[:], labels) and np.array_equal(data[rows], x)
            same &= own_names(path, file) == tuple(model.classes)
    except UserError:
        raise wrong from None
    if not same:
        raise wrong
