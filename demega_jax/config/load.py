"""Reading and changing configurations: YAML files, `section.key=value`, and errors that say what would fit."""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from demega_jax.config import Config, Section
from demega_jax.errors import UserError


@functools.cache
def flat_keys() -> dict[str, pydantic.fields.FieldInfo]:
    """Every `section.key` (`section.part.key`) of the configuration and its field."""
    return {f"{name}.{key}": field for name, section in sections().items() for key, field in own_keys(section).items()}


def sections() -> dict[str, type[Section]]:
    """The sections by name; one within another as `section.part`, after it."""

    def below(prefix: str, holder: type[pydantic.BaseModel]) -> Iterator[tuple[str, type[Section]]]:
        for name, field in holder.model_fields.items():
            section = field.annotation
            if isinstance(section, type) and issubclass(section, Section):
                yield prefix + name, section
                yield from below(f"{prefix}{name}.", section)

    return dict(below("", Config))


def own_keys(section: type[Section]) -> dict[str, pydantic.fields.FieldInfo]:
    """The keys of a section that are no sections."""
    within = {name for name, field in section.model_fields.items() if field.annotation in sections().values()}
    return {name: field for name, field in section.model_fields.items() if name not in within}


def _unknown_key(dotted: str, where: str) -> UserError:
    known = list(flat_keys())
    last = dotted.rpartition(".")[2]
    near = difflib.get_close_matches(dotted, known, 1) or [k for k in known if k.rpartition(".")[2] == last]
    if not near:  # the key may be right but for its section
        best = difflib.get_close_matches(last, [k.rpartition(".")[2] for k in known], 1)
        near = [k for k in known if best and k.rpartition(".")[2] == best[0]]
    hint = f"did you mean {near[0]}?" if near else "`configs/README.md` lists every key"
    return UserError(where, f"unknown key {dotted}", "a key of the configuration", hint)


def _validated(raw: Any, where: str) -> Config:
    if not isinstance(raw, Mapping):
        raise UserError(
            where, f"{type(raw).__name__} at the top", "sections of keys", "write `section:` and keys below it"
        )
    known_sections = Config.model_fields
    for name, section in raw.items():
        if name not in known_sections:
            near = difflib.get_close_matches(str(name), known_sections, 1)
            hint = f"did you mean {near[0]}?" if near else f"sections are {', '.join(known_sections)}"
            raise UserError(where, f"unknown section {name}", "a section of the configuration", hint)
        for dotted in _dotted(section, name):
            if dotted not in flat_keys():
                raise _unknown_key(dotted, where)
    try:
        return Config.model_validate(raw)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:3])
        while key and key not in flat_keys() and key not in sections():
            key = key.rpartition(".")[0]  # within a list, or a choice of types
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "value_error":  # our own words, which already say what would fit
            raise UserError(
                where, f"{key}: {problem}" if key else problem, "values that fit together", "change one"
            ) from None
        field = flat_keys().get(key)
        wanted = field.description if field is not None and field.description else "keys of the section"
        raise UserError(
            where, f"{key}={first['input']!r}: {problem[:1].lower()}{problem[1:]}", wanted, f"mend {key}"
        ) from None


def _dotted(section: Any, name: str) -> Iterator[str]:
    """Names of the keys that a raw section sets."""
    for key, value in section.items() if isinstance(section, Mapping) else ():
        nested = isinstance(value, Mapping) and f"{name}.{key}" in sections()
        yield from _dotted(value, f"{name}.{key}") if nested else [f"{name}.{key}"]


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
        raise UserError(place, error.problem or "not YAML", "YAML", "mend the syntax") from None
    except yaml.YAMLError as error:
        raise UserError(where, str(error), "YAML", "mend the syntax") from None


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file with `section.key=value` overrides, validated as a whole."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(path, str(reason), "a YAML file", "configs/ has examples") from None
    config = _validated(parse_yaml(text, str(path)) or {}, str(path))
    return override(config, parse_overrides(overrides), "command line")


def override(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """`config` with `{"section.key": value}` changed, validated as a whole.

    A length of the run in steps takes the place of one in epochs, and the reverse.
    """
    raw = config.model_dump()
    for one, other in (("train.epochs", "train.steps"), ("train.steps", "train.epochs")):
        if changes.get(one) is not None and other not in changes:
            put(raw, other, None)
    for dotted, value in changes.items():
        if dotted not in flat_keys():
            raise _unknown_key(dotted, where)
        put(raw, dotted, value)
    return _validated(raw, where)


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
            dumped = (
                yaml.dump(plain, Dumper=_Dumper, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
            )
            lines.append(f"{indent}{key}: {dumped}")
    return "\n".join(lines) + "\n"


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["section.key=value", ..]` as a mapping; values are read as YAML."""
    changes: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise UserError("command line", f"{text!r}", "section.key=value", "for example train.batch_size=64")
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
