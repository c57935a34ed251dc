"""`demega-jax benchmark`: the time of a training step on this machine, and the shortest time possible."""

import datetime
import importlib.metadata
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demega_jax.commands.shared.lists import PUBLISHED_LEVELS, all_devices, check_numbers, names, numbers
from demega_jax.commands.shared.options import Json, Overrides, check_inputs, check_outputs, check_picture
from demega_jax.commands.shared.process import Process, prepare_process, set_numerics
from demega_jax.errors import UserError, warn
from demega_jax.names import FEEDS, PRECISIONS

if TYPE_CHECKING:
    from demega_jax.benchmark.cases import Case, CaseData
    from demega_jax.benchmark.measure import Limits, Work
    from demega_jax.config import Config

EXAMPLES = "demega-jax benchmark --level 5,20,100 --feed all --json benchmark.json --plot benchmark.png"
FORMAT = 2
CPU_BATCH = 64  # rows, where no batch size is asked for: the default of 512 would take a CPU minutes
MOST_STEPS, MOST_SECONDS = 200, 12.0  # limits of a case, where no number of steps is asked for
DEFAULT_LEVEL = 100
VERSIONS = ("demega-jax", "jax", "jaxlib", "flax", "optax", "numpy")

Level = Annotated[
    list[str] | None,
    typer.Option(
        "--level", metavar="K,..",
        help="Grouping levels (default: that of --data, else 100); all, and ranges such as 5-100, stand for those of "
        "--data, else for published ones.",
    ),
]  # fmt: skip
Feed = Annotated[
    list[str] | None, typer.Option("--feed", metavar="F,..", help=f"{', '.join(FEEDS)} or all (default: resident).")
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--devices", metavar="N,..",
        help="Numbers of devices (default: as many as there are); all, and ranges such as 1-8, stand for 1, 2, 4 and "
        "so on up to as many as there are.",
    ),
]  # fmt: skip
Precision = Annotated[
    list[str] | None,
    typer.Option("--precision", metavar="P,..", help=f"{', '.join(PRECISIONS)} or all (default: model.dtype)."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="CONFIG", help="YAML configuration (default: the defaults).")
]
Data = Annotated[
    str | None, typer.Option(metavar="DIR", help="Folder that holds grouped_K, or recordings (default: noise).")
]
BatchSize = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="train.batch_size (default: 512, or 64 on a CPU).")
]
Steps = Annotated[int | None, typer.Option(metavar="N", min=1, help="Steps of a case (default: 3 to 200, for 12 s).")]
Stages = Annotated[bool, typer.Option("--stages", help="Also time the stages of a step of the first case.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the results in this PNG, SVG or PDF file.")]


def command(
    ctx: typer.Context, overrides: Overrides = None, level: Level = None, feed: Feed = None, devices: Devices = None,
    precision: Precision = None, config: ConfigFile = None, data: Data = None, batch_size: BatchSize = None,
    steps: Steps = None, stages: Stages = False, json_file: Json = None, plot: Plot = None,
) -> int:  # fmt: skip
    """Measure a training step, and what this machine could do at best."""
    process: Process = ctx.obj
    check_outputs(json_file, plot)
    check_picture("--plot", plot)
    check_numbers("--level", level or ())
    check_numbers("--devices", devices or ())
    feeds = names("--feed", feed or (), FEEDS)
    precisions = names("--precision", precision or (), PRECISIONS)
    base = _asked_config(config, overrides or (), data, batch_size)
    prepare_process(process, max((int(n) for item in devices or () for n in re.findall(r"\d+", item)), default=1))
    set_numerics(process, base, remember=False)  # so that programs are compiled, not read from disk
    import jax

    counts = numbers("--devices", devices or (), lambda: all_devices(jax.device_count())) or [jax.device_count()]
    levels = numbers("--level", level or (), lambda: _levels_there(base)) or _default_levels(base)
    chosen = (levels, feeds or [base.data.feed], counts, precisions or [base.model.dtype])
    own_batch = config is not None or batch_size is not None or any("train.batch_size" in w for w in overrides or ())
    if not own_batch and jax.default_backend() == "cpu":
        from demega_jax.config.load import override

        base = override(base, {"train.batch_size": CPU_BATCH}, "benchmark")
    result = _measure_all(base, chosen, steps, stages) | {"command": shlex.join(["demega-jax", *process.words])}
    _show(result, json_file, plot)
    return 0


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


