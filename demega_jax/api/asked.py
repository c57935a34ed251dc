"""The configuration that a command line or Python asks for: that of a file or a training run, with changes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demega_jax.api.lists import PUBLISHED_LEVELS, numbers
from demega_jax.config import Config, DataConfig
from demega_jax.config.kinds import shown
from demega_jax.config.load import override, parse_overrides
from demega_jax.data.folder import data_folder, find_level, find_levels, is_recorded
from demega_jax.errors import UserError, warn
from demega_jax.training.run import RunFolder

Changes = Mapping[str, Any] | Sequence[str]
Levels = int | str | Sequence[int | str]


def level_words(level: Levels | None) -> list[str]:
    """Levels as the option --level takes them: 20, `[5, 20]`, "5-100" and "all" are ways to write them."""
    items = [] if level is None else [level] if isinstance(level, int | str) else list(level)
    return [word.strip() for item in items for word in str(item).split(",")]


def _changes(changes: Changes) -> dict[str, Any]:
    """`{"section.key": value}`, also of words `section.key=value`. Warns where a key is given twice."""
    if isinstance(changes, Mapping):
        return dict(changes)
    given: dict[str, str] = {}
    for text in [changes] if isinstance(changes, str) else changes:
        key, _, value = text.partition("=")
        key = key.strip()
        if given.get(key, value) != value:
            warn(f"{key} is given twice, as {given[key]} and as {value}: the last one is used")
        given[key] = value
    return parse_overrides([changes] if isinstance(changes, str) else changes)


def changed(config: Config, overrides: Changes, options: Mapping[str, tuple[str, Any]]) -> Config:
    """A configuration with changes.

    overrides: words such as `section.key=value`, or a mapping.  options: `{"section.key": (option, value)}`, where
    the value is None if the option is not given.  UserError: an option and an override set the same key.
    """
    changes = _changes(overrides)
    for key, (option, value) in options.items():
        if value is None:
            continue
        if key in changes:
            came = f"given as {value}, and the key {key}={shown(changes[key])} says the same thing"
            raise UserError(option, came, "only one of the two", f"leave out {option} or {key}")
        changes[key] = value
    return override(config, changes, "command line")


def absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths, so that a run folder can be used from anywhere."""
    data = config.data
    paths = {"data.path": data.path, "data.regroup.splits": data.regroup.splits}
    paths |= {"data.regroup.classes_file": data.regroup.classes_file}
    paths |= {"data.pseudo.windows": data.pseudo.windows, "data.pseudo.predictions": data.pseudo.predictions}
    return override(config, {key: os.path.abspath(path) for key, path in paths.items() if path}, "command line")


def levels_there(data: DataConfig) -> Sequence[int]:
    """The levels that `all` and ranges stand for: those of the data; the published ones of recordings or no data."""
    if data.path is None or is_recorded(Path(data.path), data.feed):
        return PUBLISHED_LEVELS
    return sorted(find_levels(Path(data.path)))


def _names(changes: Changes) -> list[str]:
    """The keys of changes."""
    return [text.partition("=")[0] for text in changes]


def with_levels(config: Config, level: Levels | None, overrides: Changes, at: DataConfig) -> Config:
    """The configuration with the levels of `--level`.

    at: the data in which `all` and ranges look for levels.  UserError: an override sets data.level beside --level.
    """
    items = level_words(level)
    if not items:
        return config
    if "data.level" in _names(overrides):
        raise UserError("--level", "given beside data.level", "only one of the two", "leave out --level or data.level")
    asked = numbers("--level", items, lambda: levels_there(at))
    return override(config, {"data.level": asked if len(asked) > 1 else asked[0]}, "command line")


def check_levels(config: Config) -> None:
    """UserError: no data folder, or a level that it does not have."""
    folder = data_folder(config.data.path)
    if not is_recorded(folder, config.data.feed):
        for level in config.data.levels or (None,):
            find_level(folder, level)


def asked_data(run: Path, data: str | None, level: Levels | None) -> Config:
    """The configuration of a training run with the data that a command line asks for. UserError: they are not there."""
    config = changed(RunFolder(run).read_config(), (), {"data.path": ("--data", data)})
    config = with_levels(config, level, (), config.data)
    check_levels(config)
    return config
