"""Reading and changing configurations: YAML files, `section.key=value`, and errors that name the key."""

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import pydantic
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from demega_jax.config import Config, Section
from demega_jax.config.kinds import in_words, shown
from demega_jax.errors import UserError, did_you_mean, shortened
from demega_jax.files import expanded
from demega_jax.reading import read_text


def sections(holder: type[Section] = Config, prefix: str = "") -> dict[str, type[Section]]:
    """The sections by name. A section within another has the name `section.part` and follows it."""
    found: dict[str, type[Section]] = {}
    for name, field in holder.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            found |= {prefix + name: section, **sections(section, f"{prefix}{name}.")}
    return found


def own_keys(section: type[Section]) -> dict[str, FieldInfo]:
    """The keys of a section, without the sections within it."""
    within = sections(section)
    return {name: field for name, field in section.model_fields.items() if name not in within}


@functools.cache
def flat_keys() -> dict[str, FieldInfo]:
    """Every `section.key` (`section.part.key`) of the configuration and its field."""
    return {f"{name}.{key}": field for name, section in sections().items() for key, field in own_keys(section).items()}


def _unknown(dotted: str, where: str) -> UserError:
    """A section or `section.key` that there is not, with the nearest that there is."""
    if "." not in dotted:
        known, otherwise = Config.model_fields, "move its keys into one of these sections"
        sections_there = f"one of the sections {', '.join(known)}"
        return UserError(where, f"unknown section {dotted}", sections_there, did_you_mean(dotted, known, otherwise))
    # The key may be right but for its section.
    homes = {key.rpartition(".")[2]: key for key in reversed(flat_keys())}
    near = difflib.get_close_matches(dotted.rpartition(".")[2], homes, 1)
    otherwise = f"did you mean {homes[near[0]]}?" if near else "choose a key of configs/README.md, which lists them all"
    way_out = did_you_mean(dotted, flat_keys(), otherwise)
    return UserError(where, f"unknown key {dotted}", "a key of the configuration", way_out)


def validated(raw: Any, where: str) -> Config:
    """The configuration of sections as YAML or JSON has them. UserError about `where`: a key or a value is wrong."""
    if not isinstance(raw, Mapping):
        way_out = "write `section:` and, below it, lines of `key: value`"
        raise UserError(where, f"a {type(raw).__name__} at the top", "sections with keys below them", way_out)
    try:
        return Config.model_validate(raw)
    except UserError as error:  # values that do not fit together, which the sections refuse themselves
        raise UserError(where, error.came, error.wanted, error.way_out) from None
    except pydantic.ValidationError as error:
        raise _refused(error.errors(), where) from None


def _refused(errors: Sequence[ErrorDetails], where: str) -> UserError:
    """A key that there is not; else one with a value that it cannot take, what it takes, and its default."""
    for one in errors:
        if one["type"] in ("extra_forbidden", "invalid_key"):
            return _unknown(".".join(shortened(str(part)) for part in one["loc"]), where)
    key, value = ".".join(map(str, errors[0]["loc"])), shortened(_safe_repr(errors[0]["input"]))
    while key not in flat_keys() and key not in sections():
        key = key.rpartition(".")[0]  # within a list, or a choice of types
    field, came = flat_keys().get(key), f"the value of {key} is {value}"
    if field is None:
        return UserError(where, came, "a section with keys below it", f"write the keys of {key} below it")
    way_out = f"set {key} to such a value, or leave it out: its default is {shown(field.default)}"
    return UserError(where, came, in_words(field.annotation, field.metadata), way_out)


def _safe_repr(value: object) -> str:
    """A value as Python writes it; an integer of thousands of digits, which it does not write, in hexadecimal."""
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return hex(value) if isinstance(value, int) else f"a {type(value).__name__} that is too large to show"


YAML_WAY_OUT = "correct the YAML there: write `key: value`, and quote text that has special characters"


