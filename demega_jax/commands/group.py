"""`demega-jax group`: grouped files from recordings."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option

from demega_jax.api.lists import share
from demega_jax.commands.shared.options import (
    MADE,
    OTHER,
    SPLITS_FILE,
    TMAX,
    TMIN,
    ClassesFile,
    EventLabel,
    EventRows,
    SessionRuns,
    Several,
    TopLabels,
    level_option,
    refuse_idle,
    seed_option,
)
from demega_jax.names import MAX_RATE

EXAMPLES = """demega-jax group recordings grouped --level 5,20

demega-jax group recordings grouped --level all --split-shares 0.8,0.1,0.1

demega-jax group recordings words --level 1 --tmax 1 --events kind=word --top 50 --resample 250

demega-jax group recordings animals --level 1 --events kind=word --classes-file classes.tsv"""

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
    tmin: Annotated[float, Option(metavar="S", help=TMIN)] = 0.0,
    tmax: Annotated[float, Option(metavar="S", help=TMAX)] = 0.5,
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
    events: EventRows = None,
    label: EventLabel = None,
    classes_file: ClassesFile = None,
    top: TopLabels = None,
    resample: Annotated[float | None, Option(metavar="HZ", max=MAX_RATE, help=RESAMPLE, rich_help_panel=OTHER)] = None,
) -> int:
    """Average windows of recordings in groups of K windows."""
    shares = None if split_shares is None else [share(text) for text in split_shares]
    if no_shuffle and shares is None:
        refuse_idle(ctx, "--seed", "given with --no-shuffle, and without --split-shares", "something to draw")
    from demega_jax.api.group import group_as_asked

    group_as_asked(
        recordings,
        out,
        level,
        tmin=tmin,
        tmax=tmax,
        seed=seed,
        shuffle=not no_shuffle,
        drop_remaining=drop_remaining,
        by_position=by_position,
        denoise=denoise,
        runs=run,
        splits=splits,
        split_shares=shares,
        memory=memory,
        events=events,
        label=label,
        classes_file=classes_file,
        top=top,
        resample=resample,
    )
    return 0
