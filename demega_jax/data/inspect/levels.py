"""Whether two grouping levels average windows of the same events, so that their rows can be paired."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from demega_jax.data.hdf5 import open_file
from demega_jax.data.inspect.grouped import GroupedFacts, read_window_numbers
from demega_jax.data.inspect.report import Report

Same = Literal["same", "nearly the same", "different", "cannot tell"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two levels of a split, and whether they hold the same events, with the reason in words."""

    split: str
    first: Path
    second: Path
    levels: tuple[int, int]
    verdict: Same
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class LevelWindows:
    """The windows of a split at a level. counts: groups of each class.

    window, label [W]: the different window numbers, ascending, and the class of each; None where the file has none.
    """

    level: int
    counts: dict[str, int]
    window: Int[np.ndarray, " W"] | None = None
    label: np.ndarray | None = None


def compare_levels(reports: Sequence[Report]) -> list[Comparison]:
    """Whether neighbouring levels of each split hold the same events. Reports of unsound files are ignored."""
    found = []
    splits: dict[str, list[tuple[int, Path, GroupedFacts]]] = {}
    for report in reports:
        facts = report.facts
        if isinstance(facts, GroupedFacts) and facts.level is not None and not report.problems:
            splits.setdefault(facts.split, []).append((facts.level, report.path, facts))
    for split, members in splits.items():
        members.sort(key=lambda member: member[:2])
        for (level, path, facts), (other, other_path, other_facts) in itertools.pairwise(members):
            verdict, reason = compare(read_level(path, facts), read_level(other_path, other_facts))
            found.append(Comparison(split, path, other_path, (level, other), verdict, reason))
    return found


def read_level(path: Path, facts: GroupedFacts) -> LevelWindows:
    """The windows of a grouped file that was inspected."""
    assert facts.level is not None
    counts = dict(zip(facts.classes, facts.counts, strict=True))
    if facts.windows is None:
        return LevelWindows(facts.level, counts)
    with open_file(path) as file:
        labels, groups = file["labels"][:], read_window_numbers(file)
    label = np.repeat(labels, [len(group) for group in groups])
    window, first = np.unique(np.concatenate(groups), return_index=True)
    return LevelWindows(facts.level, counts, window, np.array(facts.classes)[label[first]])


def compare(a: LevelWindows, b: LevelWindows) -> tuple[Same, str]:
    """Compare window numbers if both levels have them; otherwise the possible numbers of windows."""
    if a.window is None or a.label is None or b.window is None or b.label is None:
        return _by_counts(a, b)
    _, in_a, in_b = np.intersect1d(a.window, b.window, assume_unique=True, return_indices=True)
    if not len(in_a):
        return "different", "no window number is in both"
    differing = int((a.label[in_a] != b.label[in_b]).sum())
    if differing:
        return "different", f"{differing:,} of {len(in_a):,} shared window numbers have different classes"
    alone = ((a.level, len(a.window) - len(in_a)), (b.level, len(b.window) - len(in_a)))
    only = [f"{count:,} only at level {level}" for level, count in alone if count]
    if not only:
        return "same", f"the same {len(in_a):,} window numbers, of the same classes"
    return "nearly the same", f"{len(in_a):,} windows in both, {' and '.join(only)}"


def _by_counts(a: LevelWindows, b: LevelWindows) -> tuple[Same, str]:
    """Compare by counts: n groups of K have K (n - 1) + 1 to K n windows, or up to K - 1 more that were dropped."""
    names = sorted(set(a.counts) | set(b.counts))
    for name in names:
        ranges = [_range(x.counts.get(name, 0), x.level) for x in (a, b)]
        if max(low for low, _ in ranges) > min(high for _, high in ranges):
            said = " and ".join(
                f"{low:,} to {high:,} at level {x.level}" for (low, high), x in zip(ranges, (a, b), strict=True)
            )
            return "different", f"{name}: {said} (computed from the numbers of groups, as there are no group_indices)"
    return "cannot tell", "not both have group_indices; the numbers of groups allow that they are the same"


def _range(groups: int, level: int) -> tuple[int, int]:
    """The smallest and largest number of windows that can give these groups."""
    return max(0, level * (groups - 1) + 1), level * groups + level - 1
