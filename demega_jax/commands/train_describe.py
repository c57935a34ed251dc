"""What `train` says of a run before it begins: its data, model, memory and steps."""

import time

import jax
import numpy as np
from rich.console import Console

from demega_jax.config.load import to_yaml
from demega_jax.data.grouped import GroupedSplit
from demega_jax.data.recordings.averaged import RegroupSplit
from demega_jax.model.demega import parameter_count
from demega_jax.training.feeds import feed_bytes
from demega_jax.training.memory import step_memory
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment


def make_console() -> Console:
    """The console that a run is told on: a line stays one line, whatever the width."""
    return Console(soft_wrap=True, highlight=False, markup=False)


def describe(experiment: Experiment, folder: RunFolder, console: Console) -> None:
    """What is about to run, in a few lines."""
    data, config, placement = experiment.data, experiment.config, experiment.placement
    for split in (data.train, data.validation):
        console.print(
            f"{split.name:<10} {split.rows} rows of {split.sensors} x {split.time_points}, "
            f"{len(split.classes)} classes: {split.path}"
        )
    device = placement.mesh.devices.flat[0]
    console.print(
        f"{'model':<10} {parameters_of(experiment)} parameters, {config.model.encoder}, {config.model.dtype}, on "
        f"{placement.devices} x {device.device_kind} ({placement.mode})"
    )
    for line in feed_lines(experiment):
        console.print(line)
    console.print(
        f"{'run':<10} {experiment.total_steps} steps of {config.train.batch_size} rows, {experiment.steps_per_epoch} "
        f"an epoch: {folder.path}"
    )


def parameters_of(experiment: Experiment) -> str:
    """How many parameters are trained: of each member, where there are some."""
    members = experiment.config.train.members
    count = parameter_count(jax.eval_shape(experiment.fresh_state).params) // members
    return f"{members} x {count:,}" if members > 1 else f"{count:,}"


def feed_lines(experiment: Experiment) -> list[str]:
    """How batches come about: memory on the devices, and the weights of balanced sampling."""
    data, train = experiment.config.data, experiment.data.train
    lines = []
    if data.feed != "stream":
        size = feed_bytes(experiment.config, train, experiment.placement.devices) / 2**30
        what = f"recordings ({data.regroup.recordings})" if isinstance(train, RegroupSplit) else "windows"
        lines.append(f"{'feed':<10} {data.feed}: {size:.2f} GiB of {data.dtype} {what} on each device")
    if isinstance(train, RegroupSplit):
        lines += group_lines(train, data.regroup.target_rows is not None)
    if data.sampling == "balanced":
        counts = train.class_counts()
        weight = train.rows / (np.count_nonzero(counts) * np.maximum(counts, 1))
        listed = " ".join(f"{name} {w:.2f}" for name, w, n in zip(train.classes, weight, counts, strict=True) if n)
        lines.append(f"{'sampling':<10} balanced, weight of a row: {listed}")
    return lines


def group_lines(split: RegroupSplit, adapted: bool) -> list[str]:
    """The groups of an epoch; adapted: with their sizes by class."""
    plan, runs = split.plan, len(split.windows.recordings)
    sizes = plan.group_size[plan.there]
    span = f"{sizes.min()} to {sizes.max()}" if sizes.min() < sizes.max() else f"{sizes.max()}"
    lines = [f"{'groups':<10} {len(sizes)} an epoch, of {span} windows, from {len(split.windows)} in {runs} runs"]
    if adapted:
        classes = np.flatnonzero(split.class_counts())
        rows, mean = split.class_counts(), np.bincount(split.labels, sizes) / np.maximum(np.bincount(split.labels), 1)
        listed = " ".join(f"{split.classes[c]} {rows[c]} x {mean[c]:.0f}" for c in classes)
        lines.append(f"{'of each':<10} {listed}")
    return lines


def print_plan(experiment: Experiment) -> int:
    """Print the resolved configuration, parameters, memory, steps and what would be read; change nothing."""
    config, data, placement = experiment.config, experiment.data, experiment.placement
    console = make_console()
    console.print(to_yaml(config), end="")
    shapes = jax.eval_shape(experiment.fresh_state)
    members = config.train.members
    state, batch = placement.abstract(shapes, experiment.batch_arrays(), config.train.batch_size, members)
    began = time.perf_counter()
    compiled = placement.compile_train(experiment.train_step, members=members > 1).lower(state, batch).compile()
    need = step_memory(compiled, state)
    rows = {
        "parameters": parameters_of(experiment),
        "steps": f"{experiment.total_steps}, {experiment.steps_per_epoch} an epoch, of {config.train.batch_size} rows",
        "memory": f"{need.total / 2**30:.2f} GiB on each of {placement.devices} devices, "
        f"of which state {need.kept / 2**20:.0f} MiB",
        "compiled in": f"{time.perf_counter() - began:.1f} s",
        "train": _reads(data.train), "validation": _reads(data.validation),
    } | {line.split()[0]: line.split(maxsplit=1)[1] for line in feed_lines(experiment)}  # fmt: skip
    for name, value in rows.items():
        console.print(f"# {name}: {value}")
    return 0


def _reads(split: GroupedSplit) -> str:
    return f"{split.path} ({split.rows} rows, {split.nbytes / 2**30:.2f} GiB)"
