"""The configuration that a command line asks for: that of a file or a training run, with changes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demega_jax.commands.shared.lists import PUBLISHED_LEVELS, numbers
from demega_jax.config import Config, DataConfig
from demega_jax.config.load import override, parse_overrides
from demega_jax.data.folder import data_folder, find_level, find_levels, is_recorded
from demega_jax.errors import UserError, warn
from demega_jax.training.run import RunFolder


def changed(config: Config, overrides: Sequence[str], options: Mapping[str, tuple[str, Any]]) -> Config:
    """A configuration with the changes of a command line.

    overrides: words such as `section.key=value`.  options: `{"section.key": (option, value)}`, where the value is None
    if the option is not given.  UserError: an option and an override set the same key.
    """
    given: dict[str, str] = {}
    for text in overrides:
        key, _, value = text.partition("=")
        key = key.strip()
        if given.get(key, value) != value:
            warn(f"{key} is given twice, as {given[key]} and as {value}: the last one is used")
        given[key] = value
    changes = parse_overrides(overrides)
    for key, (option, value) in options.items():
        if value is None:
            continue
        if key in changes:
            came = f"given as {value}, and the key {key}={given[key]} says the same thing"
            raise UserError(option, came, "only one of the two", f"leave out {option} or {key}")
        changes[key] = value
    return override(config, changes, "command line")


def absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths, so that a run folder can be used from anywhere."""
    data = config.data
    paths = {"data.path": data.path, "data.regroup.splits": data.regroup.splits}
    paths |= {"data.pseudo.windows": data.pseudo.windows, "data.pseudo.predictions": data.pseudo.predictions}
    return override(config, {key: os.path.abspath(path) for key, path in paths.items() if path}, "command line")


def levels_there(data: DataConfig) -> Sequence[int]:
    """The levels that `all` and ranges stand for: those of the data; the published ones of recordings or no data."""
    if data.path is None or is_recorded(Path(data.path), data.feed):
        return PUBLISHED_LEVELS
    return sorted(find_levels(Path(data.path)))


def with_levels(config: Config, items: Sequence[str] | None, overrides: Sequence[str], at: DataConfig) -> Config:
    """The configuration with the levels of `--level`.

    at: the data in which `all` and ranges look for levels.  UserError: an override sets data.level beside --level.
    """
    if not items:
        return config
    if any(text.partition("=")[0] == "data.level" for text in overrides):
        raise UserError("--level", "given beside data.level", "only one of the two", "leave out --level or data.level")
    asked = numbers("--level", items, lambda: levels_there(at))
    return override(config, {"data.level": asked if len(asked) > 1 else asked[0]}, "command line")


def check_levels(config: Config) -> None:
    """UserError: no data folder, or a level that it does not have."""
    folder = data_folder(config.data.path)
    if not is_recorded(folder, config.data.feed):
        for level in config.data.levels or (None,):
            find_level(folder, level)


def asked_data(run: Path, data: str | None, level: Sequence[str] | None) -> Config:
    """The configuration of a training run with the data that a command line asks for. UserError: they are not there."""
    config = changed(RunFolder(run).read_config(), (), {"data.path": ("--data", data)})
    config = with_levels(config, level, (), config.data)
    check_levels(config)
    return config
