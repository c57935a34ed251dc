"""A configuration as Python gives it: an object, a file, the name of one of ours, or sections as a mapping."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demega_jax.config import Config
from demega_jax.config.load import load_config, validated
from demega_jax.files import expanded

ConfigLike = str | Path | Config | Mapping[str, Any]
OURS = Path(__file__).parents[2] / "configs"  # of a checkout


def config_file(given: str | Path) -> Path:
    """The YAML file of a path, or of a name such as `demo`, for which `configs/demo.yaml` is looked up here and in the
    checkout of the package. Where there is none, the path as it was given."""
    path = Path(expanded(str(given)))
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    for folder in (Path("configs"), OURS):
        if (found := folder / f"{path}.yaml").is_file():
            return found
    return path


def read_given(given: ConfigLike | None, where: str) -> Config:
    """The configuration that is given; None: the defaults. where: for errors. UserError: it is not there, or wrong."""
    if given is None or isinstance(given, Mapping):
        return validated(given or {}, where)
    return given if isinstance(given, Config) else load_config(config_file(given))
