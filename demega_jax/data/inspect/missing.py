"""Which session runs of LibriBrain a recording tree lacks."""

from collections.abc import Sequence

from demega_jax.data.recordings.runs import OFFICIAL, RunName


def missing_runs(names: Sequence[RunName]) -> list[str]:
    """What is known to be missing: the published session runs of validation and test, and gaps in a task's sessions."""
    missing = [f"the {split} session run {name}" for name, split in OFFICIAL.items() if name not in names]
    for task in sorted({name.task for name in names}):
        there = {int(name.session) for name in names if name.task == task and name.session.isdigit()}
        # The sessions of validation and test are named above already.
        named = {int(name.session) for name in OFFICIAL if name.task == task and name not in names}
        gaps = [number for number in range(1, max(there, default=0)) if number not in there | named]
        if gaps:
            missing.append(f"{task} session{'s' if len(gaps) > 1 else ''} {_ranges(gaps)}")
    return missing


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 5 as `1-3, 5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)
