"""`demega-jax simulate`: grouped files or recordings."""

import argparse

from demega_jax.data.simulate.grouped import simulate_grouped
from demega_jax.data.simulate.recordings import simulate_recordings
from demega_jax.errors import UserError

# What each kind of data needs, and what belongs to the other kind alone.
NEEDED = {True: ("minutes",), False: ("level", "groups")}
FOREIGN = {True: ("level", "groups"), False: ("minutes", "runs")}


def simulate_command(arguments: argparse.Namespace) -> int:
    """Write what is asked for, a line for each file. Returns the exit status. UserError: options that do not match."""
    kind = "recordings (--recordings)" if arguments.recordings else "grouped files"
    for name in NEEDED[arguments.recordings]:
        if getattr(arguments, name) is None:
            wanted = " ".join(f"--{needed}" for needed in NEEDED[arguments.recordings]) + f" for {kind}"
            way_out = f"add --{name}" + ("" if arguments.recordings else ", or --recordings for a recording tree")
            raise UserError(f"--{name}", "not given", wanted, way_out)
    for name in FOREIGN[arguments.recordings]:
        if getattr(arguments, name) is not None:
            wanted = f"no such option for {kind}"
            change = f"leave --{name} or --recordings out" if arguments.recordings else "add --recordings"
            raise UserError(f"--{name}", f"{getattr(arguments, name)}", wanted, change)
    shape = {"sensors": arguments.sensors, "time_points": arguments.time_points, "seed": arguments.seed}
    if arguments.recordings:
        simulate_recordings(arguments.out, minutes=arguments.minutes, runs=arguments.runs, progress=print, **shape)
    else:
        simulate_grouped(arguments.out, levels=arguments.level, groups=arguments.groups, progress=print, **shape)
    return 0
