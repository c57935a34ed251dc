"""What `train` does once its options are checked and jax is there: begin or restore, step to the end, say what came."""

import shlex
import time
from pathlib import Path
from typing import Any, Literal

import jax
from rich.console import Console

from demega_jax.commands.train_describe import describe, make_console, print_plan
from demega_jax.config import Config
from demega_jax.errors import warn
from demega_jax.evaluation.report import plot_training_curve
from demega_jax.training.checkpoint import quiet_failed_saves, unflatten
from demega_jax.training.loop import Loop
from demega_jax.training.members import member_config, read_states, stack
from demega_jax.training.parallel import make_placement
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment, initialise_from, make_experiment, open_data
from demega_jax.training.signals import Interrupted, Signals
from demega_jax.training.state import TrainState
from demega_jax.training.writers import truncate_after

__all__ = ["begin", "make", "print_plan"]


def make(config: Config, parallel: Literal["jit", "pmap"], devices: int | None) -> Experiment:
    """The experiment of a configuration: its data opened, its devices chosen. devices: None for all."""
    data = open_data(config)
    placement = make_placement(parallel, devices, config.train.batch_size, config.train.accumulate)
    return make_experiment(config, data, placement)


def begin(experiment: Experiment, folder: RunFolder, init: Path | None, go_on: str, *, resume: bool) -> int:
    """Train in a run folder. go_on: the command that goes on after an interruption. Returns the exit status."""
    quiet_failed_saves()
    console = make_console()
    state, metas = start_state(experiment, folder, init, console, resume=resume)
    describe(experiment, folder, console)
    return run_to_end(experiment, folder, state, metas, console, go_on, resumed=resume)


def start_state(
    experiment: Experiment, folder: RunFolder, init: Path | None, console: Console, *, resume: bool
) -> tuple[TrainState, list[dict[str, Any]] | None]:
    """The state to begin from and the metas of its checkpoints: new, of another run, or restored."""
    state = experiment.placement.replicate(experiment.fresh_state())
    if resume:
        return restore(experiment, folder, state, console)
    if init is not None:
        state, line = initialise_from(RunFolder(init), state, experiment)
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
    console.print(f"going on after step {step}")
    one = state if len(folders) == 1 else jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), state)
    states = [unflatten(one, arrays, member.checkpoints) for arrays, member in zip(found[0], folders, strict=True)]
    return experiment.placement.replicate(stack(states)), found[1]


def run_to_end(
    experiment: Experiment, folder: RunFolder, state: TrainState, metas: list[dict[str, Any]] | None,
    console: Console, go_on: str, *, resumed: bool,
) -> int:  # fmt: skip
    """Step to the end or a signal, draw the curves, say what came out."""
    signals, began = Signals(), time.perf_counter()
    with signals.noted():
        loop = Loop(experiment, folder, state, metas)
        try:
            standings = loop.run(resumed=resumed, signals=signals)
        except Interrupted as interrupted:
            console.print(f"interrupted and saved; go on with\n  {go_on}")
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
    console.print(f"next  {shlex.join(['demega-jax', 'evaluate', str(folder.path)])}")
    return 0
