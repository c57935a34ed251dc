"""`demega-jax benchmark`: the time of a training step on this machine, and the shortest time possible."""

import shlex
from pathlib import Path
from typing import Annotated

from typer import Context, Option

from demega_jax.api.paths import check_outputs, check_picture
from demega_jax.commands.shared.options import Json, Overrides, Several, level_option
from demega_jax.commands.shared.process import Process, only_compile, prepare_process
from demega_jax.names import FEEDS, MAX_BATCH, MAX_COUNT, PRECISIONS, TARGETS
from demega_jax.saying import is_quiet, say, say_result

EXAMPLES = """demega-jax benchmark --level 5,20,100 --feed all --json benchmark.json --plot benchmark.png

demega-jax benchmark --target h200,v5e --precision bfloat16 --json targets.json"""
LEVELS = "Grouping levels (default: that of --data, else 100)"


def command(
    ctx: Context,
    overrides: Overrides = None,
    level: Annotated[Several, level_option(LEVELS, "those of --data, else for published ones")] = None,
    feed: Annotated[Several, Option(metavar="F,..", help=f"{', '.join(FEEDS)} or all (default: resident).")] = None,
    devices: Annotated[
        Several,
        Option(
            metavar="N,..",
            help="Numbers of devices (default: as many as there are); all, and ranges such as 1-8, stand for 1, 2, 4 "
            "and so on up to as many as there are.",
        ),
    ] = None,
    precision: Annotated[
        Several, Option(metavar="P,..", help=f"{', '.join(PRECISIONS)} or all (default: model.dtype).")
    ] = None,
    config: Annotated[Path | None, Option(metavar="CONFIG", help="YAML configuration (default: the defaults).")] = None,
    data: Annotated[
        str | None, Option(metavar="DIR", help="Folder that holds grouped_K, or recordings (default: noise).")
    ] = None,
    batch_size: Annotated[
        int | None,
        Option(metavar="N", min=1, max=MAX_BATCH, help="train.batch_size (default: 512, or 64 on a CPU)."),
    ] = None,
    steps: Annotated[
        int | None, Option(metavar="N", min=1, max=MAX_COUNT, help="Steps of a case (default: 3 to 200, for 12 s).")
    ] = None,
    stages: Annotated[bool, Option("--stages", help="Also time the stages of a step of the first case.")] = False,
    target: Annotated[
        Several,
        Option(
            metavar="T,..",
            help=f"Compile for devices that are not here ({', '.join(TARGETS)} or all; extra aot), and model the time "
            "of a step; nothing is measured.",
        ),
    ] = None,
    dump: Annotated[
        Path | None, Option(metavar="DIR", help="With --target: write the optimized programs there, as text.")
    ] = None,
    json_file: Json = None,
    plot: Annotated[Path | None, Option(metavar="FILE", help="Draw the results in this PNG, SVG or PDF file.")] = None,
) -> int:
    """Measure a training step, and what this machine could do at best."""
    process: Process = ctx.obj
    check_outputs(json_file, plot)
    check_picture("--plot", plot)
    if target:
        only_compile()
    from demega_jax.api.benchmark import Asked, benchmark_as_asked
    from demega_jax.api.shown import status_line
    from demega_jax.console import new_console
    from demega_jax.files import write_results

    asked = Asked(
        config,
        overrides or (),
        data,
        level or (),
        feed or (),
        devices or (),
        precision or (),
        batch_size,
        steps,
        stages,
        target or (),
        dump,
    )
    asked.check()
    prepare_process(process, asked.most_devices)
    with status_line(new_console()) as tell:
        found = benchmark_as_asked(asked, tell)
    found.values["command"] = shlex.join(["demega-jax", *process.words])
    found.show()
    if is_quiet():
        say_result(f"{len(found.cases)} cases {'modelled' if found.modelled else 'measured'}")
    if json_file is not None:
        write_results(json_file, found.to_json())
        say(f"figures {json_file}")
    if plot is not None:
        say(f"plot {found.plot(plot)}")
    return 0