def _levels_there(base: "Config") -> list[int]:
    """The levels that `all` and ranges stand for."""
    from demega_jax.commands.shared.config import levels_there

    return list(PUBLISHED_LEVELS) if base.data.path is None else levels_there(Path(base.data.path), base.data.feed)


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


def _measure_all(
    base: "Config", chosen: tuple[list[int], list[str], list[int], list[str]], steps: int | None, stages: bool
) -> dict[str, Any]:
    """Open the data of all cases, then measure. chosen: levels, feeds, numbers of devices, precisions."""
    from rich.console import Console

    from demega_jax.benchmark.cases import all_cases, case_config, open_case
    from demega_jax.commands.shared.console import status_line

    cases = all_cases(*chosen)
    configs = [case_config(base, case) for case in cases]
    folder_made = tempfile.TemporaryDirectory(prefix="demega-jax-benchmark-")
    with folder_made as folder, status_line(Console(highlight=False, markup=False)) as tell:
        # All data are opened before anything is measured, so that errors come at once.
        given = [open_case(each, Path(folder), case.devices) for each, case in zip(configs, cases, strict=True)]
        return _measure(cases, given, steps, stages, tell)


def _show(result: dict[str, Any], json_file: Path | None, plot: Path | None) -> None:
    """Print tables, and write the files that are asked for."""
    from rich.console import Console

    from demega_jax.benchmark.tables import print_result
    from demega_jax.files import write_json

    console = Console(highlight=False, markup=False)
    print_result(result, console)
    if json_file is not None:
        write_json(json_file, result)
        console.print(f"figures {json_file}", soft_wrap=True)
    if plot is not None:
        from demega_jax.benchmark.plot import plot_result

        console.print(f"plot {plot_result(result, plot)}", soft_wrap=True)


def _measure(
    cases: "Sequence[Case]", given: "Sequence[CaseData]", steps: int | None, stages: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the machine, the cases and the stages; returns the content of the JSON file."""
    import jax

    from demega_jax.benchmark.machine import hardware, measure_machine
    from demega_jax.benchmark.measure import Limits, add_scaling, against_machine

    device = jax.devices()[0]
    tell("measuring the machine")
    precisions = dict.fromkeys(case.precision for case in cases)
    machine = measure_machine(device, precisions)
    limits = Limits(steps or MOST_STEPS, MOST_SECONDS if steps is None else float("inf"))
    measured: list[tuple[dict[str, Any], Work, CaseData]] = []
    for number, (case, data) in enumerate(zip(cases, given, strict=True), start=1):
        prefix = f"case {number} of {len(cases)}, {case}: "
        made = _attempt(case, data, limits, _telling(tell, prefix))
        measured += [(*made, data)] if made is not None else []
    if not measured:
        came, way_out = "no case could be measured on this machine", "choose cases that avoid the warnings above"
        raise UserError("benchmark", came, "at least one case", way_out)
    tell("measuring the machine once more")
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
        "data": "simulated" if any(case["data"] == "simulated" for case in found) else "real",
        "window": [first.data.train.sensors, first.data.train.time_points],
        "hardware": hardware(device),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "machine": {"matrix_flops_per_second": machine.flops, "copy_bytes_per_second": machine.bandwidth},
        "config": first.config.model_dump(mode="json"),
        "cases": found,
        "stages": _stages(first, tell) if stages else None,
    }


def _attempt(
    case: "Case", data: "CaseData", limits: "Limits", tell: Callable[[str], None]
) -> "tuple[dict[str, Any], Work] | None":
    """The figures of a case, and its work; None, after a warning, where memory cannot hold it."""
    import jax

    from demega_jax.benchmark.measure import measure

    try:
        return measure(case, data, limits, tell)
    except UserError as error:
        warn(f"{case} is left out: {error}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        warn(f"{case} is left out: the device ran out of memory")
    return None


def _telling(tell: Callable[[str], None], prefix: str) -> Callable[[str], None]:
    return lambda text: tell(prefix + text)


def _stages(given: "CaseData", tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """The times of the stages of a step of one model on one device."""
    from demega_jax.benchmark.stages import stage_figures
    from demega_jax.training.members import member_config
    from demega_jax.training.parallel import make_placement
    from demega_jax.training.setup import make_experiment

    placement = make_placement("jit", 1, given.config.train.batch_size, given.config.train.accumulate)
    return stage_figures(make_experiment(member_config(given.config, 0), given.data, placement), tell)
