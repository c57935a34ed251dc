"""`demega_jax.group`: grouped files from recordings."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demega_jax.api.asked import Levels, level_words
from demega_jax.api.lists import PUBLISHED_LEVELS, numbers
from demega_jax.api.paths import PathLike, check_out, check_there, parse_size
from demega_jax.api.windows import check_seconds
from demega_jax.errors import UserError, counted, listed
from demega_jax.files import expanded, visible
from demega_jax.names import MAX_RATE
from demega_jax.phonemes import PHONEMES
from demega_jax.saying import Loudness, in_python, loudness, say, say_result

if TYPE_CHECKING:
    from demega_jax.data.recordings.grouping import GroupSettings, Target
    from demega_jax.data.recordings.runs import Recording
    from demega_jax.data.recordings.splits import Assigned


@dataclasses.dataclass(frozen=True)
class GroupedFile:
    """A grouped file. rows: its groups, the means of `windows` windows."""

    path: Path
    split: str
    level: int
    rows: int
    windows: int


@in_python
def group(
    recordings: PathLike,
    out: PathLike,
    level: Levels,
    *,
    tmin: float = 0.0,
    tmax: float = 0.5,
    seed: int = 777,
    shuffle: bool = True,
    drop_remaining: bool = False,
    by_position: bool = False,
    denoise: bool = False,
    runs: Sequence[str] | None = None,
    splits: PathLike | None = None,
    split_shares: Sequence[float] | None = None,
    memory: str = "4G",
    events: str | None = None,
    label: str | None = None,
    classes_file: PathLike | None = None,
    top: int | None = None,
    resample: float | None = None,
    progress: bool = True,
) -> list[GroupedFile]:
    """Average windows of recordings in groups of K windows, as `demega-jax group` does; returns the files it wrote.

    recordings: the folder of a recording tree.  out: the folder for grouped_K.  level: K, several, or "all".
    tmin, tmax: a window, in seconds after the onset.  seed: of the shuffle, and of `split_shares`.  shuffle: of the
    windows of train.  drop_remaining: leave out groups of fewer than K windows.  by_position: group by position in the
    word.  denoise: the averages, by wavelets.  runs: session runs such as "1:Sherlock1:1"; None: all.
    splits: a file of splits, as for --splits.  split_shares: draw the splits, with these shares for train, validation
    and test.  memory: for groups whose windows are being added.
    events: the rows of the events that have windows, such as "kind=word", or "all"; None: phonemes.  label: the column
    of their labels.  classes_file: a table with the columns label and class; None: each label is a class.  top: how
    many of the most frequent labels of train are classes; None: the phonemes, or all labels of other events.
    resample: a rate in Hz.  progress: whether to say what is done.

    Each file holds `data` [rows, C, T] in units of the training split's standard deviations, and `labels` [rows].
    UserError: what is asked for cannot be done; files are written whole or not at all.
    """
    with loudness(Loudness.USUAL if progress else Loudness.SILENT):
        return group_as_asked(
            Path(expanded(str(recordings))),
            Path(expanded(str(out))),
            level,
            tmin=tmin,
            tmax=tmax,
            seed=seed,
            shuffle=shuffle,
            drop_remaining=drop_remaining,
            by_position=by_position,
            denoise=denoise,
            runs=runs,
            splits=None if splits is None else Path(expanded(str(splits))),
            split_shares=split_shares,
            memory=memory,
            events=events,
            label=label,
            top=top,
            resample=resample,
            classes_file=None if classes_file is None else Path(expanded(str(classes_file))),
        )


def group_as_asked(
    recordings: Path,
    out: Path,
    level: Levels,
    *,
    tmin: float,
    tmax: float,
    seed: int,
    shuffle: bool,
    drop_remaining: bool,
    by_position: bool,
    denoise: bool,
    runs: Sequence[str] | None,
    splits: Path | None,
    split_shares: Sequence[float] | None,
    memory: str,
    events: str | None,
    label: str | None,
    classes_file: Path | None,
    top: int | None,
    resample: float | None,
) -> list[GroupedFile]:
    """`group`, as loud as it is asked for already."""
    levels = numbers("--level", level_words(level), lambda: PUBLISHED_LEVELS)
    check_seconds(tmin, tmax)
    size = parse_size("--memory", memory)
    if splits is not None and split_shares is not None:
        way_out = "leave out --splits or --split-shares"
        raise UserError("--split-shares", "given beside --splits", "only one of the two", way_out)
    if top is not None and top < 2:
        raise UserError("--top", str(top), "two classes or more", "write for example --top 50")
    if resample is not None and not 0 < resample <= MAX_RATE:
        raise UserError("--resample", f"{resample:g}", f"a rate in Hz, up to {MAX_RATE:g}", "write --resample 250")
    check_there(recordings, "the folder of a recording tree", folder=True)
    check_out(out)
    from demega_jax.data.recordings.chapters import warn_of_shared
    from demega_jax.data.recordings.classes import classes_of, event_choice
    from demega_jax.data.recordings.grouping import GroupSettings, plan_passes, write_groups
    from demega_jax.data.recordings.runs import find_recordings
    from demega_jax.data.recordings.splits import read_splits, write_splits
    from demega_jax.data.recordings.statistics import statistics

    choice = event_choice("--", events, label, classes_file, top)
    there = find_recordings(recordings, rate=resample, choice=choice)
    found = _only(there, runs)
    named = None if splits is None else read_splits(splits, found, there)
    assigned = named or _assign(recordings, found, split_shares, seed, bool(runs))
    warn_of_shared(assigned)
    classes = classes_of(assigned["train"], top)
    if classes != PHONEMES:
        say(f"{len(classes)} classes: {listed(classes, 8)}")
    settings = GroupSettings(seed if shuffle else None, drop_remaining, by_position)
    targets = make_targets(out, assigned, levels, settings, tmin=tmin, tmax=tmax, denoised=denoise, classes=classes)
    _print_plan(out, targets, len(plan_passes(targets, size)))
    if split_shares is not None:
        write_splits(out / "splits.json", assigned)
    write_groups(targets, statistics(assigned["train"], say), size, say)
    written = [_written(target) for target in targets]
    say_result(f"{out}: {counted(len(written), 'grouped file')}, {counted(sum(file.rows for file in written), 'row')}")
    return written


def _written(target: "Target") -> GroupedFile:
    split = target.path.stem.removesuffix("_grouped")
    return GroupedFile(target.path, split, target.level, len(target.groups), len(target.groups.windows))


def _assign(tree: Path, runs: "list[Recording]", shares: Sequence[float] | None, seed: int, chosen: bool) -> "Assigned":
    """The session runs of each split, where no file names them.

    chosen: whether --run names the session runs, which may then be of train alone. UserError: there is no session run
    of the published validation and test splits, and no other splits are asked for.
    """
    from demega_jax.data.recordings.chapters import has_chapters
    from demega_jax.data.recordings.runs import OFFICIAL
    from demega_jax.data.recordings.splits import by_shares, official

    if shares is not None:
        return by_shares(runs, shares, seed)
    if not chosen and not any(recording.name in OFFICIAL for recording in runs):
        published = " and ".join(f"{name} ({split})" for name, split in OFFICIAL.items())
        wanted = f"{published}, or other splits" if has_chapters(runs) else "a split for each session run"
        came = f"{counted(len(runs), 'session run')}, none of them in the published validation or test split"
        way_out = (
            "draw splits with --split-shares 0.8,0.1,0.1, name them with --splits TABLE (columns run and split), or "
            "make only training data with --split-shares 1,0,0"
        )
        raise UserError(tree, came, wanted, way_out)
    return official(runs)


def make_targets(
    out: Path,
    assigned: "Assigned",
    levels: Sequence[int],
    settings: "GroupSettings",
    *,
    tmin: float,
    tmax: float,
    denoised: bool = False,
    classes: Sequence[str] = PHONEMES,
) -> "list[Target]":
    """The files to write. classes: their names.

    UserError: a folder holds files already, or a level has no groups.
    """
    from demega_jax.data.recordings.grouping import Target, make_groups
    from demega_jax.data.recordings.windows import find_windows

    targets = []
    for split, runs in assigned.items():
        windows = find_windows(runs, tmin=tmin, tmax=tmax, classes=classes)
        shuffle = split == "train" and settings.seed is not None
        attributes: dict[str, object] = {"drop_remaining": settings.drop_remaining, "by_position": settings.by_position}
        attributes |= {"shuffle": shuffle, "shuffle_seed": settings.seed if shuffle else -1, "tmin": tmin, "tmax": tmax}
        attributes |= {"denoised": True} if denoised else {}
        for level in levels:
            path = out / f"grouped_{level}" / f"{split}_grouped.h5"
            files = visible(path.parent) if path.parent.is_dir() else ()
            if any(file.suffix != ".partial" for file in files):  # a stopped command leaves those
                raise _taken(path.parent, assigned)
            groups = make_groups(windows, level, settings, shuffle=shuffle, name=f"{split} at level {level}")
            if not len(groups):
                came, wanted = f"no group of {level} windows in {split}", "a level with groups in every split"
                raise UserError("--level", came, wanted, "lower --level, or leave out --drop-remaining")
            targets.append(Target(groups, path, level, attributes, denoised))
    return targets


def _taken(folder: Path, splits: Iterable[str]) -> UserError:
    """The error for the folder of a level that holds files. A stopped command leaves some of its files only."""
    names = [f"{split}_grouped.h5" for split in splits]
    lacking = [name for name in names if not (folder / name).exists()]
    wanted = "a folder without this level"
    if lacking and len(lacking) < len(names):
        came = f"it holds files already, but no {listed(lacking)}, as after a command that was stopped"
        return UserError(folder, came, wanted, f"remove {folder}, and run this command again")
    return UserError(folder, "it holds files already", wanted, "choose another OUT, or move that folder")


def _only(recordings: "Sequence[Recording]", asked: Sequence[str] | None) -> "list[Recording]":
    """The recordings of the session runs that are asked for, written session:task:run; None: all."""
    names = [f"{r.name.session}:{r.name.task}:{r.name.run}" for r in recordings]
    for text in asked or ():
        if text not in names:
            wanted = "session:task:run of one that is there"
            raise UserError("--run", f"no session run {text}", wanted, f"choose among {listed(names)}")
    return [r for r, name in zip(recordings, names, strict=True) if not asked or name in asked]


def _print_plan(out: Path, targets: "list[Target]", passes: int) -> None:
    """Print what will be made, and from what. UserError: there is not enough space for it."""
    from demega_jax.files import format_bytes, free_space

    need = sum(len(target.groups) * target.groups.row_bytes for target in targets)
    free = free_space(out)
    for target in targets:
        say(
            f"grouped_{target.level:<4} {target.path.stem.removesuffix('_grouped'):<10} "
            f"{len(target.groups.windows):>8} windows {len(target.groups):>8} groups"
        )
    runs = {recording for target in targets for recording in target.groups.windows.recordings}
    hours = sum(r.samples / r.rate for r in runs) / 3600
    read = format_bytes(sum(recording.nbytes for recording in runs))
    say(
        f"{counted(len(runs), 'session run')}, {hours:.2f} h, {read} to read in {passes} "
        f"{'pass' if passes == 1 else 'passes'}; {format_bytes(need)} to write, {format_bytes(free)} free"
    )
    if need > free:
        came, wanted = f"{format_bytes(free)} are free", format_bytes(need)
        raise UserError(out, came, wanted, "free space, choose another OUT, or fewer levels with --level")
