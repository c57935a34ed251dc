"""`demega-jax benchmark`: the time of a training step on this machine, and the shortest time possible."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Context, Option

from demega_jax.commands.shared.lists import all_devices, names, numbers
from demega_jax.commands.shared.options import (
    Json,
    Overrides,
    Several,
    check_inputs,
    check_out,
    check_outputs,
    check_picture,
    level_option,
)
from demega_jax.commands.shared.process import Process, only_compile, prepare_process, set_numerics
from demega_jax.errors import UserError
from demega_jax.names import FEEDS, MAX_BATCH, MAX_COUNT, PRECISIONS, TARGETS

if TYPE_CHECKING:
    from rich.console import Console

    from demega_jax.config import Config

EXAMPLES = """demega-jax benchmark --level 5,20,100 --feed all --json benchmark.json --plot benchmark.png

demega-jax benchmark --target h200,v5e --precision bfloat16 --json targets.json"""
CPU_BATCH = 64  # rows, where no batch size is asked for: the default of 512 would take a CPU minutes
DEFAULT_LEVEL = 100
LEVELS = f"Grouping levels (default: that of --data, else {DEFAULT_LEVEL})"


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
        Option(metavar="N", min=1, max=MAX_BATCH, help=f"train.batch_size (default: 512, or {CPU_BATCH} on a CPU)."),
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
    if dump is not None:
        check_out(dump)
    for option, items in (("--level", level), ("--devices", devices)):
        numbers(option, items, lambda: range(1, 10_000))  # for its errors: what is there is known later
    feeds, precisions = names("--feed", feed, FEEDS), names("--precision", precision, PRECISIONS)
    targets = names("--target", target, TARGETS)
    _check_target(targets, dump, {"--data": data, "--steps": steps, "--stages": stages})
    base = _asked_config(config, overrides or (), data, batch_size)
    if targets:
        only_compile()
    prepare_process(process, max((int(n) for item in devices or () for n in re.findall(r"\d+", item)), default=1))
    set_numerics(process, base, remember=False)  # so that programs are compiled, not read from disk
    asked = Asked(levels=level, feeds=feeds, devices=devices, precisions=precisions, targets=targets)
    sized = config is not None or batch_size is not None or any("train.batch_size" in w for w in overrides or ())
    result = _result(base, asked, steps, dump, stages=stages, sized=sized)
    from demega_jax.console import new_console

    console = new_console()
    _show(result | {"command": shlex.join(["demega-jax", *process.words])}, console, json_file, plot)
    return 0


class Asked(NamedTuple):
    """The lists of the command line, which say what the cases are."""

    levels: Sequence[str] | None
    feeds: Sequence[str]
    devices: Sequence[str] | None
    precisions: Sequence[str]
    targets: Sequence[str]


def _result(
    base: "Config", asked: Asked, steps: int | None, dump: Path | None, *, stages: bool, sized: bool
) -> dict[str, Any]:
    """What is measured on this machine, or modelled for targets. sized: whether a batch size is asked for."""
    import jax

    from demega_jax.benchmark.cases import all_cases
    from demega_jax.benchmark.run import run_cases
    from demega_jax.commands.shared.config import levels_there
    from demega_jax.commands.shared.console import status_line
    from demega_jax.config.load import override
    from demega_jax.console import new_console

    here = 1 if asked.targets else jax.device_count()
    counts = numbers("--devices", asked.devices, lambda: all_devices(here)) or [here]
    levels = numbers("--level", asked.levels, lambda: levels_there(base.data)) or _default_levels(base)
    cases = all_cases(levels, asked.feeds or [base.data.feed], counts, asked.precisions or [base.model.dtype])
    if not sized and not asked.targets and jax.default_backend() == "cpu":
        base = override(base, {"train.batch_size": CPU_BATCH}, "benchmark")
    with status_line(new_console()) as tell:
        if asked.targets:
            from demega_jax.benchmark.targets.run import run_targets

            return run_targets(base, asked.targets, cases, dump, tell)
        return run_cases(base, cases, steps, stages, tell)


def _check_target(targets: Sequence[str], dump: Path | None, measured: "dict[str, Any]") -> None:
    """UserError: an option that a target does not go with, or one that needs a target. measured: such options."""
    if dump is not None and not targets:
        raise UserError("--dump", "given without --target", "a target", "name one, such as --target h200")
    for option, value in measured.items():
        if targets and value:
            came = "given beside --target, for which nothing is measured"
            raise UserError(option, came, "only one of the two", f"leave out {option} or --target")


def _asked_config(file: Path | None, overrides: Sequence[str], data: str | None, batch_size: int | None) -> "Config":
    """The configuration of the file, or the default one, with the overrides, --data and --batch-size."""
    check_inputs(file, data)
    from demega_jax.commands.shared.config import changed
    from demega_jax.config import Config
    from demega_jax.config.load import load_config, override

    config = Config() if file is None else load_config(file)
    if config.data.feed == "stream" and not any(word.startswith("data.feed=") for word in overrides):
        config = override(config, {"data.feed": "resident"}, "benchmark")
    options = {"data.path": ("--data", data), "train.batch_size": ("--batch-size", batch_size)}
    return changed(config, overrides, options)


def _default_levels(base: "Config") -> list[int]:
    """The configuration's levels; else the only one of the data, as training would take it; else one to simulate."""
    from demega_jax.data.folder import find_level, find_levels, has_recordings

    path = None if base.data.path is None else Path(base.data.path)
    if base.data.levels:
        return list(base.data.levels)
    if path is None or (has_recordings(path) and not find_levels(path)):
        return [DEFAULT_LEVEL]
    folder = find_level(path, None)
    return [level for level, there in find_levels(path).items() if there == folder]


def _show(result: dict[str, Any], console: "Console", json_file: Path | None, plot: Path | None) -> None:
    """Print tables, and write the files that are asked for."""
    from demega_jax.files import write_results

    modelled = "targets" in result
    if modelled:
        from demega_jax.benchmark.targets.tables import print_targets

        print_targets(result, console)
    else:
        from demega_jax.benchmark.tables import print_result

        print_result(result, console)
    if json_file is not None:
        write_results(json_file, result)
        console.print(f"figures {json_file}", soft_wrap=True)
    if plot is not None:
        from demega_jax.benchmark.plot import plot_result
        from demega_jax.benchmark.targets.plot import plot_targets

        drawn = plot_targets(result, plot) if modelled else plot_result(result, plot)
        console.print(f"plot {drawn}", soft_wrap=True)
