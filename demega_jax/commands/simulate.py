"""`demega-jax simulate`: grouped files or recordings."""

from pathlib import Path
from typing import Annotated

import typer

from demega_jax.commands.shared.lists import PUBLISHED_LEVELS, numbers
from demega_jax.commands.shared.options import MADE, level_option
from demega_jax.errors import UserError

EXAMPLES = """demega-jax simulate data --level 5,100 --groups 2000

demega-jax simulate recordings --recordings --minutes 12"""
GROUPED, RECORDED = "Grouped files", "Recordings"
# What each kind of data needs, and what belongs to the other kind alone. True: recordings.
NEEDED = {True: ("minutes",), False: ("level", "groups")}
FOREIGN = {True: ("level", "groups"), False: ("minutes", "runs")}

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write grouped_K, or the recordings, into.")]
Level = Annotated[list[str] | None, level_option("Grouping levels", MADE, GROUPED)]
Groups = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Groups in train for each level; validation and test have N/8.",
        rich_help_panel=GROUPED,
    ),
]
Recordings = Annotated[
    bool,
    typer.Option("--recordings", help="Write recordings instead of grouped files.", rich_help_panel=RECORDED),
]
Minutes = Annotated[
    float | None,
    typer.Option(metavar="M", help="Minutes of all session runs together.", rich_help_panel=RECORDED),
]
Runs = Annotated[
    int | None,
    typer.Option(metavar="N", help="Session runs, with validation and test.", rich_help_panel=RECORDED),
]
Sensors = Annotated[int, typer.Option(metavar="C", help="Number of sensors.")]
TimePoints = Annotated[int, typer.Option(metavar="T", help="Time points of the response to a phoneme.")]
Seed = Annotated[int, typer.Option(metavar="S", help="Seed of the random numbers.")]


def command(
    out: Out, level: Level = None, groups: Groups = None, recordings: Recordings = False, minutes: Minutes = None,
    runs: Runs = None, sensors: Sensors = 306, time_points: TimePoints = 125, seed: Seed = 0,
) -> int:  # fmt: skip
    """Write simulated grouped files, or recordings, in the format of the published ones."""
    given = {"level": level, "groups": groups, "minutes": minutes, "runs": runs}
    _check_options({name: value for name, value in given.items() if value}, recordings)
    levels = numbers("--level", level or (), lambda: PUBLISHED_LEVELS)
    from demega_jax.data.simulate.grouped import simulate_grouped
    from demega_jax.data.simulate.recordings import simulate_recordings

    if minutes is not None:
        simulate_recordings(
            out, minutes=minutes, runs=runs, sensors=sensors, time_points=time_points, seed=seed, progress=print
        )
    elif groups is not None:
        simulate_grouped(
            out, levels=levels, groups=groups, sensors=sensors, time_points=time_points, seed=seed, progress=print
        )
    return 0


def _check_options(given: dict[str, object], recordings: bool) -> None:
    """UserError: an option is missing, or is for the other kind of data."""
    kind = "recordings (--recordings)" if recordings else "grouped files"
    for name in NEEDED[recordings]:
        if name not in given:
            wanted = " ".join(f"--{needed}" for needed in NEEDED[recordings]) + f" for {kind}"
            way_out = f"add --{name}" + ("" if recordings else ", or --recordings for a recording tree")
            raise UserError(f"--{name}", "not given", wanted, way_out)
    for name in FOREIGN[recordings]:
        if name in given:
            change = f"leave out --{name} or --recordings" if recordings else "add --recordings"
            raise UserError(f"--{name}", f"given as {given[name]}", f"no such option for {kind}", change)
