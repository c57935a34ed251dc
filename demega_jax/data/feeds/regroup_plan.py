"""The plan of the regroup feed: the groups of an epoch, which the events tell before a recording is read."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from demega_jax.config import RegroupConfig
from demega_jax.data.feeds.device_feed import DevicePlan
from demega_jax.data.feeds.feed import Placement, RowSpec, batch_specs, sampling_line
from demega_jax.data.feeds.regroup import RegroupFeed
from demega_jax.data.feeds.regroup_tables import RegroupTables
from demega_jax.data.recordings.statistics import StatisticsOf
from demega_jax.data.recordings.windows import Windows
from demega_jax.data.split import LabelledRows
from demega_jax.errors import counted
from demega_jax.files import format_bytes


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RegroupPlan(DevicePlan):
    """The plan of a `RegroupFeed`.

    rows: the groups of an epoch.  statistics: means and standard deviations that standardise the recordings.
    regroup: how groups are made.
    """

    rows: LabelledRows
    windows: Windows
    tables: RegroupTables
    statistics: StatisticsOf
    regroup: RegroupConfig
    name = "regroup"

    @property
    def steps_per_epoch(self) -> int:
        """Steps until the longest share has given all its groups."""
        return -(-self.tables.group_label.shape[1] // (self.batch_size // self.shares))

    @functools.cached_property
    def batch(self) -> Mapping[str, RowSpec]:
        """The arrays of a batch by name; windows are float32, whatever the recordings are."""
        return batch_specs(self.rows.window, np.dtype(np.float32))

    @property
    def input_bytes(self) -> int:
        """Bytes of the windows that a batch is averaged from."""
        windows = float(self.tables.group_size[self.tables.there].mean()) * self.batch_size
        return round(windows * self.rows.sensors * self.rows.time_points * np.dtype(self.dtype).itemsize)

    def device_bytes(self, devices: int) -> int:
        """Bytes of the recordings, and of the tables, on each device."""
        return self.tables.nbytes(self.rows.sensors, self.dtype, devices, self.planned_epochs * self.members)

    def held(self, devices: int) -> tuple[str, list[str]]:
        """The recordings, and what else takes less memory on the devices."""
        smaller = ["the files that `demega-jax group` writes, with data.feed=stream"]
        if self.tables.dealt:
            smaller.insert(0, "more --devices")
        elif devices > 1:
            smaller.insert(0, "data.regroup.recordings=dealt")
        return "the recordings", smaller

    def describe(self, devices: int) -> list[str]:
        """The memory that the recordings take on each device, the groups of an epoch, and how they are sampled."""
        size, how = format_bytes(self.device_bytes(devices)), "dealt" if self.tables.dealt else "replicated"
        sizes = self.tables.group_size[self.tables.there]
        few, many = int(sizes.min()), int(sizes.max())
        span = f"{few} to {many} windows" if few < many else counted(many, "window")
        runs = len(self.windows.recordings)
        lines = [
            f"{'feed':<10} {self.name}: {size} of {self.dtype} recordings ({how}) on each device",
            f"{'groups':<10} {len(sizes)} an epoch, of {span}, from {len(self.windows)} in "
            f"{counted(runs, 'session run')}",
        ]
        if self.regroup.target_rows is not None:  # rare classes have smaller groups
            labels, counts = self.rows.labels, self.rows.class_counts()
            mean = np.bincount(labels, sizes) / np.maximum(np.bincount(labels), 1)
            listed = [f"{self.rows.classes[c]} {counts[c]} x {mean[c]:.0f}" for c in np.flatnonzero(counts)]
            lines.append(f"{'of each':<10} {' '.join(listed)}")
        return lines + sampling_line(self.rows, self.sampling)

    def open(self, placement: Placement) -> RegroupFeed:
        """The feed itself, at its first step, with the recordings on the devices."""
        return RegroupFeed(self, placement)
