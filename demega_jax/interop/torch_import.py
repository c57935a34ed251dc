"""From a checkpoint of the published PyTorch system to a run folder that evaluates and from which training goes on."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.errors import UserError, listed, warn
from demega_jax.files import check_new_folder
from demega_jax.interop.run_writer import aside_of
from demega_jax.interop.torch_file import Moments, TorchFile
from demega_jax.interop.torch_names import Arrays, Shape, check_shapes, from_state_dict, unused_shapes
from demega_jax.interop.torch_settings import Settings, config_from
from demega_jax.training.checkpoint import flatten, unflatten
from demega_jax.training.members import Member
from demega_jax.training.optimizer import ParameterGroups, make_optimizer
from demega_jax.training.run import RunFolder
from demega_jax.training.state import TrainState, build, initial_state

TABLE = "ipa_feature_matrix"


@dataclasses.dataclass(frozen=True)
class ImportedModel:
    """A converted model. params, buffers: nested dicts of arrays.  unused: names of tensors that the model never reads.

    moments: those of the optimizer in our layout, by path; None: the file has none that fit.
    """

    config: Config
    params: Any
    buffers: Any
    unused: tuple[str, ...]
    moments: Moments | None


def convert(file: TorchFile, changes: Settings) -> ImportedModel:
    """The model of a file. changes: keys of the configuration that win over what the file says.

    UserError: the tensors are not those of the configuration; the error names them.
    """
    config = _config(file, changes)
    model = config.model
    if model.sensors is None or model.time_points is None or model.classes is None:
        wanted = "sensors, time points and classes"
        raise UserError(file.path, "its configuration does not say them all", wanted, "set them after RUN")
    unused = unused_shapes(model)
    if not model.ipa_width:
        unused |= {TABLE: file.tensors[TABLE].shape} if TABLE in file.tensors else {}
    _check_finite(file)
    _, params, buffers = build(model, config.train.seed, _table(file, config))
    shapes = {path: array.shape for path, array in flatten(params | buffers).items()}
    arrays = from_state_dict(file.tensors, shapes, unused, file.path)
    return ImportedModel(
        config,
        unflatten(params, arrays, file.path),
        unflatten(buffers, arrays, file.path),
        tuple(sorted(unused.keys() & file.tensors.keys())),
        _our_moments(file, {path: shapes[path] for path in flatten(params)}, unused),
    )


def _config(file: TorchFile, changes: Settings) -> Config:
    where = f"{file.path} with {', '.join(changes)}" if changes else str(file.path)
    if file.config is None:
        config = config_from(file.hyperparameters, file.tensors, changes, where)
    else:
        config = override(file.config, changes, where)
    if config.train.members > 1:
        raise UserError(where, f"train.members={config.train.members}", "one model", "leave train.members out")
    return config


def _table(file: TorchFile, config: Config) -> np.ndarray | None:
    """The feature table, before the model is built: our own does not know every class. [V, F]"""
    if not config.model.ipa_width or TABLE not in file.tensors:
        return np.zeros((len(config.model.classes or ()), 1), np.float32)
    table = file.tensors[TABLE]
    features = table.shape[-1] if table.ndim else 0
    check_shapes({TABLE: table}, {TABLE: (len(config.model.classes or ()), features)}, file.path)
    return table


def _check_finite(file: TorchFile) -> None:
    broken = [name for name, tensor in file.tensors.items() if not np.isfinite(tensor).all()]
    if broken:
        came = f"values that are not finite in {len(broken)} tensors ({listed(broken)})"
        raise UserError(file.path, came, "finite numbers", "name a checkpoint from before training diverged")


def _our_moments(file: TorchFile, shapes: dict[str, Shape], unused: dict[str, Shape]) -> Moments | None:
    """The moments in our layout; those of the parameters that are not trained are zeros.

    An LSTM's bias is the sum of two of theirs, which have the same gradient: its moments are those of either one.
    """
    if file.moments is None:
        return None
    trees = []
    for theirs in (file.moments.first, file.moments.second):
        tensors = {name: np.zeros_like(tensor) for name, tensor in file.tensors.items() if name != TABLE} | theirs
        tensors |= {name: np.zeros_like(tensors[name]) for name in tensors if ".bias_hh_" in name}
        trees.append(from_state_dict(tensors, shapes, unused, file.path))
    return Moments(trees[0], trees[1], file.moments.updates)


def write_run(model: ImportedModel, file: TorchFile, run: Path) -> None:
    """Write a run folder with the checkpoints `latest` and `best`, as a whole or not at all.

    UserError: something is there already, or it cannot be written.
    """
    config = model.config
    if config.loss.class_weights != "none" and file.class_counts is None:
        warn(f"{file.path}: no counts of classes, so `evaluate` gives the loss with equal weights of the classes")
    if model.moments is None:
        warn(f"{file.path}: no state of the optimizer that fits, so `train --resume` begins with a new one")
    counts = file.class_counts or [1] * len(config.model.classes or ())
    meta = {"epoch": file.epoch, "feed": {"next_step": file.step}, "class_counts": counts}
    state = train_state(model, file.step)
    check_new_folder(run, "choose another RUN")
    with aside_of(run) as path:
        folder = RunFolder(path)
        folder.create(config)
        folder.metrics.touch()
        member = Member(folder, config, None, None, 0)
        with contextlib.closing(member.checkpoints):
            member.save("latest", state, meta)
            member.save("best", state, meta)


def train_state(model: ImportedModel, step: int) -> TrainState:
    """The state of a training run after so many steps, with the moments of the optimizer where there are any."""
    config, groups = model.config, ParameterGroups.of(model.config, model.params)
    tx = make_optimizer(config, lambda count: 0.0, groups)
    state = initial_state(config, model.params, model.buffers, tx, groups)
    values = flatten(state.opt_state)
    known: Arrays = {}
    if model.moments is not None:
        for kind, tree in (("mu", model.moments.first), ("nu", model.moments.second)):
            known[kind] = np.asarray(groups.vector(unflatten(model.params, tree, Path(kind))))
    updates = 0 if model.moments is None else model.moments.updates
    adam = {name.removesuffix(".mu") for name in values if name.endswith(".mu")}
    for name, value in values.items():
        place, _, last = name.rpartition(".")
        if last == "count":  # AdamW counts its own updates, for its bias correction; the schedule counts the steps
            values[name] = np.full_like(value, updates if place in adam else step)
        else:
            values[name] = known.get(last, value)
    opt_state = jax.tree.map(jax.numpy.asarray, unflatten(state.opt_state, values, Path("optimizer")))
    return dataclasses.replace(state, opt_state=opt_state, step=jax.numpy.asarray(step, jax.numpy.int32))
