"""DeMEGa in JAX: phoneme classification from magnetoencephalography at accelerator speed.

Names are imported when they are first used, so that `import demega_jax` is fast.
"""

import importlib

__version__ = "0.1.0"

_EXPORTS = {
    "DeMEGa": "demega_jax.model.demega",
    "DemegaClassifier": "demega_jax.interop.estimator",
    "ModelConfig": "demega_jax.config",
    "Outputs": "demega_jax.model.demega",
    "UserError": "demega_jax.errors",
    "from_epochs": "demega_jax.data.own.epochs",
    "load": "demega_jax.interop.hub",
    "open_levels": "demega_jax.data.open",
    "write_grouped": "demega_jax.data.own.write",
}

__all__ = [
    "DeMEGa", "DemegaClassifier", "ModelConfig", "Outputs", "UserError", "__version__", "from_epochs", "load",
    "open_levels", "write_grouped",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'demega_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
