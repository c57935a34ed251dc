"""Feeds of tests: batches of 16 or 64 rows in float32, on one device unless told otherwise."""

import os
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demega_jax.data.feeds.order import PADDING, BlockOrder, RowOrder
from demega_jax.data.feeds.regroup import RegroupFeed
from demega_jax.data.feeds.resident import ResidentFeed
from demega_jax.data.feeds.stream import StreamFeed, order_of
from demega_jax.training import feeds as device_feeds
from helpers.recordings import CLASSES, RecordedData, recorded
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
    "regroup_feed",
    "resident_feed",
    "signal_before_batch",
    "stream_feed",
    "take",
]


def stream_feed(split, *, batch_size: int = 64, seed: int = 3, memory: int = 0, **options) -> StreamFeed:
    """Rows read from disk (memory: bytes of a split that are held) and placed nowhere."""
    return StreamFeed(split, batch_size=batch_size, seed=seed, memory=memory, **options)


def resident_feed(split, *, mode: str = "jit", devices: int = 1, seeds=3, dtype: str = "float32", **options):
    """All rows on the devices, in 8 shares."""
    placement = placement_of(mode, devices, 16)
    return ResidentFeed(
        split, batch_size=16, seeds=seeds, shares=8, shares_seed=3, dtype=dtype, placement=placement, **options
    )


def recorded_feed(
    data: RecordedData,
    classes=None,
    *,
    devices: int = 1,
    seeds=3,
    sampling: str = "uniform",
    dtype: str = "float32",
    steps_per_dispatch: int = 1,
) -> RegroupFeed:
    """Groups that are formed anew on the devices, from recordings."""
    return RegroupFeed(
        data.train(classes),
        batch_size=16,
        seeds=seeds,
        dtype=dtype,
        placement=placement_of("jit", devices, 16),
        sampling=sampling,
        new_groups=data.config.regroup.new_groups,
        steps_per_dispatch=steps_per_dispatch,
    )


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
    monkeypatch.setattr(device_feeds, "available_memory", lambda device: nbytes)


def signal_before_batch(monkeypatch, number: int, sent: int) -> None:
    """Send this process a signal when its stream feed is asked for the batch of step `number`, counted from 0."""
    original = StreamFeed.__next__

    def signal_then_batch(feed):
        if feed.state()["next_step"] == number:
            os.kill(os.getpid(), sent)
        return original(feed)

    monkeypatch.setattr(StreamFeed, "__next__", signal_then_batch)
