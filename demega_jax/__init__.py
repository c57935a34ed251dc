"""DeMEGa in JAX: phoneme classification from magnetoencephalography at accelerator speed.

Names are imported when they are first used, so that `import demega_jax` is fast.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not see `__getattr__`
    from demega_jax.api.benchmark import benchmark as benchmark
    from demega_jax.api.evaluate import evaluate as evaluate
    from demega_jax.api.group import group as group
    from demega_jax.api.predict import predict as predict
    from demega_jax.api.train import train as train
    from demega_jax.config import Config as Config
    from demega_jax.config import ModelConfig as ModelConfig
    from demega_jax.data.open import open_levels as open_levels
    from demega_jax.data.own.bids import from_bids as from_bids
    from demega_jax.data.own.epochs import from_epochs as from_epochs
    from demega_jax.data.own.write import write_grouped as write_grouped
    from demega_jax.data.recordings.write import write_recording as write_recording
    from demega_jax.errors import UserError as UserError
    from demega_jax.interop.estimator import DemegaClassifier as DemegaClassifier
    from demega_jax.interop.hub import load as load
    from demega_jax.model.demega import DeMEGa as DeMEGa
    from demega_jax.model.demega import Outputs as Outputs

__version__ = "0.1.0"

_EXPORTS = {
    "Config": "demega_jax.config",
    "DeMEGa": "demega_jax.model.demega",
    "DemegaClassifier": "demega_jax.interop.estimator",
    "ModelConfig": "demega_jax.config",
    "Outputs": "demega_jax.model.demega",
    "UserError": "demega_jax.errors",
    "benchmark": "demega_jax.api.benchmark",
    "evaluate": "demega_jax.api.evaluate",
    "from_bids": "demega_jax.data.own.bids",
    "from_epochs": "demega_jax.data.own.epochs",
    "group": "demega_jax.api.group",
    "load": "demega_jax.interop.hub",
    "open_levels": "demega_jax.data.open",
    "predict": "demega_jax.api.predict",
    "train": "demega_jax.api.train",
    "write_grouped": "demega_jax.data.own.write",
    "write_recording": "demega_jax.data.recordings.write",
}

__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'demega_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
