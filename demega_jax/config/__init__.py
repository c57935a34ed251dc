"""The configuration: frozen, validated sections (schema), YAML and overrides (load), the page of every key (page)."""

from demega_jax.config.data import AugmentConfig as AugmentConfig
from demega_jax.config.data import DataConfig as DataConfig
from demega_jax.config.data import PseudoConfig as PseudoConfig
from demega_jax.config.data import RegroupConfig as RegroupConfig
from demega_jax.config.data import WindowsConfig as WindowsConfig
from demega_jax.config.model import LossConfig as LossConfig
from demega_jax.config.model import ModelConfig as ModelConfig
from demega_jax.config.schema import Config as Config
from demega_jax.config.section import Section as Section
from demega_jax.config.stack import StackConfig as StackConfig
from demega_jax.config.train import OptimConfig as OptimConfig
from demega_jax.config.train import ReportConfig as ReportConfig
from demega_jax.config.train import TrainConfig as TrainConfig
