"""The original system's tiny classifier with its own weights."""

import json

from flax import nnx
from torch_weights import load, part

from demega_jax.config import ModelConfig
from demega_jax.interop.torch_names import unused_shapes
from demega_jax.model.demega import DeMEGa
from demega_jax.phonemes import PHONEMES

VARIANTS = {
    "pre": {},
    "post": dict(norm="post"),
    "lstm": dict(encoder="lstm"),
    "ipa_cosine": dict(classifier="ipa_cosine"),
    "ipa_dot": dict(classifier="ipa_dot"),
    "ipa_hamming": dict(classifier="ipa_hamming"),
}


def tiny_config(numbers: dict, **changes) -> ModelConfig:
    """The golden file's own settings under our names."""
    theirs = json.loads(str(numbers["config"]))
    return ModelConfig(
        sensors=theirs["meg_channels"],
        time_points=theirs["time_points"],
        classes=PHONEMES,
        width=theirs["hidden_dim"],
        layers=theirs["num_conformers"],
        heads=theirs["num_heads"],
        embedding_width=theirs["embedding_dim"],
        projection_width=theirs["projection_dim"],
        ipa_width=theirs["ipa_hidden_dim"],
        dropout=theirs["dropout_rate"],
        **changes,
    )


def golden_model(numbers: dict, variant: str, weights: str | None = None) -> DeMEGa:
    """Our model with the golden weights of a variant. The original keeps two modules that it never uses."""
    model = DeMEGa(tiny_config(numbers, **VARIANTS[variant]), rngs=nnx.Rngs(0), features=numbers["ipa_matrix"])
    load(model, part(numbers, weights or f"{variant}/w/"), unused_shapes(model.config))
    return model
