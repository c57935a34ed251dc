"""What is measured: cases, their configurations, and the data of each."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from demega_jax.benchmark.simulated import published_groups, simulated_data, stream_memory
from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.data.feeds.shares import check_shares
from demega_jax.data.open import TrainingData, open_training
from demega_jax.names import PUBLISHED_SENSORS
from demega_jax.training.parallel import check_batch, make_placement

TIME_POINTS = 125  # of the published windows, unless the configuration says otherwise


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the result. level: K.  devices: of the machine, the first so many.  precision: `model.dtype`."""

    level: int
    feed: str
    devices: int
    precision: str

    def __str__(self) -> str:
        devices = f"{self.devices} device{'s' if self.devices > 1 else ''}"
        return f"level {self.level}, {self.feed}, {devices}, {self.precision}"


def all_cases(
    levels: Sequence[int], feeds: Sequence[str], devices: Sequence[int], precisions: Sequence[str]
) -> list[Case]:
    """Every combination, each once, level by level."""
    every = itertools.product(levels, feeds, devices, precisions)
    return [Case(*each) for each in dict.fromkeys(every)]


def case_config(base: Config, case: Case) -> Config:
    """The configuration of a case. UserError: a batch that the devices cannot share, keys that do not fit the feed."""
    changes = {"data.level": case.level, "data.feed": case.feed, "model.dtype": case.precision}
    config = override(base, changes, "benchmark")
    make_placement("jit", case.devices, config.train.batch_size, config.train.accumulate)
    check_batch(config.train.batch_size, case.devices, config.train.accumulate)  # padding would be timed, too
    if case.feed != "stream":
        check_shares(config.data.shares, case.devices, config.train.batch_size, "jit", case.feed)
    return config


@dataclasses.dataclass(frozen=True)
class CaseData:
    """The splits of a case. simulated: noise, or files that say they are.  epoch_groups: the groups of an epoch of the
    real training split, about as many where the data are simulated."""

    config: Config
    data: TrainingData
    simulated: bool
    epoch_groups: int


def open_case(config: Config, folder: Path, devices: int) -> CaseData:
    """The data of a case: those of `data.path`, or simulated ones of the level's shape.

    folder: for simulated files, made when they are first asked for.
    """
    level = config.data.levels[0]
    if config.data.path is not None:
        data = open_training(config)
        rows = data.train
        return CaseData(config, data, rows.simulated, published_groups(level) if rows.simulated else rows.rows)
    shape = (config.model.sensors or PUBLISHED_SENSORS, config.model.time_points or TIME_POINTS)
    if config.data.feed == "stream":
        config = stream_memory(config, int(np.prod(shape)) * 4)
    data = simulated_data(config, folder, shape, jax.devices()[0], devices)
    return CaseData(config, data, True, published_groups(level))
