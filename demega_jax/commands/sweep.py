"""`demega-jax sweep`: every level with several seeds, each model tested at every level."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.api.paths import check_inputs, check_out, check_outputs
from demega_jax.commands.shared.options import THERE, Data, Devices, Json, Overrides, level_option
from demega_jax.commands.shared.process import Process, prepare_process, set_numerics
from demega_jax.errors import UserError, counted
from demega_jax.saying import is_quiet, say_result

if TYPE_CHECKING:
    from demega_jax.evaluation.sweep.plan import Share, Sweep

EXAMPLES = """demega-jax sweep configs/demo.yaml --data data --level 5,20,100 --seeds 10 --run sweeps/first

demega-jax sweep configs/demo.yaml --data data --level all --seeds 5 --run sweeps/all --cells 3/8"""

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration of all training runs.")]
Level = Annotated[list[str] | None, level_option("Grouping levels to train and to test at (default: all)", THERE)]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Models of each level, trained side by side.")]
Run = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the sweep (default: sweeps/{config name}).")]
Split = Annotated[Literal["validation", "test"], typer.Option(help="Split that the models are tested on.")]
Cells = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Do the I-th of N shares of the levels; other processes do the others."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the sweep in --run; finished cells stay.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, with time and memory.")]


def command(
    ctx: typer.Context,
    config: ConfigFile,
    overrides: Overrides = None,
    data: Data = None,
    level: Level = None,
    seeds: Seeds = 5,
    run: Run = None,
    split: Split = "validation",
    cells: Cells = None,
    resume: Resume = False,
    devices: Devices = None,
    dry_run: DryRun = False,
    json_file: Json = None,
) -> int:
    """Train every level with several seeds side by side, and test every model at every level."""
    process: Process = ctx.obj
    check_inputs(config, data)
    check_outputs(json_file)
    if run is not None:
        check_out(run)
    sweep = _asked(config, overrides or [], data, level, seeds, run, split)
    sweep.check()
    from demega_jax.evaluation.plan_file import undone_on_failure
    from demega_jax.evaluation.sweep.plan import Share

    share = Share() if cells is None else Share.parse(cells, len(sweep.levels))
    prepare_process(process, devices or 1)
    if dry_run:
        set_numerics(process, sweep.config)
        return _print_plan(sweep, share, devices)
    with undone_on_failure(sweep.file):
        sweep.create_or_join(join=resume or cells is not None)
        set_numerics(process, sweep.config)
        return _run(sweep, share, devices, json_file)


def _asked(
    file: Path,
    overrides: list[str],
    data: str | None,
    level: list[str] | None,
    seeds: int,
    run: Path | None,
    split: str,
) -> "Sweep":
    """The sweep that is asked for. UserError: a key contradicts an option."""
    from demega_jax.api.asked import absolute_paths, changed, with_levels
    from demega_jax.config.load import load_config
    from demega_jax.evaluation.sweep.plan import Sweep

    for key, option in (("train.members", "--seeds"), ("data.level", "--level")):
        if any(word.partition("=")[0] == key for word in overrides):
            raise UserError(key, f"given for a sweep, which has {option}", option, f"use {option} instead of {key}")
    config = absolute_paths(changed(load_config(file), overrides, {"data.path": ("--data", data)}))
    asked = with_levels(config, level or ["all"], (), config.data)
    return Sweep(run or Path("sweeps") / file.stem, config, asked.data.levels or (), seeds, split)


def _run(sweep: "Sweep", share: "Share", devices: int | None, json_file: Path | None) -> int:
    """Do the share, then show all that is finished, of other processes too."""
    from demega_jax.console import new_console
    from demega_jax.evaluation.sweep.matrix import print_matrix, to_json
    from demega_jax.evaluation.sweep.page import write_sweep_report
    from demega_jax.evaluation.sweep.run import cells_there, run_sweep
    from demega_jax.files import write_json, write_results
    from demega_jax.training.quiet import quiet_failed_saves
    from demega_jax.training.signals import Interrupted, Signals

    console, signals = new_console(soft_wrap=True), Signals()
    quiet_failed_saves()
    with signals.noted():
        try:
            run_sweep(
                sweep, share.levels(sweep.levels), signals, lambda text: console.print(text, soft_wrap=True), devices
            )
        except Interrupted as interrupted:
            console.print("interrupted and saved; run the same command with --resume to continue")
            return interrupted.status
    cells = cells_there(sweep)
    print_matrix(sweep, cells, console)
    if is_quiet():
        say_result(f"{sweep.folder}: {counted(len(cells), 'cell')}, see matrix.json and the report")
    content = to_json(sweep, cells)
    write_json(sweep.folder / "matrix.json", content)
    console.print(f"report {write_sweep_report(sweep, cells)}")
    if json_file is not None:
        write_results(json_file, content)
    return 0


def _print_plan(sweep: "Sweep", share: "Share", devices: int | None) -> int:
    """Print, for each level of the share, memory and time of its training run. A few steps are run on new models."""
    from demega_jax.benchmark.plan import run_plan
    from demega_jax.console import new_console
    from demega_jax.evaluation.fit import open_experiment
    from demega_jax.files import format_bytes

    console, total = new_console(), 0.0
    for level in share.levels(sweep.levels):
        plan = run_plan(open_experiment(sweep.config_of(level), devices))
        total += plan.seconds
        console.print(
            f"level {level}: {counted(sweep.seeds, 'seed')}, {plan.steps:,} steps of {plan.step_seconds:.3g} s, about "
            f"{plan.seconds / 60:.1f} min; {format_bytes(plan.memory)} on each device",
            soft_wrap=True,
        )
    console.print(f"in all about {total / 60:.1f} min of training, without validation, tests and compilation")
    return 0
