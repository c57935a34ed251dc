"""From a run folder to the published PyTorch system's state dict, in a safetensors file."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import demega_jax
from demega_jax.config import Config
from demega_jax.errors import UserError, listed, warn
from demega_jax.files import output
from demega_jax.interop.torch_file import FORMAT
from demega_jax.interop.torch_names import Arrays, to_state_dict, unused_shapes
from demega_jax.interop.torch_settings import hyperparameters_of, not_computed_there
from demega_jax.training.run import RunFolder
from demega_jax.training.stored import read_run


@dataclasses.dataclass(frozen=True)
class Exported:
    """A state dict and what goes with it. unused: names of tensors that the published system only expects."""

    tensors: Arrays
    unused: tuple[str, ...]
    config: Config
    step: int
    epoch: float
    class_counts: list[int]


def export(run: Path) -> Exported:
    """The best checkpoint of a run as a state dict. UserError: the run has members, or the system has no such model."""
    check_exportable(run, RunFolder(run).read_config())
    stored = read_run(run)
    config, (arrays,), (meta,) = stored.config, stored.arrays, stored.metas
    ours = {name.partition(".")[2]: np.asarray(array, np.float32) for name, array in arrays.items()}
    tensors, unused = to_state_dict(ours), unused_shapes(config.model)
    # Its `load_state_dict` wants them all. What a new LayerNorm has; a classifier that nobody reads has zeros.
    for name, shape in unused.items():
        tensors[name] = np.full(shape, float(name == "feature_norm.weight"), np.float32)
    return Exported(tensors, tuple(unused), config, int(meta["step"]), float(meta["epoch"]), list(meta["class_counts"]))


def check_exportable(run: Path, config: Config) -> None:
    """UserError: the run has members, or a model without a counterpart in the published system."""
    if config.train.members > 1:
        way_out = f"name {run / 'members' / '0'}, or another of its {config.train.members} members"
        raise UserError(run, "a training run with several members", "the folder of one model", way_out)
    if config.model.pool != "flatten":
        came = f"model.pool={config.model.pool}, which the published system does not have"
        raise UserError(run, came, "model.pool=flatten", "name another run")


def write(exported: Exported, path: Path) -> None:
    """Write the safetensors file by an atomic write. Its metadata hold the configuration as JSON.

    demega_jax: format, configuration, step, epoch and class counts.  hyper_parameters: those of the published system.
    UserError: it cannot be written.
    """
    if different := not_computed_there(exported.config):
        warn(f"the published system computes something else than this model has: {listed(different, 10)}")
    config = exported.config.model_dump(mode="json")
    ours = {"format": FORMAT, "version": demega_jax.__version__, "config": config, "step": exported.step}
    ours |= {"epoch": exported.epoch, "class_counts": exported.class_counts}
    metadata = {
        "format": "pt",
        "demega_jax": json.dumps(ours),
        "hyper_parameters": json.dumps(hyperparameters_of(exported.config)),
    }
    with output(path, "choose another FILE") as aside:
        aside.write_bytes(save(exported.tensors, metadata))
