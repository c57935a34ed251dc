"""Reading and changing configurations: YAML files, `section.key=value`, and errors that name the key."""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from demega_jax.config import Config, Section
from demega_jax.config.kinds import in_words, shown
from demega_jax.errors import UserError


@functools.cache
def flat_keys() -> dict[str, pydantic.fields.FieldInfo]:
    """Every `section.key` (`section.part.key`) of the configuration and its field."""
    return {f"{name}.{key}": field for name, section in sections().items() for key, field in own_keys(section).items()}


def sections() -> dict[str, type[Section]]:
    """The sections by name. A section within another has the name `section.part` and follows it."""

    def below(prefix: str, holder: type[pydantic.BaseModel]) -> Iterator[tuple[str, type[Section]]]:
        for name, field in holder.model_fields.items():
            section = field.annotation
            if isinstance(section, type) and issubclass(section, Section):
                yield prefix + name, section
                yield from below(f"{prefix}{name}.", section)

    return dict(below("", Config))


def own_keys(section: type[Section]) -> dict[str, pydantic.fields.FieldInfo]:
    """The keys of a section, without the sections within it."""
    within = {name for name, field in section.model_fields.items() if field.annotation in sections().values()}
    return {name: field for name, field in section.model_fields.items() if name not in within}


def _unknown_key(dotted: str, where: str) -> UserError:
    known = list(flat_keys())
    last = dotted.rpartition(".")[2]
    near = difflib.get_close_matches(dotted, known, 1) or [k for k in known if k.rpartition(".")[2] == last]
    if not near:  # the key may be right but for its section
        best = difflib.get_close_matches(last, [k.rpartition(".")[2] for k in known], 1)
        near = [k for k in known if best and k.rpartition(".")[2] == best[0]]
    way_out = f"did you mean {near[0]}?" if near else "choose a key of configs/README.md, which lists them all"
    return UserError(where, f"unknown key {dotted}", "a key of the configuration", way_out)


def _check_names(raw: Mapping[str, Any], where: str) -> None:
    """UserError: a section or key that there is not, with the nearest that there is."""
    for name, section in raw.items():
        if name not in Config.model_fields:
            near = difflib.get_close_matches(str(name), Config.model_fields, 1)
            way_out = f"did you mean {near[0]}?" if near else "move its keys into one of these sections"
            known = f"one of the sections {', '.join(Config.model_fields)}"
            raise UserError(where, f"unknown section {name}", known, way_out)
        for dotted in _dotted(section, name):
            if dotted not in flat_keys():
                raise _unknown_key(dotted, where)


def config_of(raw: Any, where: str) -> Config:
    """The configuration of plain dictionaries. where: what they are from, for errors. UserError: they do not fit."""
    if not isinstance(raw, Mapping):
        way_out = "write `section:` and, below it, lines of `key: value`"
        raise UserError(where, f"a {type(raw).__name__} at the top", "sections with keys below them", way_out)
    _check_names(raw, where)
    try:
        return Config.model_validate(raw)
    except UserError as error:  # values that do not fit together, which the sections refuse themselves
        raise UserError(where, error.came, error.wanted, error.way_out) from None
    except pydantic.ValidationError as error:
        raise _wrong_value(error, where) from None


def _wrong_value(error: pydantic.ValidationError, where: str) -> UserError:
    """A key with a value that it cannot take, what it takes, and its default."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"][:3])
    while key and key not in flat_keys() and key not in sections():
        key = key.rpartition(".")[0]  # within a list, or a choice of types
    field, came = flat_keys().get(key), f"the value of {key} is {first['input']!r}"
    if field is None:
        return UserError(where, came, "a section with keys below it", f"write the keys of {key} below it")
    way_out = f"set {key} to such a value, or leave it out: its default is {shown(field.default)}"
    return UserError(where, came, in_words(field.annotation, field.metadata), way_out)


def _dotted(section: Any, name: str) -> Iterator[str]:
    """Names `section.key` of the keys that a section read from YAML sets."""
    for key, value in section.items() if isinstance(section, Mapping) else ():
        nested = isinstance(value, Mapping) and f"{name}.{key}" in sections()
        yield from _dotted(value, f"{name}.{key}") if nested else [f"{name}.{key}"]


YAML_WAY_OUT = "correct the YAML there: write `key: value`, and quote text that has special characters"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: 1e-3 is a number (YAML 1.1 reads it as a string)."""


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as a number, such as a class named 1e3."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)$"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str, where: str) -> Any:
    """YAML with 1e-3 as a number; a syntax error is a `UserError` with line and column."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise UserError(place, error.problem or "not YAML", "YAML", YAML_WAY_OUT) from None
    except yaml.YAMLError as error:
        raise UserError(where, str(error), "YAML", YAML_WAY_OUT) from None


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file with `section.key=value` overrides, validated as a whole."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(
            path, f"cannot be read ({reason})", "a YAML file", "name one, such as those in configs/"
        ) from None
    config = config_of(parse_yaml(text, str(path)) or {}, str(path))
    return override(config, parse_overrides(overrides), "command line")


def override(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """`config` with `{"section.key": value}` changed, validated as a whole.

    A length in steps replaces a length in epochs, and the reverse. where: of the changes, for errors.
    """
    raw = config.model_dump()
    for one, other in (("train.epochs", "train.steps"), ("train.steps", "train.epochs")):
        if changes.get(one) is not None and other not in changes:
            put(raw, other, None)
    for dotted, value in changes.items():
        if dotted not in flat_keys():
            raise _unknown_key(dotted, where)
        put(raw, dotted, value)
    return config_of(raw, where)


def put(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `section.key` in a configuration as plain dictionaries."""
    *path, key = dotted.split(".")
    for name in path:
        raw = raw[name]
    raw[key] = value


def to_yaml(config: Config) -> str:
    """YAML, a line for each key, that `load_config` reads back to an equal configuration."""
    return _yaml(config.model_dump(), "")


def _yaml(raw: Mapping[str, Any], indent: str) -> str:
    lines = []
    for key, value in raw.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{key}:\n{_yaml(value, indent + '  ')}".rstrip("\n"))
        else:
            plain = list(value) if isinstance(value, tuple) else value
            dumped = yaml.dump(plain, Dumper=_Dumper, default_flow_style=True, width=10_000).removesuffix("...\n")
            lines.append(f"{indent}{key}: {dumped.strip()}")
    return "\n".join(lines) + "\n"


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["section.key=value", ..]` as a mapping; values are read as YAML."""
    changes: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            way_out = "write for example train.batch_size=64"
            raise UserError("command line", repr(text), "section.key=value", way_out)
        changes[key.strip()] = parse_yaml(value, f"command line, {key}")
    return changes


def differing_keys(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """`{"section.key": (value in one, value in other)}` where two configurations differ."""
    values = [dict(_values(config.model_dump(), "")) for config in (one, other)]
    return {key: (values[0][key], values[1][key]) for key in values[0] if values[0][key] != values[1][key]}


def _values(raw: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in raw.items():
        if isinstance(value, Mapping):
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
