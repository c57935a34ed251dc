"""`demega-jax train`: from arguments to a run folder."""

import argparse
import logging
import os
import time
import warnings
from typing import Any

import jax
from rich.console import Console

from demega_jax.commands.levels import parse_levels
from demega_jax.config import Config
from demega_jax.config.load import load_config, override, to_yaml
from demega_jax.data.open import open_training
from demega_jax.errors import UserError, warn
from demega_jax.evaluation.evaluate import validation_of
from demega_jax.evaluation.report import plot_training_curve
from demega_jax.files import cache_folder
from demega_jax.model.demega import parameter_count
from demega_jax.training.checkpoint import quiet_failed_saves, unflatten
from demega_jax.training.loop import Loop
from demega_jax.training.members import member_config, read_states, stack
from demega_jax.training.memory import step_memory
from demega_jax.training.parallel import make_placement
from demega_jax.training.run import RunFolder, default_run_path, resumed_config
from demega_jax.training.setup import Experiment, initialise_from, make_experiment, warn_of_no_learning
from demega_jax.training.signals import Interrupted, Signals
from demega_jax.training.state import TrainState
from demega_jax.training.writers import truncate_after


def asked_config(arguments: argparse.Namespace) -> Config:
    """The configuration of the file, the overrides, --data and --level."""
    config = load_config(arguments.config, arguments.overrides)
    given: dict[str, Any] = {}
    if arguments.data is not None:
        given["data.path"] = arguments.data
    if arguments.level is not None:
        given["data.level"] = parse_levels(arguments.level)
    config = override(config, given, "command line")
    paths = {"data.path": config.data.path, "data.regroup.splits": config.data.regroup.splits}
    return override(config, {key: os.path.abspath(path) for key, path in paths.items() if path}, "command line")


def set_numerics(config: Config) -> None:
    """Precision, determinism and the cache, for the whole process, before the devices are first used."""
    if config.train.matmul_precision != "default":
        jax.config.update("jax_default_matmul_precision", config.train.matmul_precision)
    if config.train.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        if "xla_gpu_deterministic_ops" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax says much that is no news
    quiet_failed_saves()
    remember_programs()


def remember_programs() -> None:
    """Keep compiled programs from run to run, unless JAX_COMPILATION_CACHE_DIR says where, or, empty, not to.

    A cache that cannot be read or written costs the compilation, and nothing else.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder("compiled")))
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")


def train_command(arguments: argparse.Namespace) -> int:
    """Train, resume, or say what would be done. Returns the exit status."""
    config = asked_config(arguments)
    folder = RunFolder(arguments.run or default_run_path(arguments.config))
    if arguments.resume:
        if arguments.run is None:
            raise UserError("--resume", "no --run", "the folder of the run to go on with", "give --run DIR")
        config = resumed_config(folder.read_config(), config, folder.path)
    elif not arguments.dry_run and folder.path.exists() and any(folder.path.iterdir()):
        folder.create(config)  # refuses, before anything slow
    set_numerics(config)
    data = open_training(config)
    placement = make_placement(arguments.parallel, arguments.devices, config.train.batch_size, config.train.accumulate)
    experiment = make_experiment(config, data, placement)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if arguments.dry_run:
        return dry_run(experiment, console)
    data.plan.check_spread(experiment.config.model.input_norm)
    state, metas = start_state(experiment, folder, arguments, console)
    warn_of_no_learning(experiment, 0 if metas is None else int(metas[0]["step"]))
    describe(experiment, folder, console)
    return run_to_end(experiment, folder, state, metas, console, resumed=arguments.resume)


def start_state(
    experiment: Experiment, folder: RunFolder, arguments: argparse.Namespace, console: Console
) -> tuple[TrainState, list[dict[str, Any]] | None]:
    """The state to begin from and the metas of its checkpoints: new, of another run, or restored."""
    state = experiment.placement.replicate(experiment.fresh_state())
    if arguments.resume:
        return restore(experiment, folder, state, console)
    if arguments.init is not None:
        state, line = initialise_from(RunFolder(arguments.init), state, experiment)
        console.print(line)
    folder.create(experiment.config)
    create_members(experiment.config, folder)
    return state, None


def create_members(config: Config, folder: RunFolder) -> None:
    """Folders and configurations of the run's members, where it has some."""
    for number, member in enumerate(folder.members(config)):
        if member.path != folder.path:
            member.report.mkdir(parents=True, exist_ok=True)
            member.write_config(member_config(config, number))


