"""What `train` says before it begins: data, model, memory and steps."""

import time

import jax
from rich.console import Console

from demega_jax.config.load import to_yaml
from demega_jax.console import new_console
from demega_jax.files import format_bytes
from demega_jax.model.demega import parameter_count
from demega_jax.training.memory import step_memory
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment, note_of_heads


def make_console() -> Console:
    """The console of a training run, on which a line stays one line for any width."""
    return new_console(soft_wrap=True)


def describe(experiment: Experiment, folder: RunFolder, console: Console) -> None:
    """Print in a few lines what is about to be trained."""
    data, config, placement = experiment.data, experiment.config, experiment.placement
    for split in (data.train, data.validation):
        console.print(f"{split.name:<10} {split.describe()}")
    device = placement.mesh.devices.flat[0]
    console.print(
        f"{'model':<10} {parameters_of(experiment)} parameters, {config.model.encoder}, {config.model.dtype}, on "
        f"{placement.devices} x {device.device_kind} ({placement.mode})"
    )
    if note := note_of_heads(config):
        console.print(f"{'':<10} {note}")
    for line in data.plan.describe(placement.devices):
        console.print(line)
    console.print(
        f"{'run':<10} {experiment.total_steps} steps of {config.train.batch_size} rows, {experiment.steps_per_epoch} "
        f"an epoch: {folder.path}"
    )


def parameters_of(experiment: Experiment) -> str:
    """The number of parameters, such as `1,234`, or with members `5 x 1,234`."""
    members = experiment.config.train.members
    count = parameter_count(jax.eval_shape(experiment.fresh_state).params) // members
    return f"{members} x {count:,}" if members > 1 else f"{count:,}"


def print_plan(experiment: Experiment) -> None:
    """Print the configuration with every key, parameters, memory, steps and data. Nothing is written."""
    config, data, placement = experiment.config, experiment.data, experiment.placement
    console = make_console()
    console.print(to_yaml(config), end="")
    shapes = jax.eval_shape(experiment.fresh_state)
    members = config.train.members
    state, batch = placement.abstract(shapes, data.plan.batch, data.plan.placed_rows(placement), members)
    began = time.perf_counter()
    compiled = placement.compile_train(experiment.train_step, members=members > 1).lower(state, batch).compile()
    need = step_memory(compiled, state)
    rows = {
        "parameters": parameters_of(experiment),
        "steps": f"{experiment.total_steps}, {experiment.steps_per_epoch} an epoch, of {config.train.batch_size} rows",
        "memory": f"{format_bytes(need.total)} on each of {placement.devices} devices, of which state "
        f"{format_bytes(need.kept)}",
        "compiled in": f"{time.perf_counter() - began:.1f} s",
        "train": data.train.describe(),
        "validation": data.validation.describe(),
    }
    rows |= {line[:10].strip(): line[11:] for line in data.plan.describe(placement.devices)}
    if note := note_of_heads(config):
        rows["heads"] = note
    for name, value in rows.items():
        console.print(f"# {name}: {value}")
