"""Files of models for PyTorch: Lightning checkpoints, which torch reads, and safetensors files of export-torch."""

import dataclasses
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from demega_jax.config import Config
from demega_jax.config.load import validated
from demega_jax.errors import NEWER, UserError, install
from demega_jax.interop.torch_names import Arrays
from demega_jax.reading import parse_json

FORMAT = 1  # of the metadata of a safetensors file
WANTED = "a checkpoint that Lightning wrote, or a .safetensors file that `demega-jax export-torch` wrote"
WAY_OUT = "name such a file"
# What torch.load raises for files that are damaged or no checkpoints, beside pickle.UnpicklingError.
DAMAGE = (
    RuntimeError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OSError,
    AssertionError,
    OverflowError,
    struct.error,
)

# The modules in the order of the optimizer's groups. The final LayerNorm is in none.
OPTIMIZED = (
    "input_projection",
    "input_skip",
    "meg_encoder",
    "feature_aggregator",
    "classifier",
    "projection_head",
    "ipa_predictor",
)


@dataclasses.dataclass(frozen=True)
class Moments:
    """The state of AdamW: its two moments by the name of the tensor, and the number of updates."""

    first: Arrays
    second: Arrays
    updates: int


@dataclasses.dataclass(frozen=True)
class TorchFile:
    """What a file holds, as numpy arrays and plain values.

    hyperparameters: of the published system.  config: ours instead, in a file that export-torch wrote.
    class_counts: rows of each class in its training split.  moments: of the optimizer.  None: the file has none.
    """

    path: Path
    tensors: Arrays
    hyperparameters: Mapping[str, object]
    config: Config | None = None
    step: int = 0
    epoch: float = 0.0
    class_counts: list[int] | None = None
    moments: Moments | None = None


def read(path: Path) -> TorchFile:
    """Read a .ckpt or a .safetensors file. UserError: it is neither, is damaged, needs code, or torch is missing."""
    return read_safetensors(path) if path.suffix == ".safetensors" else read_lightning(path)


def read_safetensors(path: Path) -> TorchFile:
    """Read a file that `export-torch` wrote. UserError: it is another one, or its format is newer."""
    try:
        with safe_open(path, framework="numpy") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(path, f"it cannot be read ({_brief(error)})", WANTED, WAY_OUT) from None
    if "demega_jax" not in meta:
        raise UserError(path, "no configuration in its metadata", WANTED, WAY_OUT)
    try:
        ours = parse_json(meta["demega_jax"])
        if ours["format"] > FORMAT:
            raise UserError(path, f"format {ours['format']}", f"format {FORMAT} or older", NEWER)
        config, step, epoch = ours["config"], int(ours["step"]), float(ours["epoch"])
        counts = [int(count) for count in ours["class_counts"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(path, f"metadata that cannot be read ({_brief(error)})", WANTED, WAY_OUT) from None
    return TorchFile(path, tensors, {}, validated(config, str(path)), step, epoch, counts)


def read_lightning(path: Path) -> TorchFile:
    """Read a Lightning checkpoint with torch, which takes tensors and plain values from it and executes nothing.

    UserError: it is something else, is damaged, needs code, or torch is missing.
    """
    torch = _torch(path)
    content = _loaded(torch, path)
    state = content.get("state_dict") if isinstance(content, dict) else None
    hyper = content.get("hyper_parameters") if isinstance(content, dict) else None
    named = isinstance(hyper, Mapping) and all(isinstance(name, str) for name in hyper)
    if not _are_tensors(torch, state) or not named:
        raise UserError(path, "no state_dict and hyper_parameters in it", WANTED, WAY_OUT)
    assert isinstance(content, dict) and isinstance(state, Mapping) and isinstance(hyper, Mapping)
    tensors = {name: _array(tensor) for name, tensor in state.items()}
    step, epoch = content.get("global_step", 0), content.get("epoch", 0)
    if not isinstance(step, int) or not isinstance(epoch, int):
        raise UserError(path, f"global_step is {step!r} and epoch {epoch!r}", "whole numbers", WAY_OUT)
    moments = _moments(torch, content.get("optimizer_states"), tensors)
    return TorchFile(path, tensors, hyper, step=step, epoch=float(epoch), moments=moments)


def _torch(path: Path) -> ModuleType:
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        came, wanted = "PyTorch, which reads this file, is not installed", "the package torch"
        raise UserError(path, came, wanted, install("torch")) from None
    return torch


def _loaded(torch: ModuleType, path: Path) -> object:
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        code = re.search(r"Unsupported (?:global|class)\S*(?: GLOBAL)? (\S+)", str(error))
        if code is None:
            raise UserError(path, "it is not a checkpoint, or it is damaged", WANTED, WAY_OUT) from None
        came = f"it holds an object of {code[1]}, which only its own code could make; code is never executed"
        way_out = "save it again with tensors, numbers, text, lists and dictionaries alone"
        raise UserError(path, came, "a checkpoint that torch.load reads with weights_only=True", way_out) from None
    except DAMAGE as error:
        came = f"it is not a checkpoint, or it is damaged ({_brief(error)})"
        raise UserError(path, came, WANTED, WAY_OUT) from None


def _are_tensors(torch: ModuleType, state: object) -> bool:
    """Whether this is a state dict: tensors by name."""
    if not isinstance(state, Mapping):
        return False
    return all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items())


def _array(tensor: Any) -> np.ndarray:
    """A tensor as float32, also where it is in half precision; on the host."""
    return tensor.detach().float().numpy()


def _moments(torch: ModuleType, states: object, tensors: Arrays) -> Moments | None:
    """The moments of the only optimizer, which numbers the parameters by its groups.

    A parameter without a gradient has no moments yet: zeros. None: there is no optimizer, or what it holds does not
    have the shapes of these tensors.
    """
    names = [name for module in OPTIMIZED for name in tensors if name.startswith(f"{module}.")]
    if not isinstance(states, list) or len(states) != 1:
        return None
    state: Any = states[0]
    try:
        order = [number for group in state["param_groups"] for number in group["params"]]
        found = {name: state["state"].get(number) for name, number in zip(names, order, strict=True)}
        updates = {int(entry["step"]) for entry in found.values() if entry}
        first, second = (
            {name: _array(e[kind]) if e else np.zeros_like(tensors[name]) for name, e in found.items()}
            for kind in ("exp_avg", "exp_avg_sq")
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    fits = all(tree[name].shape == tensors[name].shape for tree in (first, second) for name in names)
    return Moments(first, second, updates.pop()) if fits and len(updates) == 1 else None


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
