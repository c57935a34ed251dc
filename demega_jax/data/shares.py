"""Splits drawn by shares: of units that stay whole, such as chapters or subjects, or of the rows of each class."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from demega_jax.data.draws import generator
from demega_jax.errors import UserError
from demega_jax.names import SPLITS


def check_shares(shares: Sequence[float], where: str) -> dict[str, float]:
    """The share of each split that has one, with a sum of 1. UserError about `where`: not three shares, or a negative
    one, or none for training."""
    if len(shares) != len(SPLITS) or not min(shares) >= 0 or not 0 < shares[0] < float("inf"):
        three = "three shares, of train (above 0), validation and test"
        raise UserError(where, f"{list(shares)}", three, f"use {where} 0.8,0.1,0.1, for example")
    return {split: share / sum(shares) for split, share in zip(SPLITS, shares, strict=True) if share > 0}


def split_units(sizes: Sequence[int], wanted: dict[str, float], seed: int) -> list[str]:
    """The split of each unit, drawn by a seed, so that the sizes have the wanted shares as nearly as possible.

    Every split gets at least one unit. sizes: of at least as many units as there are splits.
    """
    total = sum(sizes)
    have = dict.fromkeys(wanted, 0)
    chosen = [""] * len(sizes)
    order = generator(seed, 0).permutation(len(sizes))
    for left, index in zip(range(len(order), 0, -1), order, strict=True):
        empty = [split for split in wanted if have[split] == 0]
        among = empty if len(empty) == left else list(wanted)
        split = max(among, key=lambda name: wanted[name] - have[name] / total)
        chosen[index] = split
        have[split] += sizes[index]
    return chosen


def split_rows(labels: Int[np.ndarray, " N"], wanted: dict[str, float], seed: int) -> np.ndarray:
    """The split of each row [N], drawn by a seed, so that every class has the wanted shares as nearly as possible.

    Every class has a row in train.
    """
    found = np.full(len(labels), SPLITS[0], object)
    order = generator(seed, 0).permutation(len(labels))
    done, have = 0, dict.fromkeys(wanted, 0)
    for number in np.unique(labels):
        rows = order[labels[order] == number]
        done += len(rows)
        left = len(rows) - 1  # one is for train
        for split in [name for name in wanted if name != SPLITS[0]]:
            count = min(left, max(0, round(wanted[split] * done) - have[split]))
            found[rows[left - count : left]] = split
            left, have[split] = left - count, have[split] + count
    return found
