"""The page of every configuration key: `python -m demega_jax.config.page > configs/README.md`."""

import typing
from typing import Any, Literal

from demega_jax.config.load import own_keys, sections

HEAD = """# Configuration keys

Made from the code by `make config-page`. A configuration is a YAML file of the sections below; a key left out is at
its default. On the command line: `section.key=value`. An unknown key or an impossible value stops with exit status 2.

"""


def type_name(annotation: Any) -> str:
    """A type as a reader of YAML would say it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return ", ".join(str(a) for a in arguments)
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is tuple:
        inner = list(dict.fromkeys(type_name(a) for a in arguments if a is not Ellipsis))
        return f"list of {inner[0]}"
    if arguments:  # a union
        return " or ".join(type_name(a) for a in arguments)
    return {"int": "integer", "float": "number", "str": "text", "bool": "true, false"}[annotation.__name__]


def page() -> str:
    """The page, in Markdown."""
    parts = [HEAD]
    for name, section in sections().items():
        parts.append(f"## {name}\n\n{' '.join((section.__doc__ or '').split())}\n\n")
        parts.append("| key | type | default | meaning |\n| --- | --- | --- | --- |\n")
        for key, entry in own_keys(section).items():
            meaning = (entry.description or "").replace("|", "\\|")
            parts.append(f"| `{key}` | {type_name(entry.annotation)} | `{_shown(entry.default)}` | {meaning} |\n")
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


if __name__ == "__main__":
    print(page(), end="")
