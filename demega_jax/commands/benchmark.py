"""`demega-jax benchmark`: what a training step takes here, and what it could take."""

import argparse
import contextlib
import datetime
import functools
import importlib.metadata
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demega_jax.errors import UserError, set_warning_sink, warn

if TYPE_CHECKING:
    from rich.console import Console

    from demega_jax.benchmark.cases import Case, CaseData
    from demega_jax.benchmark.measure import Limits, Work
    from demega_jax.config import Config

FORMAT = 2
CPU_BATCH = 64  # where no batch size is asked for: 512, the default, would take a CPU minutes
MOST_STEPS, MOST_SECONDS = 200, 12.0  # of a case, where no number of steps is asked for
DEFAULT_LEVEL = 100
VERSIONS = ("demega-jax", "jax", "jaxlib", "flax", "optax", "numpy")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command's arguments."""
    text = "measure a training step, beside what this machine could do"
    command = commands.add_parser("benchmark", help=text, description=text)
    several: dict[str, Any] = {"nargs": "+", "action": "extend"}  # words: `benchmark_command` finds overrides in them
    command.add_argument("--level", metavar="K", help="grouping levels (default 100, or --data's)", **several)
    command.add_argument("--feed", metavar="F", help="stream, resident, regroup (default resident)", **several)
    command.add_argument("--devices", metavar="N", help="numbers of devices (default: all there are)", **several)
    command.add_argument("--precision", metavar="P", help="float32, bfloat16 (default model.dtype)", **several)
    command.add_argument("--config", type=Path, metavar="CONFIG", help="YAML configuration (default: the defaults)")
    command.add_argument("--data", metavar="DIR", help="folder that holds grouped_K, or recordings (default: noise)")
    command.add_argument("--batch-size", type=int, metavar="N", help="train.batch_size (default 512, on a CPU 64)")
    command.add_argument("--steps", type=int, metavar="N", help="steps of a case (default: of 12 s, 3 to 200)")
    command.add_argument("--stages", action="store_true", help="time the stages of the first case's step as well")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a JSON file")
    command.add_argument("--plot", type=Path, metavar="FILE", help="draw them, as PNG")
    command.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the configuration")
    command.set_defaults(function=benchmark_command)


