"""The state that a training run begins from: new, with the parameters of another run, or from a checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from demega_jax.config import Config
from demega_jax.errors import UserError, warn
from demega_jax.training.checkpoint import check_arrays, flatten, unflatten
from demega_jax.training.members import check_members, drop_after, member_config, read_states, stack
from demega_jax.training.meta import Meta, check_config
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment
from demega_jax.training.state import TrainState
from demega_jax.training.stored import read_run
from demega_jax.training.writers import check_log, truncate_after


def start_state(
    experiment: Experiment, folder: RunFolder, init: Path | None, say: Callable[[str], None], *, resume: bool
) -> tuple[TrainState, list[Meta] | None]:
    """The state to begin from, and the metas of its checkpoints where it is restored. say: shows a line of text."""
    state = experiment.placement.replicate(experiment.fresh_state())
    if resume:
        return restore(experiment, folder, state, say)
    if init is not None:
        state, line = initialise_from(RunFolder(init), state, experiment)
        say(line)
    folder.create(experiment.config)
    create_members(experiment.config, folder)
    return state, None


def create_members(config: Config, folder: RunFolder) -> None:
    """Make the folders and configurations of the members, where there are several."""
    for number, member in enumerate(folder.members(config)):
        if member.path != folder.path:
            member.report.mkdir(parents=True, exist_ok=True)
            member.write_config(member_config(config, number))


def restore(
    experiment: Experiment, folder: RunFolder, state: TrainState, say: Callable[[str], None]
) -> tuple[TrainState, list[Meta] | None]:
    """The newest checkpoint that all members have, with logs cut back to it; the fresh state if none was saved."""
    folders, saved = folder.members(experiment.config), folder.read_config()
    check_members(saved, folder)
    found = read_states(folders)
    step = 0 if found is None else int(found[1][0]["step"])
    one = state if len(folders) == 1 else jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), state)
    states = []
    # Everything is checked before anything is cut back.
    for number, (member, arrays, meta) in enumerate(zip(folders, *found, strict=True) if found is not None else ()):
        check_config(member_config(saved, number) if len(folders) > 1 else saved, meta, member)
        check_arrays(one, arrays, member.checkpoints)
        check_log(member.metrics, step, meta.get("log"))
        states.append(unflatten(one, arrays, member.checkpoints))
    for member in folders:
        drop_after(member, step)
        truncate_after(member.metrics, step)
    folder.write_config(experiment.config)
    create_members(experiment.config, folder)
    if found is None:
        warn(f"{folder.path} has no checkpoint yet: training starts from the first step")
        return state, None
    rate = float(experiment.schedule(step))
    say(f"going on after step {step}, at a learning rate of {rate:.3g}")
    return experiment.placement.replicate(stack(states)), found[1]


def initialise_from(run: RunFolder, state: TrainState, experiment: Experiment) -> tuple[TrainState, str]:
    """`state` with the parameters of another training run (averages, where it has them), and a line that says which.

    Every member takes the parameters that have the same path and shape. Others, such as heads for other classes, stay
    new. Where the classes are the same, their feature table comes along: an imported model has one of its own.
    UserError: that run has members, or no such parameters.
    """
    if run.read_config().train.members > 1:
        way_out = f"use --init {run.path / 'members' / '0'}"
        raise UserError(run.path, "a training run with several members", "the folder of one of them", way_out)
    stored = read_run(run.path)
    config, theirs = stored.config, stored.arrays[0]
    ours = flatten({"params": state.params})
    front = () if experiment.config.train.members == 1 else (experiment.config.train.members,)
    taken = {
        name: np.broadcast_to(theirs[name], array.shape)
        for name, array in ours.items()
        if name in theirs and (*front, *theirs[name].shape) == array.shape
    }
    if not taken:
        came, way_out = "no parameter has the path and shape of one of this model", "use another --init, or none"
        raise UserError(run.path, came, "a training run of a similar model", way_out)
    params = unflatten({"params": state.params}, ours | taken, run.path)["params"]
    new = sorted({name.removeprefix("params.").rpartition(".")[0] for name in ours if name not in taken})
    line = f"{len(taken)} of {len(ours)} parameters from {run.path}" + (f"; new: {', '.join(new)}" if new else "")
    average = None if state.average is None else jax.tree.map(np.copy, params)
    buffers = dict(state.buffers)
    table = theirs.get("buffers.feature_table")
    if table is not None and config.model.classes == experiment.config.model.classes and "feature_table" in buffers:
        if (*front, *table.shape) == buffers["feature_table"].shape:
            buffers["feature_table"] = np.broadcast_to(table, buffers["feature_table"].shape)
    params, average, buffers = experiment.placement.replicate((params, average, buffers))
    return dataclasses.replace(state, params=params, average=average, buffers=buffers), line
