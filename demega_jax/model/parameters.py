"""The arrays of a model by dotted path, such as `params.encoder.layers.0.attention.query.kernel`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from demega_jax.config import ModelConfig
from demega_jax.errors import UserError, listed
from demega_jax.model.demega import DeMEGa

Arrays = dict[str, np.ndarray]
TABLE = "buffers.feature_table"


def flatten(tree: Any) -> Arrays:
    """{dotted path: array on the host} of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="."): np.asarray(leaf) for p, leaf in leaves}


def split_model(model: DeMEGa) -> tuple[Any, Any, Any]:
    """(graphdef, params, buffers) of a model: its static part, and nested dicts of arrays."""
    graphdef, *states = nnx.split(model, nnx.Param, ...)
    params, buffers = (nnx.to_pure_dict(state) for state in states)
    return graphdef, params, buffers


def model_of(config: ModelConfig, arrays: Mapping[str, np.ndarray], where: Path | str) -> DeMEGa:
    """A model with these arrays. UserError: one is missing or too many, or has another shape or type."""
    classes = len(config.classes or ())
    table = arrays.get(TABLE)
    if table is not None and (table.ndim != 2 or len(table) != classes):
        raise _unfit(where, f"{TABLE} has shape {list(table.shape)}", f"{classes} rows, one for each class")
    graphdef, *trees = split_model(DeMEGa(config, rngs=np.random.default_rng(0), features=table))
    tree = dict(zip(("params", "buffers"), trees, strict=True))
    wanted = flatten(tree)
    missing, extra = sorted(wanted.keys() - arrays.keys()), sorted(arrays.keys() - wanted.keys())
    if missing or extra:
        parts = [f"{len(names)} {what} ({listed(names, 3)})" for what, names in _named(missing, extra) if names]
        raise _unfit(where, " and ".join(parts), f"the {len(wanted)} arrays of the model that the configuration says")
    for name, array in wanted.items():
        if arrays[name].shape != array.shape or arrays[name].dtype.kind != array.dtype.kind:
            came = f"{name} is {arrays[name].dtype} of shape {list(arrays[name].shape)}"
            raise _unfit(where, came, f"{array.dtype} of shape {list(array.shape)}")
    values = [arrays[name].astype(array.dtype, copy=False) for name, array in wanted.items()]
    filled = jax.tree.unflatten(jax.tree.structure(tree), [jax.numpy.asarray(value) for value in values])
    return nnx.merge(graphdef, filled["params"], filled["buffers"])


def _named(missing: list[str], extra: list[str]) -> tuple[tuple[str, list[str]], ...]:
    return ("arrays are missing", missing), ("arrays are too many", extra)


def _unfit(where: Path | str, came: str, wanted: str) -> UserError:
    return UserError(where, came, wanted, "use the configuration and the arrays of the same model")
