"""What a configuration key takes, in words such as `an integer above 0 or null`: for errors and the page of keys."""

import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan
from pydantic.fields import FieldInfo

PLAIN = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def in_words(annotation: Any, limits: Sequence[object] = ()) -> str:
    """A type as a reader of YAML would say it. limits: what a field demands beside its type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return in_words(arguments[0], [*limits, *_limits_in(arguments[1:])])
    if origin is Literal:
        return " or ".join(", ".join(map(str, arguments)).rsplit(", ", 1))
    if origin is tuple:
        count = "" if Ellipsis in arguments else f"{len(arguments)} "
        item = in_words(arguments[0])
        return f"a list of {count}items, each {item}"
    if arguments:  # a union
        return ", or ".join(in_words(one) for one in arguments)
    finite = AllowInfNan(allow_inf_nan=False) in limits
    return " ".join(["a finite number" if finite else PLAIN[annotation], " and ".join(_bounds(limits))]).rstrip()


def shown(value: object) -> str:
    """A value as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _limits_in(metadata: Sequence[object]) -> Iterator[object]:
    for one in metadata:
        yield from one.metadata if isinstance(one, FieldInfo) else [one]


def _bounds(limits: Sequence[object]) -> Iterator[str]:
    for limit in limits:
        match limit:
            case Gt():
                yield f"above {limit.gt:.12g}"
            case Ge():
                yield f"of at least {limit.ge:.12g}"
            case Le():
                yield f"at most {limit.le:.12g}"
            case Lt():
                yield f"below {limit.lt:.12g}"
