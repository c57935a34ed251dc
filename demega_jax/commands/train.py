"""`demega-jax train`: its options; `demega_jax.api.train` does the rest."""

import functools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Context, Option

from demega_jax.api.jax_environment import import_jax
from demega_jax.commands.shared.options import THERE, Data, Devices, Overrides, Several, level_option
from demega_jax.commands.shared.process import Process, ending_at_once, only_compile, prepare_process
from demega_jax.commands.shared.processes import Coordinator, Processes, ProcessId, Within, processes_of
from demega_jax.errors import UserError
from demega_jax.names import TARGETS, Target

if TYPE_CHECKING:
    from demega_jax.api.training_run import TrainResult
    from demega_jax.training.signals import Signals

EXAMPLES = """demega-jax train configs/demo.yaml --data data --run runs/first train.epochs=2

demega-jax train --resume --run runs/first train.epochs=6"""

CONFIG = "YAML configuration, such as configs/default.yaml. With --resume it may be left out."
KNOWN = f"({', '.join(TARGETS)}; extra aot)"
LEVELS = "Grouping level, or several to train on together (default: the key data.level)"


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
        Path | None,
        Option(metavar="RUN", help="Begin with the parameters of another training run (default: drawn by train.seed)."),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what would be done, without doing it.")] = False,
    target: Annotated[
        Target | None,
        Option(metavar="T", help=f"With --dry-run: whether it fits a device that is not here {KNOWN}."),
    ] = None,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
    join_within: Within = 60,
) -> int:
    """Train a model on grouped files, shards or recordings."""
    process: Process = ctx.obj
    ours = processes_of(coordinator, processes, process_id, join_within)
    _check(config, resume, dry_run, target, parallel, several=ours is not None)
    from demega_jax.api.train import TrainRequest, plan_as_asked, train_as_asked

    where = None if ours is None else (coordinator, ours.processes)
    again = functools.partial(continuing, parallel=parallel, devices=devices, processes=where)
    request = TrainRequest(config, overrides or (), data, level, run, resume, init, devices, parallel, again)
    if target is not None:
        only_compile()
    prepare_process(process, -(-(devices or 1) // (1 if ours is None else ours.processes)))
    # Until the loop notes signals itself: jax's callbacks swallow a KeyboardInterrupt that is raised in them.
    with ending_at_once(process):
        if ours is not None:
            import_jax()
            from demega_jax.commands.train_together import train_together

            return train_together(process, ours, request)
        if dry_run:
            plan_as_asked(request, target)
            return 0
        return train_as_asked(request, work_with_signals).status


def work_with_signals(work: "Callable[[Signals], TrainResult]") -> "TrainResult":
    """Train in this thread, where signals ask for the end."""
    from demega_jax.training.signals import Signals

    return work(Signals())


def _check(
    config: Path | None, resume: bool, dry_run: bool, target: str | None, parallel: str, *, several: bool
) -> None:
    """UserError: options that contradict each other, or none that says what to train."""
    if config is None and not resume:
        raise UserError("demega-jax train", "no CONFIG", "a YAML configuration", "name one, such as configs/demo.yaml")
    if several and dry_run:
        way_out = "run it once, as a process alone, with --devices of all of them"
        raise UserError("--dry-run", "given to several processes", "one process", way_out)
    if target is not None and not dry_run:
        raise UserError("--target", "given without --dry-run", "--dry-run beside it", "add --dry-run")
    if target is not None and parallel != "jit":
        raise UserError("--target", f"given beside --parallel {parallel}", "--parallel jit", "leave out --parallel")


def continuing(
    run: Path, *, parallel: str, devices: int | None, processes: tuple[str | None, int] | None = None
) -> str:
    """The command that continues a training run. processes: where several meet, and how many they are."""
    words = ["demega-jax", "train", "--resume", "--run", str(run)]
    words += ["--parallel", parallel] if parallel != "jit" else []
    words += ["--devices", str(devices)] if devices is not None else []
    if processes is None:
        return shlex.join(words)
    coordinator, count = processes
    words += (
        [] if coordinator is None else ["--coordinator", coordinator, "--processes", str(count), "--process-id", "I"]
    )
    return f"{shlex.join(words)}\nin each process"
