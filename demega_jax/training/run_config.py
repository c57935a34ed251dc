"""The file config.yaml of a run folder: every key with its value, and a copy of all of them that finds damage."""

import json
import re
from pathlib import Path
from typing import Any

from demega_jax.config import Config
from demega_jax.config.load import CONFIG_BYTES, differing_keys, parse_yaml, to_yaml, validated
from demega_jax.errors import NEWER, UserError
from demega_jax.reading import parse_json, read_text

FORMAT = 1
FIRST = "# demega-jax run, format "
NOTE = "# Change settings on the command line (section.key=value), not here. The last line is a copy that finds damage."
COPY = "# copy "
MOST = 3  # keys that differ that an error names


def config_text(config: Config) -> str:
    """The text of a config.yaml: a line for each key, and after them all values once more, in one line of comment."""
    copy = json.dumps(config.model_dump(mode="json"))
    return f"{FIRST}{FORMAT}\n{NOTE}\n{to_yaml(config)}{COPY}{copy}\n"


def read_config_text(path: Path) -> Config:
    """The configuration in a config.yaml.

    UserError: it cannot be read, its format is newer, or it is not what was written; keys that differ are named. A file
    of an earlier version has no copy to compare with.
    """
    text = _read(path)
    lines = text.rstrip("\n").split("\n")
    _check_format(path, lines[0])
    copy = lines[-1].removeprefix(COPY) if lines[-1].startswith(COPY) else None
    if copy is None and len(lines) > 1 and lines[1] == NOTE:
        raise _damaged(path, "the line at its end that begins with `# copy` is missing")
    raw = parse_yaml(text, str(path))
    if not raw:
        raise _damaged(path, "it holds no settings")
    config = validated(raw, str(path))
    if copy is not None:
        _check_same(path, config, validated(_from_json(path, copy), f"{path}, last line"))
    return config


def _read(path: Path) -> str:
    try:
        return read_text(path, CONFIG_BYTES)
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from None


def _check_format(path: Path, first: str) -> None:
    found = re.fullmatch(re.escape(FIRST) + "([0-9]+)", first)
    if found is None:
        raise _damaged(path, f"its first line is {first[:60]!r}, not `{FIRST}{FORMAT}`")
    if int(found[1]) > FORMAT:
        raise UserError(path, f"format {found[1]}", f"format {FORMAT} or older", NEWER)


def _from_json(path: Path, copy: str) -> Any:
    try:
        return parse_json(copy)
    except ValueError:
        raise _damaged(path, "the copy in its last line is no JSON") from None


def _check_same(path: Path, config: Config, copy: Config) -> None:
    """UserError: the lines and the copy differ."""
    if different := differing_keys(config, copy):
        named = [f"{key} is {found}, and was written as {wrote}" for key, (found, wrote) in different.items()]
        more = f", and {len(named) - MOST} more" if len(named) > MOST else ""
        way_out = "write it there as it was, and change settings on the command line alone: section.key=value"
        raise UserError(path, "; ".join(named[:MOST]) + more, "the values that the training run wrote", way_out)


def _damaged(path: Path, came: str) -> UserError:
    way_out = "put back the config.yaml of this training run, or name another folder"
    return UserError(path, came, "the config.yaml that a training run wrote", way_out)
