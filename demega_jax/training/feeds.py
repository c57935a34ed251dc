"""The feed that a configuration asks for: its steps, its memory, and whether it fits."""

from typing import Any

from demega_jax.config import Config
from demega_jax.data.feeds.feed import Feed
from demega_jax.data.feeds.regroup import RegroupFeed
from demega_jax.data.feeds.resident import ResidentFeed, device_bytes
from demega_jax.data.feeds.sharded import check_shares, planned_epochs, steps_of
from demega_jax.data.feeds.stream import StreamFeed
from demega_jax.data.grouped import GroupedSplit
from demega_jax.data.recordings.averaged import RegroupSplit
from demega_jax.errors import UserError
from demega_jax.files import parse_bytes
from demega_jax.training.memory import USABLE, available_memory
from demega_jax.training.parallel import Placement


def make_feed(config: Config, split: GroupedSplit, placement: Placement) -> Feed:
    """The training batches, placed on the devices, from the first step on."""
    data, train = config.data, config.train
    seeds = train.seed if train.members == 1 else tuple(range(train.seed, train.seed + train.members))
    common: dict[str, Any] = {
        "batch_size": train.batch_size, "seeds": seeds, "sampling": data.sampling, "dtype": data.dtype,
        "placement": placement, "steps_per_dispatch": train.steps_per_dispatch,
    }  # fmt: skip
    if isinstance(split, RegroupSplit):
        return RegroupFeed(split, new_groups=data.regroup.new_groups, **common)
    if data.feed == "resident":
        return ResidentFeed(split, shares=data.shares, shares_seed=data.shares_seed, **common)
    return StreamFeed(
        split, batch_size=train.batch_size, seed=train.seed, sampling=data.sampling, memory=parse_bytes(data.memory),
        place=placement.put_batch, prefetch=data.prefetch,
    )  # fmt: skip


def epoch_steps(config: Config, split: GroupedSplit) -> int:
    """Steps of an epoch, as the feed will have them."""
    if isinstance(split, RegroupSplit):
        return steps_of(split.plan.group_label.shape[1], config.train.batch_size, config.data.shares)
    return -(-split.rows // config.train.batch_size)


def feed_bytes(config: Config, split: GroupedSplit, devices: int) -> int:
    """Bytes that the feed keeps on each device."""
    if isinstance(split, RegroupSplit):
        epochs = planned_epochs(epoch_steps(config, split), config.train.steps_per_dispatch) * config.train.members
        return split.plan.nbytes(split.sensors, config.data.dtype, devices, epochs)
    if config.data.feed == "resident":
        return device_bytes(split, config.data.shares, devices, config.data.dtype)
    return 0


def check_on_device(config: Config, split: GroupedSplit, placement: Placement) -> None:
    """UserError for shares that do not divide, or a split that the devices cannot hold."""
    feed, regroup = config.data.feed, isinstance(split, RegroupSplit)
    check_shares(config.data.shares, placement.devices, config.train.batch_size, placement.mode, feed)
    need = feed_bytes(config, split, placement.devices)
    device = placement.mesh.devices.flat[0]
    available = available_memory(device)
    together = placement.devices if device.platform == "cpu" else 1  # virtual devices share the machine's memory
    if available is None or need * together <= available * USABLE:
        return
    ways = ["data.dtype=float16 (half of it)"] if config.data.dtype == "float32" else []
    if not regroup or config.data.regroup.recordings == "dealt":
        ways += ["more --devices"]
    elif placement.devices > 1:
        ways += ["data.regroup.recordings=dealt"]
    ways += (
        ["groups of `demega-jax group` with data.feed=stream"] if regroup else ["a higher --level", "data.feed=stream"]
    )
    what = "the recordings" if regroup else f"{split.rows} rows"
    listed = f"{', '.join(ways[:-1])}, or {ways[-1]}"
    raise UserError(
        "data.feed", f"{feed}: {what} take {need / 2**30:.2f} GiB on each of {placement.devices} devices",
        f"at most {available / together / 2**30:.2f} GiB", f"use {listed}",
    )  # fmt: skip
