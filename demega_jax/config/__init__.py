"""The configuration: frozen, validated sections (schema), YAML and overrides (load), the page of every key (page)."""

from demega_jax.config.schema import AugmentConfig as AugmentConfig
from demega_jax.config.schema import Config as Config
from demega_jax.config.schema import DataConfig as DataConfig
from demega_jax.config.schema import LossConfig as LossConfig
from demega_jax.config.schema import ModelConfig as ModelConfig
from demega_jax.config.schema import OptimConfig as OptimConfig
from demega_jax.config.schema import RegroupConfig as RegroupConfig
from demega_jax.config.schema import ReportConfig as ReportConfig
from demega_jax.config.schema import Section as Section
from demega_jax.config.schema import TrainConfig as TrainConfig
