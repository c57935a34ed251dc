"""The published system's tiny classifier as the content of a file: its state dict and its hyperparameters."""

import json
from pathlib import Path

import numpy as np
from torch_weights import part

from demega_jax.interop.torch_file import TorchFile
from demega_jax.interop.torch_import import convert, write_run

VARIANTS: dict[str, dict[str, object]] = {
    "pre": {},
    "post": {"norm_type": "post"},
    "lstm": {"use_conformer": False},
    "ipa_cosine": {"use_ipa_similarity_classification": True, "ipa_similarity_metric": "cosine"},
    "ipa_dot": {"use_ipa_similarity_classification": True, "ipa_similarity_metric": "dot"},
    "ipa_hamming": {"use_ipa_similarity_classification": True, "ipa_similarity_metric": "hamming"},
}
NOT_THEIRS = ("head_lr_multiplier", "clip")  # names of golden/README in the golden file's settings


def tiny_file(numbers: dict, variant: str = "pre", **hyperparameters: object) -> TorchFile:
    """What a checkpoint of a variant would hold, with these hyperparameters changed."""
    settings = json.loads(str(numbers["config"]))
    theirs = {name: value for name, value in settings.items() if name not in NOT_THEIRS}
    theirs |= {"vocab_size": 39, **VARIANTS[variant], **hyperparameters}
    return TorchFile(Path("tiny.ckpt"), part(numbers, f"{variant}/w/"), theirs, step=40, epoch=10.0)


def tiny_run(numbers: dict, folder: Path, variant: str = "pre", **changes: object) -> Path:
    """A run folder that was made of it, with keys of the configuration changed, such as `train__batch_size`."""
    file = tiny_file(numbers, variant)
    write_run(convert(file, {key.replace("__", "."): value for key, value in changes.items()}), file, folder)
    return folder


def without(file_tensors: dict[str, np.ndarray], *fragments: str) -> dict[str, np.ndarray]:
    """The tensors whose names hold none of these fragments."""
    return {name: a for name, a in file_tensors.items() if not any(each in name for each in fragments)}
