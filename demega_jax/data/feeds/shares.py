"""Shares: the fixed parts that rows are divided into, and what a batch draws from each."""

import numpy as np
from jaxtyping import Bool, Float, Int

from demega_jax.data.draws import generator
from demega_jax.data.feeds.feed import Sampling
from demega_jax.errors import UserError

FITTING_TURNS = 100


def deal(labels: Int[np.ndarray, " N"], shares: int, seed: int) -> Int[np.ndarray, "S n"]:
    """Row numbers of each share; -1 where a share has one row less.

    Rows are shuffled by the seed and put into the shares in turn, class by class. So the shares' numbers of rows of a
    class differ by one at most.
    """
    order = generator(seed, 2**63).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    each = -(-len(labels) // shares)
    dealt = np.full(each * shares, -1, np.int64)
    dealt[: len(order)] = order
    return np.ascontiguousarray(dealt.reshape(each, shares).T)


def with_empty(shares: np.ndarray, places: int, value: int) -> np.ndarray:
    """Arrays of shares [S, ..] with empty ones [places, ..] after them, which hold a value throughout."""
    empty = np.full((places - len(shares), *shares.shape[1:]), value, shares.dtype)
    return np.concatenate([shares, empty])


def check_shares(shares: int, devices: int, batch_size: int, mode: str, feed: str) -> None:
    """UserError: a device would have no share, or a batch cannot take equally many rows of each."""
    if mode != "jit":
        raise UserError("--parallel", f"{mode} with data.feed={feed}", "jit", "use --parallel jit or data.feed=stream")
    if shares < devices:
        came, way_out = f"{shares} shares on {devices} devices", f"use data.shares={devices}, or --devices {shares}"
        raise UserError("data.shares", came, "a share or more for each device", way_out)
    if batch_size % shares:
        came, near = f"{batch_size} rows from {shares} shares (data.shares)", max(1, batch_size // shares) * shares
        raise UserError("train.batch_size", came, f"a multiple of {shares}", f"use train.batch_size={near}")


def cumulative_chances(
    labels: Int[np.ndarray, "S n"], there: Bool[np.ndarray, "S n"], sampling: Sampling
) -> Float[np.ndarray, "S n"]:
    """Running sums of the chances of rows in each share. Uniform sampling does not use them: [S, 1] of zeros."""
    if sampling == "uniform":
        return np.zeros((len(labels), 1), np.float32)
    share = np.broadcast_to(np.arange(len(labels))[:, None], labels.shape)
    counts = np.zeros((len(labels), int(labels[there].max()) + 1))
    np.add.at(counts, (share[there], labels[there]), 1)
    each = class_chances(counts) / np.maximum(counts, 1)
    chance = np.zeros(labels.shape)
    chance[there] = each[share[there], labels[there]]
    return np.cumsum(chance, axis=1).astype(np.float32)


def class_chances(counts: Float[np.ndarray, "S V"]) -> Float[np.ndarray, "S V"]:
    """The chance of each class in the draws of each share, so that over all shares every class is equally likely.

    A share draws as many rows as it has, and does not hold every rare class. The chances are found by iterative
    proportional fitting (Deming and Stephan, 1940), which begins with equal chances for all rows of a class.
    """
    present = counts.sum(axis=0) > 0
    filled = counts.sum(axis=1) > 0
    part = counts[filled].sum(axis=1, keepdims=True) / counts.sum()
    chance = counts[filled][:, present] / counts[:, present].sum(axis=0)
    for _ in range(FITTING_TURNS):
        chance /= chance.sum(axis=0) * present.sum()
        chance *= part / chance.sum(axis=1, keepdims=True)
    found = np.zeros(counts.shape)
    found[np.ix_(filled, present)] = chance / part
    return found
