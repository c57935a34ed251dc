"""What the regroup feed knows before it starts: where samples lie on the devices, and which groups an epoch has.

The tables are the same for every epoch. Which windows are in a group is drawn for each epoch (`regroup.RegroupFeed`).
"""

import dataclasses

import numpy as np
from jaxtyping import Int

from demega_jax.config import RegroupConfig
from demega_jax.data.draws import generator
from demega_jax.data.feeds.shares import deal, with_empty
from demega_jax.data.recordings.windows import Windows
from demega_jax.errors import UserError, warn

STRETCH_SECONDS = 30  # recordings are divided into stretches this long, or shorter if there are few recordings
LEAST_STRETCHES = 16  # that each share has


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Where samples lie: in P parts, one after the other in rounds; a round gives every part one stretch.

    A stretch is `length` samples of a session run and the next `overlap` samples, so that it holds every window that
    begins in it. first [R]: number of the first stretch of each session run.  part [rounds, P]: which part has the i-th
    stretch of a round.
    """

    length: int
    overlap: int
    first: Int[np.ndarray, " R"]
    part: Int[np.ndarray, "rounds P"]

    @property
    def parts(self) -> int:
        """Number of parts P."""
        return self.part.shape[1]

    @property
    def samples(self) -> int:
        """Samples of each part."""
        return len(self.part) * (self.length + self.overlap)

    def locate(self, windows: Windows) -> tuple[Int[np.ndarray, " W"], Int[np.ndarray, " W"]]:
        """(part, first sample there) of each window."""
        stretch = self.first[windows.run] + windows.start // self.length
        turn, place = np.divmod(stretch, self.parts)
        return self.part[turn, place], turn * (self.length + self.overlap) + windows.start % self.length


def lay_out(windows: Windows, parts: int, seed: int) -> Layout:
    """The layout of the windows' recordings. The seed says which part has which stretch; one part has them in order."""
    samples = np.array([recording.samples for recording in windows.recordings])
    longest = int(STRETCH_SECONDS * windows.recordings[0].rate)
    length = max(windows.time_points, min(longest, int(samples.sum()) // (LEAST_STRETCHES * parts)))
    stretches = -(-samples // length)
    rounds = -(-int(stretches.sum()) // parts)
    draw = generator(seed, 2**63 + 1)
    part = draw.permuted(np.tile(np.arange(parts), (rounds, 1)), axis=1)
    overlap = 0 if parts == 1 else windows.time_points - 1
    return Layout(length, overlap, np.cumsum(stretches) - stretches, part)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Groups of an epoch; all arrays are [G]. In the order of windows that an epoch draws for a label, a group has the
    `size` windows from place `start` on; after the last window of the label comes the first."""

    label: Int[np.ndarray, " G"]
    start: Int[np.ndarray, " G"]
    size: Int[np.ndarray, " G"]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, groups: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " n"]]:
        """(label, start, size) of these groups; 0 for group -1, which is padding."""
        return [np.append(column, 0)[groups].astype(np.int32) for column in (self.label, self.start, self.size)]


@dataclasses.dataclass(frozen=True, eq=False)
class Adapted:
    """Groups adapted to the number of windows of each class. size [V]: of a group.  groups [V]: of an epoch."""

    size: Int[np.ndarray, " V"]
    groups: Int[np.ndarray, " V"]

    def shared(self, counts: Int[np.ndarray, "P V"]) -> "list[Adapted]":
        """The groups of each part, in proportion to its windows of each class; the totals stay the same."""
        upto = np.cumsum(counts, axis=0) * self.groups // np.maximum(counts.sum(axis=0), 1)
        return [Adapted(self.size, groups) for groups in np.diff(upto, axis=0, prepend=0)]


def adapt(counts: Int[np.ndarray, " V"], level: int, settings: RegroupConfig) -> Adapted | None:
    """Sizes that give `target_rows` groups of each class, with each window used `overlap` times at most on average.

    A class with too few windows gets smaller groups, down to min_level, and then fewer groups. None: target_rows is
    not set.
    """
    if settings.target_rows is None:
        return None
    uses = np.floor(settings.overlap * counts).astype(np.int64)
    size = np.minimum(level, np.maximum(settings.min_level, uses // settings.target_rows))
    size = np.maximum(1, np.minimum(counts, size))
    groups = np.clip(uses // size, np.minimum(counts, 1), settings.target_rows)
    # One group at most where it has all windows of its class, as others would be the same.
    return Adapted(size, np.where(size < counts, groups, np.minimum(counts, 1)))


def make_table(
    counts: Int[np.ndarray, " V"],
    levels: tuple[int, ...],
    settings: RegroupConfig,
    adapted: Adapted | None,
    draw: np.random.Generator,
) -> Table:
    """Groups of classes with `counts` windows.

    A group is a block of K consecutive windows, and K is drawn for each group from `levels`. The last group of a class
    can be smaller, or is dropped. adapted: groups of these sizes instead, which are spread evenly over the windows.
    """
    columns = [np.zeros((3, 0), np.int64)]
    for label in np.flatnonzero(counts).tolist():
        n = int(counts[label])
        if adapted is None:
            start, size = _blocks(n, levels, settings.drop_remaining, draw)
        else:
            start, size = _spread(n, int(adapted.size[label]), int(adapted.groups[label]))
        columns.append(np.stack([np.full(len(start), label), start, size]))
    return Table(*np.concatenate(columns, axis=1).astype(np.int32))


def _blocks(
    n: int, levels: tuple[int, ...], drop_remaining: bool, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(start, size) of consecutive blocks of n windows."""
    most = -(-n // min(levels))
    size = draw.choice(levels, most) if len(levels) > 1 else np.full(most, levels[0])
    start = np.cumsum(size) - size
    inside = start + size <= n if drop_remaining else start < n
    return start[inside], np.minimum(size, n - start)[inside]


def _spread(n: int, k: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(start, size) of groups of k windows, spread evenly over n windows. They overlap only if they must."""
    if k >= n:
        k, groups = n, min(groups, 1)
    span = n if groups * k > n else groups * k
    return np.arange(groups) * span // max(groups, 1), np.full(groups, k)


@dataclasses.dataclass(frozen=True, eq=False)
class RegroupTables:
    """Tables of the regroup feed.

    sample [P, W], label [P, W]: first sample and class of each part's windows, class by class, in order of time; the
    label V is padding.  counts [P, V]: windows of each class.
    group_label, group_start, group_size [S, n]: groups of each share (see `Table`); size 0 is padding.
    """

    layout: Layout
    sample: Int[np.ndarray, "P W"]
    label: Int[np.ndarray, "P W"]
    counts: Int[np.ndarray, "P V"]
    group_label: Int[np.ndarray, "S n"]
    group_start: Int[np.ndarray, "S n"]
    group_size: Int[np.ndarray, "S n"]

    @property
    def there(self) -> np.ndarray:
        """[S, n]: true for a group, false for padding."""
        return self.group_size > 0

    @property
    def dealt(self) -> bool:
        """Whether each share has its own recordings."""
        return self.layout.parts > 1

    def labels(self) -> Int[np.ndarray, " G"]:
        """The class of each group of an epoch."""
        return self.group_label[self.there].astype(np.int64)

    def with_empty(self, places: int) -> "RegroupTables":
        """The tables with places after the shares that have no group and, where recordings are dealt, no window."""
        label, start, size = (
            with_empty(table, places, 0) for table in (self.group_label, self.group_start, self.group_size)
        )
        grouped = dataclasses.replace(self, group_label=label, group_start=start, group_size=size)
        if not self.dealt:
            return grouped
        windows = with_empty(self.label, places, self.counts.shape[1])  # which is the label of padding
        sample, counts = (with_empty(table, places, 0) for table in (self.sample, self.counts))
        return dataclasses.replace(grouped, label=windows, sample=sample, counts=counts)

    def nbytes(self, sensors: int, dtype: str, devices: int, epochs: int = 1) -> int:
        """Bytes on each device.  epochs: number of epochs planned at a time, times the number of members."""
        parts = -(-self.layout.parts // devices) if self.dealt else 1
        samples = parts * self.layout.samples * sensors * np.dtype(dtype).itemsize
        # For each window: its class, its first sample, and a place in the order of each epoch. For each group: five
        # numbers, and in each epoch its size, label, place and windows.
        windows = parts * self.sample.shape[1] * (2 + epochs) * 4
        groups = (
            self.group_label.shape[1]
            * -(-len(self.group_label) // devices)
            * (5 + (3 + int(self.group_size.max())) * epochs)
            * 4
        )
        return samples + windows + groups


def make_tables(
    windows: Windows, levels: tuple[int, ...], settings: RegroupConfig, shares: int, seed: int
) -> RegroupTables:
    """Lay recordings out, sort windows by class, and make the groups. UserError: there is no group."""
    layout = lay_out(windows, shares if settings.recordings == "dealt" else 1, seed)
    counts, sample, label = _by_class(windows, layout)
    draw = generator(seed, 2**63 + 2)
    adapted = adapt(counts.sum(axis=0), levels[0], settings)
    shared = [None] * layout.parts if adapted is None else adapted.shared(counts)
    tables = [make_table(one, levels, settings, sizes, draw) for one, sizes in zip(counts, shared, strict=True)]
    if not sum(map(len, tables)):
        came, wanted = f"no class has {min(levels)} windows for a group", "a level that gives at least one group"
        way_out = "lower --level, or set data.regroup.drop_remaining=false"
        raise UserError("data.level", came, wanted, way_out)
    _warn_of_missing(windows, tables)
    if layout.parts > 1:
        longest = max(map(len, tables))
        place = np.arange(longest)
        groups = [table.take(np.where(place < len(table), place, -1)) for table in tables]
    else:
        groups = [tables[0].take(rows) for rows in deal(tables[0].label, shares, seed)]
    columns = (np.stack(column) for column in zip(*groups, strict=True))
    return RegroupTables(layout, sample, label, counts, *columns)


def _warn_of_missing(windows: Windows, tables: list[Table]) -> None:
    """Warn of classes that have no window, or no group, in training."""
    there = windows.class_counts() > 0
    grouped = np.isin(np.arange(len(there)), np.concatenate([table.label for table in tables]))
    said = []
    for words, which in (("no window", ~there), ("no group", there & ~grouped)):
        if which.any():
            said.append(f"{words} of {' '.join(windows.classes[i] for i in np.flatnonzero(which))}")
    if said:
        warn(f"train: {', '.join(said)}, of {len(there)} classes")


def _by_class(windows: Windows, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(counts [P, V], sample [P, W], label [P, W]) of `RegroupTables`."""
    part, first = layout.locate(windows)
    classes = len(windows.classes)
    counts = np.zeros((layout.parts, classes), np.int64)
    np.add.at(counts, (part, windows.label), 1)
    of_part = counts.sum(axis=1)
    there = np.arange(of_part.max()) < of_part[:, None]
    order = np.lexsort((windows.label, part))  # keeps the order in time
    sample, label = np.zeros(there.shape, np.int32), np.full(there.shape, classes, np.int32)
    sample[there], label[there] = first[order], windows.label[order]
    return counts, sample, label
