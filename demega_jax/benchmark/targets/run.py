"""`demega-jax benchmark --target`: programs compiled for devices that are not here, and what a model says of them."""

import dataclasses
import datetime
import importlib.metadata
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from demega_jax.benchmark.cases import TIME_POINTS, Case
from demega_jax.benchmark.simulated import published_groups, simulated_data
from demega_jax.benchmark.targets.devices import TARGETS, Target
from demega_jax.benchmark.targets.modelled import LIMITS, Modelled
from demega_jax.benchmark.targets.programs import compile_for, lower_evaluation, lower_train, placement_on
from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.data.feeds.shares import check_shares
from demega_jax.files import format_bytes, write_text
from demega_jax.names import PUBLISHED_SENSORS
from demega_jax.training.parallel import check_batch
from demega_jax.training.setup import Experiment, make_experiment

FORMAT = 1
MOST_LINES = 10  # of the longest kernels
VERSIONS = ("demega-jax", "jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")

Tell = Callable[[str], None]


def run_targets(
    base: Config, targets: Sequence[str], cases: Sequence[Case], dump: Path | None, tell: Tell
) -> dict[str, Any]:
    """Compile every case for every target; returns the content of the JSON file.

    dump: folder for the optimized programs as text.  tell: called with what goes on.  UserError: a batch that the
    devices cannot share, or a target that cannot be compiled for.
    """
    configs = [_case_config(base, case) for case in cases]
    found, done = [], {}
    with tempfile.TemporaryDirectory(prefix="demega-jax-benchmark-") as folder:
        for name in targets:
            target = TARGETS[name]
            for config, case in zip(configs, cases, strict=True):
                tell(f"{name}, {case}: lowering")
                experiment = _experiment(config, case, target, Path(folder))
                train, text = compile_for(lower_train(experiment), target, case.devices)
                key = (name, case.devices, case.precision)
                if key not in done:
                    tell(f"{name}, {case}: evaluation")
                    done[key] = compile_for(lower_evaluation(experiment), target, case.devices)
                evaluation, evaluation_text = done[key]
                if dump is not None:
                    stem = f"{name}_level{case.level}_{case.feed}_{case.devices}_{case.precision}"
                    write_text(dump / f"{stem}_train.hlo", text)
                    write_text(dump / f"{stem}_evaluation.hlo", evaluation_text)
                found.append(_figures(case, experiment, train, evaluation))
    return {
        "format": FORMAT,
        "kind": "modelled",
        "limits": LIMITS,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": _versions(),
        "config": base.model_dump(mode="json"),
        "targets": found,
    }


def _case_config(base: Config, case: Case) -> Config:
    """The configuration of a case. UserError: a batch that the devices cannot share."""
    changes = {"data.level": case.level, "data.feed": case.feed, "model.dtype": case.precision}
    config = override(base, changes, "benchmark")
    check_batch(config.train.batch_size, case.devices, config.train.accumulate)
    if case.feed != "stream":
        check_shares(config.data.shares, case.devices, config.train.batch_size, "jit", case.feed)
    return config


def _experiment(config: Config, case: Case, target: Target, folder: Path) -> Experiment:
    """A training run on noise, for the target. The shapes of a batch do not depend on how many rows a split has."""
    shape = (config.model.sensors or PUBLISHED_SENSORS, config.model.time_points or TIME_POINTS)
    data = simulated_data(config, folder, shape, jax.devices()[0], case.devices)
    return make_experiment(config, data, placement_on(target, case.devices))


def _figures(case: Case, experiment: Experiment, train: Modelled, evaluation: Modelled) -> dict[str, Any]:
    """The figures of a case, for one step, with those of its evaluation step."""
    config = experiment.config
    steps, plan = config.train.steps_per_dispatch, experiment.data.plan
    step = train.of_one(steps)
    rows = published_groups(case.level)
    # The split that was compiled for is a small one; the published one takes as much more as it has more rows.
    padding = train.target.padding(*plan.rows.window) if case.feed == "resident" else 1.0
    held = plan.device_bytes(case.devices) * padding
    resident = round(held * rows / plan.rows.rows if case.feed == "resident" else held)
    memory = round(train.memory - held) + resident
    epoch = -(-rows // config.train.batch_size)
    return (
        step
        | dataclasses.asdict(case)
        | {
            "title": train.target.title,
            "batch_size": config.train.batch_size,
            "members": config.train.members,
            "steps_per_dispatch": steps,
            "memory_bytes": memory,
            "feed_memory_bytes": resident,
            "device_memory_bytes": train.target.memory,
            "fits": memory <= train.target.memory,
            "modelled_epoch_seconds": epoch * step["modelled_step_ms"] / 1e3,
            "longest": [dataclasses.asdict(each) | {"times": each.times / steps} for each in train.longest(MOST_LINES)],
            "evaluation": evaluation.of_one(1),
        }
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def fits(found: dict[str, Any]) -> str:
    """Whether a case fits the memory of its target, in words."""
    need, there = format_bytes(found["memory_bytes"]), format_bytes(found["device_memory_bytes"])
    return f"{need} of {there}" + ("" if found["fits"] else ", too much")
