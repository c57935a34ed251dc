"""Shares: the fixed parts that rows are divided into, and what a batch draws from each."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from demega_jax.data.draws import generator
from demega_jax.data.feeds.feed import Placement, Sampling
from demega_jax.errors import UserError
from demega_jax.files import format_bytes

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


def check_shares(shares: int, devices: int, batch_size: int, mode: str, feed: str) -> None:
    """UserError: devices cannot hold whole shares, or a batch cannot take equally many rows of each."""
    if mode != "jit":
        raise UserError("--parallel", f"{mode} with data.feed={feed}", "jit", "use --parallel jit or data.feed=stream")
    if shares % devices:
        near = math.ceil(shares / devices) * devices
        raise UserError(
            "data.shares", f"{shares} shares over {devices} devices", f"a multiple of {devices}",
            f"use data.shares={near}, or another number of --devices",
        )  # fmt: skip
    if batch_size % shares:
        near = max(1, batch_size // shares) * shares
        raise UserError(
            "train.batch_size", f"{batch_size} rows from {shares} shares (data.shares)", f"a multiple of {shares}",
            f"use train.batch_size={near}",
        )  # fmt: skip


def check_fits(feed: str, what: str, need: int, placement: Placement, ways_out: Sequence[str]) -> None:
    """UserError: each device would have to hold `need` bytes, which is more than it has.  ways_out: what takes less."""
    free = placement.free_bytes()
    if free is None or need <= free:
        return
    some = ", ".join(ways_out[:-1])
    raise UserError(
        "data.feed", f"with {feed}, {what} take {format_bytes(need)} on each of {placement.devices} devices",
        f"at most {format_bytes(free)}, which are free", f"use {f'{some}, or ' if some else ''}{ways_out[-1]}",
    )  # fmt: skip


def steps_of(longest_share: int, batch_size: int, shares: int) -> int:
    """Steps of an epoch, which ends when the longest share has given all its rows."""
    return -(-longest_share // (batch_size // shares))


def planned_epochs(steps_per_epoch: int, steps_per_dispatch: int) -> int:
    """The largest number of epochs that the steps of one dispatch can belong to."""
    return 1 + -(-(steps_per_dispatch - 1) // steps_per_epoch)


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