CONFIG_BYTES = 2**18  # of a configuration; PyYAML takes seconds for so many
POINT, EXPONENT = r"(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)", "[eE][-+]?[0-9]+"
FLOAT = rf"[-+]?(?:{POINT}(?:{EXPONENT})?|[0-9][0-9_]*{EXPONENT}|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
# What plain text stands for, by the letters that it can begin with; everything else is text. YAML 1.1, which PyYAML
# reads, has more: 1e-3 is text there, and 0x10, 010, 1:30 and 2020-01-01 are 16, 8, 90 and a date, which nobody means.
SCALARS = (
    ("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", "[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", FLOAT, "-+.0123456789"),
    ("merge", "<<", "<"),
    ("null", "~|null|Null|NULL|", "~nN"),
)
TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Maps, lists, text, and the scalars of SCALARS. A key that is given twice, and a tag such as !!binary, is an error
    with its line."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (filled below)
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (*(f"{TAG}{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")), None)
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. ConstructorError: it is not what its tag says, or an integer of thousands of digits."""
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError):
            came = f"{shortened(repr(node.value))} is no {node.tag.removeprefix(TAG)}"
            raise yaml.constructor.ConstructorError(None, None, came, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """The mapping of a node. ConstructorError: a key is given twice, of which PyYAML would take the last one."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                came = f"the key {shortened(key.value)} is given twice"
                raise yaml.constructor.ConstructorError(None, None, came, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)  # type: ignore[no-untyped-call]


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as a number, such as a class named 1e3, and writes a tuple on one line."""


_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))

for _name, _pattern, _letters in SCALARS:
    _first = ["", *_letters] if _name == "null" else list(_letters)  # no text at all is null
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"{TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _first)


def parse_yaml(text: str, where: str) -> Any:
    """YAML with 1e-3 as a number; a syntax error is a `UserError` with line and column."""
    if len(text) > CONFIG_BYTES:
        raise UserError(where, "more than a configuration can hold", f"at most {CONFIG_BYTES:,} letters", YAML_WAY_OUT)
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise UserError(place, shortened(error.problem or "not YAML", 200), "YAML", YAML_WAY_OUT) from None
    except RecursionError:
        raise UserError(where, "lists or mappings within each other, too deeply", "YAML", YAML_WAY_OUT) from None
    except yaml.YAMLError as error:
        raise UserError(where, shortened(str(error), 200), "YAML", YAML_WAY_OUT) from None


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file with `section.key=value` overrides, validated as a whole."""
    try:
        text = read_text(Path(expanded(str(path))), CONFIG_BYTES)
    except OSError as error:
        way_out = "name one, such as those in configs/"
        raise UserError(path, f"cannot be read ({error.strerror})", "a YAML file", way_out) from None
    raw = parse_yaml(text, str(path))
    config = validated({} if raw is None else raw, str(path))  # None: an empty file, or only comments
    return override(config, parse_overrides(overrides), "command line")


def override(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """`config` with `{"section.key": value}` changed, validated as a whole.

    A length in steps replaces a length in epochs, and the reverse. where: of the changes, for errors.
    """
    raw = config.model_dump()
    for one, other in (("train.epochs", "train.steps"), ("train.steps", "train.epochs")):
        if changes.get(one) is not None and other not in changes:
            put(raw, other, None)
    check_keys(changes, where)
    for dotted, value in changes.items():
        put(raw, dotted, value)
    return validated(raw, where)


def check_keys(keys: Iterable[str], where: str) -> None:
    """UserError about `where`, with the nearest known key: one of these `section.key` is not known."""
    for dotted in keys:
        if dotted not in flat_keys():
            raise _unknown(dotted, where)


def put(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `section.key` in a configuration as plain dictionaries."""
    *path, key = dotted.split(".")
    for name in path:
        raw = raw[name]
    raw[key] = value


def to_yaml(config: Config) -> str:
    """YAML, a line for each key, that `load_config` reads back to an equal configuration."""
    return yaml.dump(config.model_dump(), Dumper=_Dumper, sort_keys=False, width=10_000)


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
    values = {key: (attrgetter(key)(one), attrgetter(key)(other)) for key in flat_keys()}
    return {key: (mine, others) for key, (mine, others) in values.items() if mine != others}
