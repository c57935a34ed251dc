"""`demega-jax train`: checks of the options and the configuration; `train_run.py` does the rest."""

import functools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Context, Option

from demega_jax.commands.shared.jax_environment import import_jax
from demega_jax.commands.shared.options import (
    THERE,
    Data,
    Devices,
    Overrides,
    Several,
    check_inputs,
    check_out,
    check_there,
    level_option,
)
from demega_jax.commands.shared.process import Process, ending_at_once, only_compile, prepare_process, set_numerics
from demega_jax.commands.shared.processes import Coordinator, Processes, ProcessId, Within, processes_of
from demega_jax.errors import UserError
from demega_jax.names import Target

if TYPE_CHECKING:
    from demega_jax.config import Config
    from demega_jax.training.run import RunFolder

EXAMPLES = """demega-jax train configs/demo.yaml --data data --run runs/first train.epochs=2

demega-jax train --resume --run runs/first train.epochs=6"""

CONFIG = "YAML configuration, such as configs/default.yaml. With --resume it may be left out."
LEVELS = "Grouping level, or several to train on together"


def command(
    ctx: Context,
    config: Annotated[Path | None, Argument(metavar="CONFIG", help=CONFIG, show_default=False)] = None,
    overrides: Overrides = None,
    data: Data = None,
    level: Annotated[Several, level_option(LEVELS, THERE)] = None,
    run: Annotated[Path | None, Option(metavar="DIR", help="Run folder (default: runs/{config name}-{time}).")] = None,
    devices: Devices = None,
    parallel: Annotated[
        Literal["jit", "pmap"], Option(help="How devices share a step; pmap is for the stream feed.")
    ] = "jit",
    resume: Annotated[
        bool, Option("--resume", help="Continue the training run in --run from its last checkpoint.")
    ] = False,
    init: Annotated[
        Path | None, Option(metavar="RUN", help="Begin with the parameters of another training run.")
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what would be done, without doing it.")] = False,
    target: Annotated[
        Target | None,
        Option(help="With --dry-run: whether it fits a device that is not here (extra aot)."),
    ] = None,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
    join_within: Within = 60,
) -> int:
    """Train a model on grouped files, shards or recordings."""
    process: Process = ctx.obj
    _check(config, run, data, init, resume)
    ours = processes_of(coordinator, processes, process_id, join_within)
    if ours is not None and dry_run:
        way_out = "run it once, as a process alone, with --devices of all of them"
        raise UserError("--dry-run", "given to several processes", "one process", way_out)
    if target is not None:
        _check_target(dry_run, parallel)
        only_compile()
    from demega_jax.commands.shared.config import check_levels
    from demega_jax.training.alone import check_alone
    from demega_jax.training.run import RunFolder, default_run_path, resumed_config

    folder = RunFolder(run or default_run_path(config or Path("run")))
    if init is not None:
        RunFolder(init).read_config()
    if ours is not None:
        prepare_process(process, -(-(devices or 1) // ours.processes))
        import_jax()
        from demega_jax.commands.train_together import train_together

        again = go_on(folder.path, parallel, devices)
        if coordinator is not None:
            again += f" --coordinator {coordinator} --processes {ours.processes} --process-id I"
        ask = functools.partial(_ask, folder, config, overrides or [], data, level, resume=resume)
        with ending_at_once(process):
            again = f"{again}\nin each process"
            return train_together(process, ours, folder, ask, devices, parallel, init, again, resume=resume)
    check_alone(folder)
    saved = folder.read_config() if resume else None
    prepare_process(process, devices or 1)
    asked = _asked_config(config, saved, overrides or [], data, level)
    if saved is not None:
        asked = resumed_config(saved, asked, folder.path)
    elif not dry_run:
        folder.check_new()  # before anything slow
    if not dry_run:
        check_out(folder.path)
    check_levels(asked)
    # Until the loop notes signals itself: jax's callbacks swallow a KeyboardInterrupt that is raised in them.
    with ending_at_once(process):
        set_numerics(process, asked)
        from demega_jax.commands.train_describe import print_plan
        from demega_jax.commands.train_run import begin
        from demega_jax.evaluation.fit import open_experiment

        if target is not None:
            from demega_jax.commands.train_target import print_target_plan

            return print_target_plan(asked, target, devices or 1)
        experiment = open_experiment(asked, devices, parallel)
        if dry_run:
            return print_plan(experiment)
        return begin(experiment, folder, init, go_on(folder.path, parallel, devices), resume=resume)


def _ask(
    folder: "RunFolder",
    config: Path | None,
    overrides: list[str],
    data: str | None,
    level: list[str] | None,
    *,
    resume: bool,
) -> "Config":
    """The configuration that is asked for, checked with the run folder, in the leader of several processes."""
    from demega_jax.commands.shared.config import check_levels
    from demega_jax.training.alone import check_alone
    from demega_jax.training.run import resumed_config

    check_alone(folder)
    saved = folder.read_config() if resume else None
    asked = _asked_config(config, saved, overrides, data, level)
    if saved is not None:
        asked = resumed_config(saved, asked, folder.path)
    else:
        folder.check_new()
    check_out(folder.path)
    check_levels(asked)
    return asked


def _check_target(dry_run: bool, parallel: str) -> None:
    """UserError: --target is given without --dry-run, or with a way to share a step that it cannot compile."""
    if not dry_run:
        raise UserError("--target", "given without --dry-run", "--dry-run beside it", "add --dry-run")
    if parallel != "jit":
        raise UserError("--target", f"given beside --parallel {parallel}", "--parallel jit", "leave out --parallel")


def _check(config: Path | None, run: Path | None, data: str | None, init: Path | None, resume: bool) -> None:
    """UserError: an option is missing, two contradict each other, or a path is not there."""
    if resume and init is not None:
        raise UserError("--init", "given beside --resume", "only one of the two", "leave out --init or --resume")
    if resume and run is None:
        raise UserError("--resume", "no --run", "the folder of the training run to continue", "name it with --run DIR")
    if config is None and not resume:
        raise UserError("demega-jax train", "no CONFIG", "a YAML configuration", "name one, such as configs/demo.yaml")
    check_inputs(config, data)
    if init is not None:
        check_there(init, "the folder of a training run", folder=True)


def _asked_config(
    file: Path | None, saved: "Config | None", overrides: list[str], data: str | None, level: list[str] | None
) -> "Config":
    """The configuration of the file, or else the saved one, with the changes of the command line."""
    from demega_jax.commands.shared.config import absolute_paths, changed, with_levels
    from demega_jax.config.load import load_config

    base = load_config(file) if file is not None else saved
    assert base is not None, "checked: without --resume there is a file"
    asked = absolute_paths(changed(base, overrides, {"data.path": ("--data", data)}))
    return with_levels(asked, level, overrides, asked.data if saved is None or asked.data.path else saved.data)


def go_on(run: Path, parallel: str, devices: int | None) -> str:
    """The command that continues a training run."""
    words = ["demega-jax", "train", "--resume", "--run", str(run)]
    words += ["--parallel", parallel] if parallel != "jit" else []
    words += ["--devices", str(devices)] if devices is not None else []
    return shlex.join(words)
