"""The configuration: frozen, validated sections (schema), YAML and overrides (load), the page of every key (page)."""

from demega_jax.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RegroupConfig,
    ReportConfig,
    Section,
    TrainConfig,
)

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "RegroupConfig",
    "ReportConfig",
    "Section",
    "TrainConfig",
]