def benchmark_command(arguments: argparse.Namespace) -> int:
    """Measure every case and print tables; write and draw what is asked for. Returns the exit status."""
    from rich.console import Console

    from demega_jax.benchmark.cases import all_cases, case_config, open_case
    from demega_jax.benchmark.tables import print_result

    gather_overrides(arguments)
    _check_outputs(arguments.json, arguments.plot)
    base = asked_config(arguments)
    cases = all_cases(*_choices(arguments, base))
    configs = [case_config(base, case) for case in cases]
    console = Console(highlight=False, markup=False)
    with tempfile.TemporaryDirectory(prefix="demega-jax-benchmark-") as folder, _progress(console) as tell:
        # All data are opened before anything is measured: what does not fit together is refused at once.
        given = [open_case(config, Path(folder), case.devices) for config, case in zip(configs, cases, strict=True)]
        result = _measure(cases, given, arguments, tell)
    print_result(result, console)
    if arguments.json is not None:
        from demega_jax.files import write_text

        write_text(arguments.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
        console.print(f"figures {arguments.json}", soft_wrap=True)
    if arguments.plot is not None:
        from demega_jax.benchmark.plot import plot_result

        console.print(f"plot {plot_result(result, arguments.plot)}", soft_wrap=True)
    return 0


def gather_overrides(arguments: argparse.Namespace) -> None:
    """Move `section.key=value` from the lists of options, which take every word that follows, to the overrides."""
    for name in ("level", "feed", "devices", "precision"):
        words = getattr(arguments, name)
        if words is not None:
            arguments.overrides = [*arguments.overrides, *(word for word in words if "=" in word)]
            setattr(arguments, name, [word for word in words if "=" not in word])


def asked_config(arguments: argparse.Namespace) -> "Config":
    """The configuration of the file or the defaults, the overrides, --data and --batch-size, with its numerics set."""
    import jax

    from demega_jax.commands.train import set_numerics
    from demega_jax.config import Config
    from demega_jax.config.load import load_config, override, parse_overrides

    for option in ("steps", "batch_size"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')}", f"{value}", "at least 1", "give a larger number, or none")
    changes = parse_overrides(arguments.overrides)
    if arguments.data is not None:
        changes["data.path"] = arguments.data
    if arguments.batch_size is not None:
        changes["train.batch_size"] = arguments.batch_size
    config = Config() if arguments.config is None else load_config(arguments.config)
    if config.data.feed == "stream":
        changes.setdefault("data.feed", "resident")
    config = override(config, changes, "command line")
    set_numerics(config)
    # Programs remembered from other runs would make compile times those of reading them: only where the user says so.
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR") or None)
    if arguments.config is None and "train.batch_size" not in changes and jax.default_backend() == "cpu":
        config = override(config, {"train.batch_size": CPU_BATCH}, "benchmark")
    return config


def _choices(arguments: argparse.Namespace, base: "Config") -> tuple[list[int], list[str], list[int], list[str]]:
    """Levels, feeds, numbers of devices and precisions. UserError: what there is not."""
    import jax

    from demega_jax.benchmark.cases import FEEDS, PRECISIONS

    levels = _numbers("--level", arguments.level) or list(base.data.levels) or _levels_there(base)
    devices = _numbers("--devices", arguments.devices) or [jax.device_count()]
    feeds = _named("--feed", arguments.feed, FEEDS) or [base.data.feed]
    precisions = _named("--precision", arguments.precision, PRECISIONS) or [base.model.dtype]
    return levels, feeds, devices, precisions


def _levels_there(base: "Config") -> list[int]:
    """The only level of the data, as training would take it; else one to simulate."""
    from demega_jax.data.grouped import find_level, find_levels
    from demega_jax.data.recordings.runs import has_recordings

    path = None if base.data.path is None else Path(base.data.path)
    if path is None or (has_recordings(path) and not find_levels(path)):
        return [DEFAULT_LEVEL]
    folder = find_level(path, None)
    return [level for level, there in find_levels(path).items() if there == folder]


def _numbers(option: str, words: Sequence[str] | None) -> list[int]:
    for word in words or ():
        if not word.isdecimal() or int(word) < 1:
            raise UserError(option, repr(word), "whole numbers from 1 on", f"for example {option} 5 20")
    return [int(word) for word in words or ()]


def _named(option: str, words: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    for word in words or ():
        if word not in known:
            raise UserError(option, repr(word), f"{', '.join(known[:-1])} or {known[-1]}", "mend it")
    return list(words or ())


def _check_outputs(*paths: Path | None) -> None:
    """UserError for a file that could not be written: better now than after minutes of measuring."""
    given = [path.absolute() for path in paths if path is not None]
    if len(set(given)) < len(given):
        raise UserError("--plot", f"{given[0]}, as --json", "two different files", "choose another")
    for path in given:
        folder = next(above for above in path.parents if above.exists())
        came = "a folder" if path.is_dir() else None if folder.is_dir() else f"below {folder}, which is a file"
        if came is None:
            try:
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                came = f"cannot be written ({error.strerror or error})"
        if came is not None:
            raise UserError(path, came, "a file that can be written", "choose another place")


def _measure(
    cases: "Sequence[Case]", given: "Sequence[CaseData]", arguments: argparse.Namespace, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the machine, the cases and the stages; everything that is known of them."""
    import jax

    from demega_jax.benchmark.machine import hardware, measure_machine
    from demega_jax.benchmark.measure import Limits, add_scaling, against_machine

    device = jax.devices()[0]
    tell("what the machine can do")
    precisions = dict.fromkeys(case.precision for case in cases)
    machine = measure_machine(device, precisions)
    limits = Limits(arguments.steps or MOST_STEPS, MOST_SECONDS if arguments.steps is None else float("inf"))
    measured: list[tuple[dict[str, Any], Work, CaseData]] = []
    for number, (case, data) in enumerate(zip(cases, given, strict=True), start=1):
        tell_of = functools.partial(_prefixed, tell, f"case {number} of {len(cases)}, {case}: ")
        made = _attempt(case, data, limits, tell_of)
        measured += [(*made, data)] if made is not None else []
    if not measured:
        raise UserError("benchmark", "no case that fits this machine", "at least one", "see the warnings above")
    tell("what the machine can do, once more")
    machine = machine.better(measure_machine(device, precisions))
    found = [
        each | against_machine(each["step_seconds"]["median"], work, each["precision"], each["devices"], machine)
        for each, work, _ in measured
    ]
    first = measured[0][2]
    add_scaling(found)
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(arguments.command_line),
        "data": "simulated" if any(case["data"] == "simulated" for case in found) else "real",
        "window": [first.data.train.sensors, first.data.train.time_points],
        "hardware": hardware(device),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "machine": {"matrix_flops_per_second": machine.flops, "copy_bytes_per_second": machine.bandwidth},
        "config": first.config.model_dump(mode="json"),
        "cases": found,
        "stages": _stages(first, tell) if arguments.stages else None,
    }


def _attempt(
    case: "Case", data: "CaseData", limits: "Limits", tell: Callable[[str], None]
) -> "tuple[dict[str, Any], Work] | None":
    """The figures of a case, and its work; None, after a warning, where memory cannot hold it: the others go on."""
    import jax

    from demega_jax.benchmark.measure import measure

    try:
        return measure(case, data, limits, tell)
    except UserError as error:
        warn(f"{case} left out: {error}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        warn(f"{case} left out: the device ran out of memory")
    return None


def _stages(given: "CaseData", tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """The stages of the step of one model, on one device."""
    from demega_jax.benchmark.stages import stage_figures
    from demega_jax.training.members import member_config
    from demega_jax.training.parallel import make_placement
    from demega_jax.training.setup import make_experiment

    placement = make_placement("jit", 1, given.config.train.batch_size, given.config.train.accumulate)
    return stage_figures(make_experiment(member_config(given.config, 0), given.data, placement), tell)


def _prefixed(tell: Callable[[str], None], prefix: str, text: str) -> None:
    tell(prefix + text)


@contextlib.contextmanager
def _progress(console: "Console") -> Iterator[Callable[[str], None]]:
    """What shows what goes on: a line with a spinner on a terminal, nothing anywhere else."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        set_warning_sink(lambda line: console.print(line, soft_wrap=True))
        try:
            yield lambda text: status.update(f"{text} ..")
        finally:
            set_warning_sink(None)
