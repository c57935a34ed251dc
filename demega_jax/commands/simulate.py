"""`demega-jax simulate`: grouped files or recordings."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from demega_jax.api.lists import PUBLISHED_LEVELS, numbers
from demega_jax.api.paths import check_out
from demega_jax.commands.shared.options import MADE, Several, level_option, seed_option
from demega_jax.errors import UserError
from demega_jax.names import MAX_GROUPS, MAX_MINUTES, MAX_SIMULATED
from demega_jax.saying import is_quiet, say, say_result

EXAMPLES = """demega-jax simulate data --level 5,100 --groups 2000

demega-jax simulate recordings --recordings --minutes 12"""
GROUPED, RECORDED = "Grouped files", "Recordings"
# What each kind of data needs, and what belongs to the other kind alone. True: recordings.
NEEDED = {True: ("minutes",), False: ("level", "groups")}
FOREIGN = {True: ("level", "groups"), False: ("minutes", "runs")}

OUT = "Folder to write grouped_K, or the recordings, into."
RUNS = "Session runs, with validation and test (default: 4, or as many as the minutes need or allow)."
GROUPS = "Groups in train for each level; validation and test have N/8."


def command(
    out: Annotated[Path, Argument(metavar="OUT", help=OUT)],
    level: Annotated[Several, level_option("Grouping levels", MADE, GROUPED)] = None,
    groups: Annotated[int | None, Option(metavar="N", max=MAX_GROUPS, help=GROUPS, rich_help_panel=GROUPED)] = None,
    recordings: Annotated[
        bool, Option("--recordings", help="Write recordings instead of grouped files.", rich_help_panel=RECORDED)
    ] = False,
    minutes: Annotated[
        float | None,
        Option(metavar="M", max=MAX_MINUTES, help="Minutes of all session runs together.", rich_help_panel=RECORDED),
    ] = None,
    runs: Annotated[int | None, Option(metavar="N", help=RUNS, rich_help_panel=RECORDED)] = None,
    sensors: Annotated[int, Option(metavar="C", max=MAX_SIMULATED, help="Number of sensors.")] = 306,
    time_points: Annotated[
        int, Option(metavar="T", max=MAX_SIMULATED, help="Time points of the response to a phoneme.")
    ] = 125,
    seed: Annotated[int, seed_option("Seed of the random numbers.")] = 0,
) -> int:
    """Write simulated grouped files, or recordings, in the format of the published ones."""
    given = {"level": level, "groups": groups, "minutes": minutes, "runs": runs}
    _check_options({name: value for name, value in given.items() if value}, recordings)
    levels = numbers("--level", level, lambda: PUBLISHED_LEVELS)
    check_out(out)
    from demega_jax.data.simulate.grouped import simulate_grouped
    from demega_jax.data.simulate.recordings import simulate_recordings

    if minutes is not None:
        simulate_recordings(
            out, minutes=minutes, runs=runs, sensors=sensors, time_points=time_points, seed=seed, progress=say
        )
    elif groups is not None:
        simulate_grouped(
            out, levels=levels, groups=groups, sensors=sensors, time_points=time_points, seed=seed, progress=say
        )
    if is_quiet():
        say_result(f"{out}: simulated")
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
