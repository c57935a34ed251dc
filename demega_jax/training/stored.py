"""What a run folder holds of trained models, checked against all that was written beside it."""

import dataclasses
from pathlib import Path
from typing import Any

from flax import nnx

from demega_jax.config import Config
from demega_jax.model.parameters import TABLE, Arrays
from demega_jax.training.checkpoint import check_arrays, read_model, unflatten
from demega_jax.training.members import check_members
from demega_jax.training.meta import Meta
from demega_jax.training.run import RunFolder
from demega_jax.training.state import abstract


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """The models of a run folder. arrays, metas: of each, as `read_model` gives them."""

    config: Config
    graphdef: nnx.GraphDef
    arrays: tuple[Arrays, ...]
    metas: tuple[Meta, ...]
    trees: tuple[Any, ...]  # {"params", "buffers"} of each: nested dicts of its arrays


def read_run(path: Path) -> Stored:
    """The best checkpoint of each model of a run folder.

    UserError: there is none, or config.yaml, the members' configurations, the meta and the arrays of the checkpoints
    do not agree; the difference is named.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    check_members(config, folder)
    found, trees = [], []
    for member in folder.members(config):
        arrays, meta = read_model(member)
        # An imported model has a feature table of its own, perhaps for classes that ours does not know.
        graphdef, params, buffers = abstract(config.model, arrays.get(TABLE))
        shapes = {"params": params, "buffers": buffers}
        check_arrays(shapes, arrays, member.checkpoints)
        trees.append(unflatten(shapes, arrays, member.checkpoints))
        found.append((arrays, meta))
    every_array, metas = zip(*found, strict=True)
    return Stored(config, graphdef, every_array, metas, tuple(trees))
