"""Feeds of tests: batches of 16 or 64 rows in float32, on one device unless told otherwise."""

import dataclasses
import os
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demega_jax.config import Config
from demega_jax.data.feeds.order import PADDING, BlockOrder, RowOrder, order_of
from demega_jax.data.feeds.regroup import RegroupFeed
from demega_jax.data.feeds.resident import ResidentPlan
from demega_jax.data.feeds.stream import StreamFeed, StreamPlan
from demega_jax.data.open import plan_regroup
from demega_jax.data.recordings.tree import RecordingTree
from demega_jax.training import parallel
from helpers.recordings import CLASSES, recorded
from helpers.training import placement_of

__all__ = [
    "PADDING",
    "BlockOrder",
    "RowOrder",
    "assert_host_is_silent",
    "assert_nothing_crosses",
    "by_row",
    "limit_device_memory",
    "order_of",
    "recorded_feed",
    "regroup_plan",
    "regroup_feed",
    "resident_feed",
    "signal_before_batch",
    "stream_feed",
    "take",
]


def stream_feed(
    split,
    *,
    batch_size: int = 64,
    seed: int = 3,
    memory: int = 0,
    sampling: str = "uniform",
    prefetch: int = 2,
    **options,
) -> StreamFeed:
    """Rows read from disk (memory: bytes of a split that are held) and placed nowhere; options: of the feed."""
    return StreamFeed(StreamPlan(split, batch_size, seed, sampling, memory, prefetch), **options)


def resident_feed(split, *, mode: str = "jit", devices: int = 1, seeds=3, dtype: str = "float32", **options):
    """All rows on the devices, in 8 shares; options: keys of the plan."""
    fixed = {"sampling": "uniform", "steps_per_dispatch": 1} | options
    plan = ResidentPlan(rows=split, batch_size=16, seeds=_all(seeds), shares=8, shares_seed=3, dtype=dtype, **fixed)
    return plan.open(placement_of(mode, devices, 16))


def _all(seeds: int | tuple[int, ...]) -> tuple[int, ...]:
    """The seeds of the members; one number is that of the only one."""
    return (seeds,) if isinstance(seeds, int) else seeds


def regroup_plan(tree: RecordingTree, classes=None, **train):
    """The groups of an epoch of recordings; train: keys of the training run."""
    config = Config.model_validate({"data": tree.config.model_dump(), "train": {"batch_size": 16} | train})
    model = config.model.model_copy(update={"classes": classes})
    return plan_regroup(config.model_copy(update={"model": model}), tree)


def recorded_feed(
    tree: RecordingTree,
    classes=None,
    *,
    devices: int = 1,
    seeds=3,
    sampling: str = "uniform",
    dtype: str = "float32",
    steps_per_dispatch: int = 1,
) -> RegroupFeed:
    """Groups that are formed anew on the devices, from recordings."""
    plan = dataclasses.replace(
        regroup_plan(tree, classes),
        seeds=_all(seeds),
        sampling=sampling,
        dtype=dtype,
        steps_per_dispatch=steps_per_dispatch,
    )
    return plan.open(placement_of("jit", devices, 16))


def regroup_feed(
    root: Path,
    *,
    level=5,
    devices: int = 1,
    seeds=3,
    sampling: str = "uniform",
    dtype: str = "float32",
    steps_per_dispatch: int = 1,
    **regroup,
) -> RegroupFeed:
    """That feed over the marked recordings at `root`; regroup: keys of data.regroup."""
    return recorded_feed(
        recorded(root, level, **regroup),
        CLASSES,
        devices=devices,
        seeds=seeds,
        sampling=sampling,
        dtype=dtype,
        steps_per_dispatch=steps_per_dispatch,
    )


def by_row(devices: int) -> NamedSharding:
    """The rows of a batch over the first devices."""
    return NamedSharding(Mesh(np.array(jax.devices()[:devices]), ("batch",)), PartitionSpec("batch"))


def take(feed, count: int) -> list[dict[str, np.ndarray]]:
    """The next batches, on the host and not shared with the feed."""
    return [{name: np.array(values) for name, values in next(feed).items()} for _ in range(count)]


def assert_nothing_crosses(feed) -> None:
    """The program that draws a batch moves no row from one device to another."""
    text = feed.draw.lower(*feed.take(1)).compile().as_text()
    assert not any(word in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))


def assert_host_is_silent(feed) -> None:
    """After its first batch a feed takes nothing from the host until the epoch ends."""
    next(feed)
    with jax.transfer_guard_host_to_device("disallow"):
        for _ in range(feed.steps_per_epoch - 1):
            next(feed)


def limit_device_memory(monkeypatch, nbytes: int) -> None:
    """Let devices seem to have so little memory."""
    monkeypatch.setattr(parallel, "available_memory", lambda device: nbytes)


def signal_before_batch(monkeypatch, number: int, sent: int) -> None:
    """Send this process a signal when its stream feed is asked for the batch of step `number`, counted from 0."""
    original = StreamFeed.__next__

    def signal_then_batch(feed):
        if feed.state()["next_step"] == number:
            os.kill(os.getpid(), sent)
        return original(feed)

    monkeypatch.setattr(StreamFeed, "__next__", signal_then_batch)
