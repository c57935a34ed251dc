"""A whole benchmark: the machine, every case beside it, and the stages of a step."""

import datetime
import importlib.metadata
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from demega_jax.benchmark.cases import Case, CaseData, case_config, open_case
from demega_jax.benchmark.machine import hardware, measure_machine
from demega_jax.benchmark.measure import Limits, Work, add_scaling, against_machine, measure
from demega_jax.benchmark.stages import stage_figures
from demega_jax.config import Config
from demega_jax.errors import UserError, warn
from demega_jax.training.members import member_config
from demega_jax.training.parallel import make_placement
from demega_jax.training.setup import make_experiment

FORMAT = 2
MOST_STEPS, MOST_SECONDS = 200, 12.0  # limits of a case, where no number of steps is asked for
VERSIONS = ("demega-jax", "jax", "jaxlib", "flax", "optax", "numpy")

Tell = Callable[[str], None]


def run_cases(base: Config, cases: Sequence[Case], steps: int | None, stages: bool, tell: Tell) -> dict[str, Any]:
    """Measure the machine and some cases; returns the content of the JSON file.

    steps: of a case; None: as many as take some seconds.  stages: whether to time the stages of the first case too.
    tell: called with what goes on.  UserError: no case could be measured, or data do not fit.
    """
    configs = [case_config(base, case) for case in cases]
    with tempfile.TemporaryDirectory(prefix="demega-jax-benchmark-") as folder:
        # All data are opened before anything is measured, so that errors come at once.
        given = [open_case(each, Path(folder), case.devices) for each, case in zip(configs, cases, strict=True)]
        return _measure(cases, given, steps, stages, tell)


def _measure(
    cases: Sequence[Case], given: Sequence[CaseData], steps: int | None, stages: bool, tell: Tell
) -> dict[str, Any]:
    device = jax.devices()[0]
    tell("measuring the machine")
    precisions = dict.fromkeys(case.precision for case in cases)
    machine = measure_machine(device, precisions)
    limits = Limits(steps or MOST_STEPS, MOST_SECONDS if steps is None else float("inf"))
    measured: list[tuple[dict[str, Any], Work, CaseData]] = []
    for number, (case, data) in enumerate(zip(cases, given, strict=True), start=1):
        made = _attempt(case, data, limits, f"case {number} of {len(cases)}, {case}: ", tell)
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


def _attempt(case: Case, data: CaseData, limits: Limits, prefix: str, tell: Tell) -> tuple[dict[str, Any], Work] | None:
    """The figures of a case, and its work; None, after a warning, where memory cannot hold it."""
    try:
        return measure(case, data, limits, lambda text: tell(prefix + text))
    except UserError as error:
        warn(f"{case} is left out: {error}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        warn(f"{case} is left out: the device ran out of memory")
    return None


def _stages(given: CaseData, tell: Tell) -> list[dict[str, Any]]:
    """The times of the stages of a step of one model on one device."""
    placement = make_placement("jit", 1, given.config.train.batch_size, given.config.train.accumulate)
    return stage_figures(make_experiment(member_config(given.config, 0), given.data, placement), tell)
