"""`demega-jax group`: recordings to grouped files."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demega_jax.errors import UserError

if TYPE_CHECKING:
    from demega_jax.data.recordings.grouping import Target
    from demega_jax.data.recordings.splits import Assigned


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command's arguments."""
    text = "average windows of recordings in groups of K"
    command = commands.add_parser("group", help=text, description=text)
    command.add_argument("recordings", type=Path, metavar="RECORDINGS", help="recording tree")
    command.add_argument("out", type=Path, metavar="OUT", help="folder to write grouped_K into")
    command.add_argument("--level", type=int, nargs="+", required=True, metavar="K", help="grouping levels")
    command.add_argument("--tmin", type=float, default=0.0, metavar="S", help="begin of a window, s (default 0)")
    command.add_argument("--tmax", type=float, default=0.5, metavar="S", help="end of a window, s (default 0.5)")
    command.add_argument("--seed", type=int, default=777, help="seed of shuffle and --split-shares (default 777)")
    command.add_argument("--no-shuffle", action="store_true", help="keep the order of the recordings in train, too")
    command.add_argument("--drop-remaining", action="store_true", help="drop groups of fewer than K windows")
    command.add_argument("--by-position", action="store_true", help="groups of one position in the word (B, I, E, S)")
    command.add_argument("--run", nargs="+", metavar="ses:task:run", help="these runs only (default: all)")
    splits = command.add_mutually_exclusive_group()
    splits.add_argument("--splits", type=Path, metavar="FILE", help="splits by run, as --split-shares wrote them")
    splits.add_argument(
        "--split-shares", type=float, nargs=3, metavar="SHARE", help="draw runs for train, validation and test"
    )
    command.add_argument("--memory", default="4G", help="memory for groups that are being summed (default 4G)")
    command.set_defaults(function=group_command)


def group_command(arguments: argparse.Namespace) -> int:
    """Print the plan, then make the files. Returns the exit status."""
    from demega_jax.data.recordings.grouping import plan_passes, write_groups
    from demega_jax.data.recordings.runs import find_recordings
    from demega_jax.data.recordings.splits import by_shares, official, read_splits, write_splits
    from demega_jax.data.recordings.statistics import statistics

    _check(arguments)
    memory = _bytes(arguments.memory)
    recordings = find_recordings(arguments.recordings)
    if arguments.run:
        recordings = _only(recordings, arguments.run)
    if arguments.splits is not None:
        assigned = read_splits(arguments.splits, recordings)
    elif arguments.split_shares is not None:
        assigned = by_shares(recordings, arguments.split_shares, arguments.seed)
    else:
        assigned = official(recordings)
    targets = make_targets(arguments, assigned)
    passes = len(plan_passes(targets, memory))
    _print_plan(arguments.out, targets, passes)
    if arguments.split_shares is not None:
        write_splits(arguments.out / "splits.json", assigned)
    write_groups(targets, statistics(assigned["train"], print), memory, print)
    return 0


def make_targets(arguments: argparse.Namespace, assigned: "Assigned") -> "list[Target]":
    """The files to write; refuses a folder that holds one of them already."""
    from demega_jax.data.recordings.grouping import GroupSettings, Target, make_groups
    from demega_jax.data.recordings.windows import find_windows

    settings = GroupSettings(
        None if arguments.no_shuffle else arguments.seed, arguments.drop_remaining, arguments.by_position
    )
    targets = []
    for split, runs in assigned.items():
        windows = find_windows(runs, tmin=arguments.tmin, tmax=arguments.tmax)
        shuffle = split == "train" and settings.seed is not None
        for level in arguments.level:
            path = arguments.out / f"grouped_{level}" / f"{split}_grouped.h5"
            if path.parent.is_dir() and any(
                file.suffix != ".partial"
                for file in path.parent.iterdir()  # what a killed process left
            ):
                raise UserError(
                    path.parent, "holds files already", "a folder without this level", "choose another OUT, or move it"
                )
            groups = make_groups(windows, level, settings, shuffle=shuffle, name=f"{split} at level {level}")
            if not len(groups):
                came = f"no group of {level} windows in {split}"
                raise UserError("--level", came, "a level with groups", "lower it, or leave --drop-remaining out")
            attributes = {
                "drop_remaining": settings.drop_remaining, "shuffle": shuffle,
                "shuffle_seed": settings.seed if shuffle else -1, "tmin": arguments.tmin, "tmax": arguments.tmax,
                "by_position": settings.by_position,
            }  # fmt: skip
            targets.append(Target(windows, groups, path, level, attributes))
    return targets


def _check(arguments: argparse.Namespace) -> None:
    for option, value in [("--level", level) for level in arguments.level]:
        if value < 1:
            raise UserError(option, str(value), "at least 1", "give a larger number")
    if len(set(arguments.level)) < len(arguments.level):
        raise UserError("--level", str(arguments.level), "different levels", "name each level once")
    for option, seconds in (("--tmin", arguments.tmin), ("--tmax", arguments.tmax)):
        if not math.isfinite(seconds):
            raise UserError(option, str(seconds), "seconds from the onset", f"for example {option} 0.5")
    if arguments.seed < 0:
        raise UserError("--seed", str(arguments.seed), "0 or more", "give another")


def _bytes(text: str) -> int:
    from demega_jax.files import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UserError("--memory", str(error), "a size", "for example --memory 4G") from None


def _only(recordings: Sequence, asked: Sequence[str]) -> list:  # type: ignore[type-arg]
    """The recordings of `ses:task:run`."""
    chosen = []
    for text in asked:
        found = [r for r in recordings if f"{r.name.session}:{r.name.task}:{r.name.run}" == text]
        if not found:
            there = ", ".join(f"{r.name.session}:{r.name.task}:{r.name.run}" for r in recordings[:5])
            raise UserError("--run", text, f"ses:task:run of a run that is there: {there}", "check --run")
        chosen += found
    return [r for r in recordings if r in chosen]


def _print_plan(out: Path, targets: "list[Target]", passes: int) -> None:
    """What will be made, from what, and whether there is room for it."""
    from demega_jax.files import free_space

    need = sum(target.bytes_of(len(target.groups)) for target in targets)
    free = free_space(out)
    for target in targets:
        print(
            f"grouped_{target.level:<4} {target.path.stem.removesuffix('_grouped'):<10} "
            f"{len(target.windows):>8} windows {len(target.groups):>8} groups"
        )
    runs = {recording for target in targets for recording in target.windows.recordings}
    hours = sum(r.samples / r.rate for r in runs) / 3600
    read = sum(recording.nbytes for recording in runs) / 2**30
    print(
        f"{len(runs)} runs, {hours:.2f} h, {read:.2f} GiB to read in {passes} {'pass' if passes == 1 else 'passes'}; "
        f"{need / 2**30:.2f} GiB to write, {free / 2**30:.1f} GiB free"
    )
    if need > free:
        raise UserError(
            out, f"{free / 2**30:.1f} GiB free", f"{need / 2**30:.1f} GiB", "free space, or ask for fewer levels"
        )
