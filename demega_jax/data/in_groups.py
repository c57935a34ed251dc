"""Which windows are averaged together: groups of K windows of one class, of recordings or of the user."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from demega_jax.data.draws import generator
from demega_jax.errors import warn


def in_groups(
    key: Int[np.ndarray, " W"], level: int, seed: int | None, drop_remaining: bool
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " G1"]]:
    """Groups of K windows of one key, in the order of keys: windows, and the place where each group begins.

    Group g has the windows window[start[g] : start[g + 1]]. No window is in two groups. key [W]: what the windows of a
    group have in common, usually their class.  level: K.  seed: draws the order in which windows are taken; None: as
    they come.  drop_remaining: leave out the last windows of a key, which are too few for a whole group; otherwise
    they are a smaller group.
    """
    order = np.arange(len(key)) if seed is None else generator(seed, level).permutation(len(key))
    order = order[np.argsort(key[order], kind="stable")]
    _, first, counts = np.unique(key[order], return_index=True, return_counts=True)
    place = np.arange(len(key)) - np.repeat(first, counts)  # of each window among the windows of its key
    kept = place < np.repeat(counts - counts % level, counts) if drop_remaining else np.ones(len(key), bool)
    begins = np.flatnonzero((place % level == 0)[kept])
    return order[kept], np.append(begins, kept.sum())


def warn_of_few(name: str, classes: Sequence[str], counts: Int[np.ndarray, " V"], level: int) -> None:
    """Warn of classes that have no window, or fewer than K. name: of the windows.  counts: windows of each class."""
    few = (counts > 0) & (counts < level)
    for which, what in ((counts == 0, "have no window"), (few, f"have fewer than {level} windows")):
        names = [classes[i] for i in np.flatnonzero(which).tolist()]
        if names:
            warn(f"{name}: {len(names)} of {len(classes)} classes {what} ({' '.join(names)})")
