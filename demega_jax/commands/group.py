"""`demega-jax group`: grouped files from recordings."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Option

from demega_jax.commands.shared.console import say
from demega_jax.commands.shared.lists import PUBLISHED_LEVELS, numbers, share
from demega_jax.commands.shared.options import (
    MADE,
    SessionRuns,
    Several,
    check_out,
    check_there,
    level_option,
    parse_size,
    refuse_idle,
    seed_option,
)
from demega_jax.errors import UserError, listed
from demega_jax.files import visible
from demega_jax.names import MAX_COUNT, MAX_RATE, MAX_SECONDS
from demega_jax.phonemes import PHONEMES

if TYPE_CHECKING:
    from demega_jax.data.recordings.events import EventChoice
    from demega_jax.data.recordings.grouping import GroupSettings, Target
    from demega_jax.data.recordings.runs import Recording
    from demega_jax.data.recordings.splits import Assigned

EXAMPLES = """demega-jax group recordings grouped --level 5,20

demega-jax group recordings grouped --level all --split-shares 0.8,0.1,0.1

demega-jax group recordings words --level 1 --tmax 1 --events kind=word --top 50 --resample 250"""

SPLITS_FILE = (
    "File splits.json, as --split-shares writes; it can also assign chapters: "
    '{"format": 1, "chapters": {"Sherlock1/11": "validation"}, "others": "train"}.'
)
OTHER = "Other events and rates"
EVENTS = "Rows of the events that have windows (default: kind=phoneme), such as kind=word."
LABEL = "Column of their classes (default: segment)."
TOP = "The N most frequent labels of train are the classes (default: the phonemes; of other events, all labels)."
RESAMPLE = "Resample the recordings to this rate, with a filter against aliasing (default: as recorded)."
SHARES = (
    "Draw splits of the session runs, with these shares for train, validation and test, such as 0.8,0.1,0.1; "
    "1,0,0 makes only train (default: the published splits)."
)


def command(
    ctx: Context,
    recordings: Annotated[Path, Argument(metavar="RECORDINGS", help="Folder of a recording tree.")],
    out: Annotated[Path, Argument(metavar="OUT", help="Folder to write grouped_K into.")],
    level: Annotated[list[str], level_option("Grouping levels", MADE)],
    tmin: Annotated[float, Option(metavar="S", help="Begin of a window, in seconds after the onset.")] = 0.0,
    tmax: Annotated[float, Option(metavar="S", help="End of a window, in seconds after the onset.")] = 0.5,
    seed: Annotated[int, seed_option("Seed of the shuffle and of --split-shares.")] = 777,
    no_shuffle: Annotated[bool, Option("--no-shuffle", help="Keep the order of the recordings in train.")] = False,
    drop_remaining: Annotated[
        bool, Option("--drop-remaining", help="Leave out groups of fewer than K windows.")
    ] = False,
    by_position: Annotated[bool, Option("--by-position", help="Group by position in the word (B, I, E, S).")] = False,
    denoise: Annotated[bool, Option("--denoise", help="Denoise the averages by wavelets.")] = False,
    run: SessionRuns = None,
    splits: Annotated[Path | None, Option(metavar="FILE", help=SPLITS_FILE)] = None,
    split_shares: Annotated[Several, Option(metavar="SHARE,..", help=SHARES)] = None,
    memory: Annotated[str, Option(metavar="SIZE", help="Memory for groups whose windows are being added.")] = "4G",
    events: Annotated[str | None, Option(metavar="COLUMN=VALUE", help=EVENTS, rich_help_panel=OTHER)] = None,
    label: Annotated[str | None, Option(metavar="COLUMN", help=LABEL, rich_help_panel=OTHER)] = None,
    top: Annotated[int | None, Option(metavar="N", min=2, max=MAX_COUNT, help=TOP, rich_help_panel=OTHER)] = None,
    resample: Annotated[float | None, Option(metavar="HZ", help=RESAMPLE, rich_help_panel=OTHER)] = None,
) -> int:
    """Average windows of recordings in groups of K windows."""
    levels = numbers("--level", level, lambda: PUBLISHED_LEVELS)
    for option, seconds in (("--tmin", tmin), ("--tmax", tmax)):
        if not abs(seconds) <= MAX_SECONDS:  # nor is NaN
            wanted = f"seconds after the onset, from {-MAX_SECONDS:g} to {MAX_SECONDS:g}"
            raise UserError(option, str(seconds), wanted, f"write for example {option} 0.5")
    size = parse_size("--memory", memory)
    shares = None if split_shares is None else [share(text) for text in split_shares]
    if no_shuffle and shares is None:
        refuse_idle(ctx, "--seed", "given with --no-shuffle, and without --split-shares", "something to draw")
    if splits is not None and shares is not None:
        way_out = "leave out --splits or --split-shares"
        raise UserError("--split-shares", "given beside --splits", "only one of the two", way_out)
    choice = _choice(events, label)
    if resample is not None and not 0 < resample <= MAX_RATE:
        raise UserError("--resample", f"{resample:g}", f"a rate in Hz, up to {MAX_RATE:g}", "write --resample 250")
    check_there(recordings, "the folder of a recording tree", folder=True)
    check_out(out)
    from demega_jax.data.recordings.grouping import GroupSettings, plan_passes, write_groups
    from demega_jax.data.recordings.runs import find_recordings
    from demega_jax.data.recordings.splits import write_splits
    from demega_jax.data.recordings.statistics import statistics

    found = _only(find_recordings(recordings, rate=resample, choice=choice), run)
    assigned = _assign(recordings, found, splits, shares, seed, bool(run))
    classes = None if choice.phonemes and top is None else _classes(assigned["train"], choice, top)
    settings = GroupSettings(None if no_shuffle else seed, drop_remaining, by_position)
    targets = make_targets(out, assigned, levels, settings, tmin=tmin, tmax=tmax, denoised=denoise, classes=classes)
    _print_plan(out, targets, len(plan_passes(targets, size)))
    if shares is not None:
        write_splits(out / "splits.json", assigned)
    write_groups(targets, statistics(assigned["train"], print), size, print)
    return 0


def _choice(events: str | None, label: str | None) -> "EventChoice":
    """The events that have windows: phonemes, unless options say others. UserError: no column or no value."""
    from demega_jax.data.recordings.events import EventChoice

    usual = EventChoice()
    if events is None:
        return EventChoice(label=label or usual.label)
    column, equals, value = events.partition("=")
    if not equals or not column or not value:
        wanted = "a column of the events and the value of its rows"
        raise UserError("--events", repr(events), wanted, "write for example --events kind=word")
    return EventChoice(column, value, label or usual.label)


def _classes(runs: "Sequence[Recording]", choice: "EventChoice", top: int | None) -> tuple[str, ...]:
    """The most frequent labels of the events to train on. UserError: there are fewer than two."""
    from demega_jax.data.recordings.symbols import most_frequent

    found = most_frequent([run.read_events().symbol for run in runs], top)
    if len(found) < 2:
        came = f"{len(found)} different labels in the column {choice.label} of rows with {choice.column}={choice.value}"
        way_out = "name other events with --events and --label"
        raise UserError(runs[0].events, came, "two classes or more in the session runs of train", way_out)
    say(f"{len(found)} classes: {listed(found, 8)}")
    return found


def _assign(
    tree: Path, runs: "list[Recording]", splits: Path | None, shares: list[float] | None, seed: int, chosen: bool
) -> "Assigned":
    """The session runs of each split.

    chosen: whether --run names the session runs, which may then be of train alone. UserError: there is no session run
    of the published validation and test splits, and no other splits are asked for.
    """
    from demega_jax.data.recordings.runs import OFFICIAL
    from demega_jax.data.recordings.splits import by_shares, official, read_splits

    if splits is not None:
        return read_splits(splits, runs)
    if shares is not None:
        return by_shares(runs, shares, seed)
    if not chosen and not any(recording.name in OFFICIAL for recording in runs):
        published = " and ".join(f"{name} ({split})" for name, split in OFFICIAL.items())
        came = f"{len(runs)} session runs, none of them in the published validation or test split"
        way_out = (
            "draw splits with --split-shares 0.8,0.1,0.1, name them with --splits FILE, or make only training data "
            "with --split-shares 1,0,0"
        )
        raise UserError(tree, came, f"{published}, or other splits", way_out)
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
    classes: Sequence[str] | None = None,
) -> "list[Target]":
    """The files to write. classes: names; None: the phonemes.

    UserError: a folder holds files already, or a level has no groups.
    """
    from demega_jax.data.recordings.grouping import Target, make_groups
    from demega_jax.data.recordings.windows import find_windows

    targets = []
    for split, runs in assigned.items():
        windows = find_windows(runs, tmin=tmin, tmax=tmax, classes=classes or PHONEMES)
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
        f"{len(runs)} session runs, {hours:.2f} h, {read} to read in {passes} "
        f"{'pass' if passes == 1 else 'passes'}; {format_bytes(need)} to write, {format_bytes(free)} free"
    )
    if need > free:
        came, wanted = f"{format_bytes(free)} are free", format_bytes(need)
        raise UserError(out, came, wanted, "free space, choose another OUT, or fewer levels with --level")