def restore(
    experiment: Experiment, folder: RunFolder, state: TrainState, console: Console
) -> tuple[TrainState, list[dict[str, Any]] | None]:
    """The newest checkpoint of the run that is whole for all members, logs cut back to it; the fresh state if none was
    saved."""
    folders = folder.members(experiment.config)
    found = read_states(folders)
    step = 0 if found is None else int(found[1][0]["step"])
    for member in folders:
        truncate_after(member.metrics, step)
    folder.write_config(experiment.config)
    create_members(experiment.config, folder)
    if found is None:
        warn(f"{folder.path} has no checkpoint yet: starting from the first step")
        return state, None
    rate = float(experiment.schedule(step))
    console.print(f"going on after step {step}, at a learning rate of {rate:.3g}")
    one = state if len(folders) == 1 else jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), state)
    states = [unflatten(one, arrays, member.checkpoints) for arrays, member in zip(found[0], folders, strict=True)]
    return experiment.placement.replicate(stack(states)), found[1]


def describe(experiment: Experiment, folder: RunFolder, console: Console) -> None:
    """What is about to run, in a few lines."""
    data, config, placement = experiment.data, experiment.config, experiment.placement
    for split in (data.train, data.validation):
        console.print(f"{split.name:<10} {split.describe()}")
    device = placement.mesh.devices.flat[0]
    console.print(
        f"{'model':<10} {parameters_of(experiment)} parameters, {config.model.encoder}, {config.model.dtype}, on "
        f"{placement.devices} x {device.device_kind} ({placement.mode})"
    )
    for line in data.plan.describe(placement.devices):
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


def run_to_end(
    experiment: Experiment, folder: RunFolder, state: TrainState, metas: list[dict[str, Any]] | None,
    console: Console, *, resumed: bool,
) -> int:  # fmt: skip
    """Step to the end or a signal, draw the curves, say what came out."""
    signals, began = Signals(), time.perf_counter()
    with signals.noted():
        loop = Loop(experiment, folder, state, metas, validation_of(experiment))
        try:
            standings = loop.run(resumed=resumed, signals=signals)
        except Interrupted as interrupted:
            console.print(f"interrupted and saved; go on with --run {folder.path} --resume")
            return interrupted.status
    reference = experiment.data.validation.reference_macro_f1
    classes_there = int((experiment.data.validation.class_counts() > 0).sum())
    against = f"chance {1 / classes_there:.4f}" + (f", reference {reference:.4f}" if reference is not None else "")
    console.print(f"trained in {time.perf_counter() - began:.0f} s")
    for member, standing in zip(folder.members(experiment.config), standings, strict=True):
        curve = plot_training_curve(
            member.metrics, member.report / "training_curve.png", title=folder.path.name, chance=1 / classes_there,
            reference=reference,
        )  # fmt: skip
        console.print(f"best validation macro-F1 {standing.best_macro_f1:.4f} at step {standing.best_step} ({against})")
        console.print(f"curve {curve}")
    console.print(f"next  demega-jax evaluate {folder.path}")
    return 0


def dry_run(experiment: Experiment, console: Console) -> int:
    """Print the resolved configuration, parameters, memory, steps and what would be read; change nothing."""
    config, data, placement = experiment.config, experiment.data, experiment.placement
    console.print(to_yaml(config), end="")
    shapes = jax.eval_shape(experiment.fresh_state)
    members = config.train.members
    state, batch = placement.abstract(shapes, data.plan.batch, config.train.batch_size, members)
    began = time.perf_counter()
    compiled = placement.compile_train(experiment.train_step, members=members > 1).lower(state, batch).compile()
    need = step_memory(compiled, state)
    rows = {
        "parameters": parameters_of(experiment),
        "steps": f"{experiment.total_steps}, {experiment.steps_per_epoch} an epoch, of {config.train.batch_size} rows",
        "memory": f"{need.total / 2**30:.2f} GiB on each of {placement.devices} devices, "
        f"of which state {need.kept / 2**20:.0f} MiB",
        "compiled in": f"{time.perf_counter() - began:.1f} s",
        "train": data.train.describe(), "validation": data.validation.describe(),
    }  # fmt: skip
    rows |= {line[:10].strip(): line[11:] for line in data.plan.describe(placement.devices)}
    for name, value in rows.items():
        console.print(f"# {name}: {value}")
    return 0
