"""Errors and warnings in the words of Python. What functions and commands share names options, as of a command."""

import functools
import inspect
import re
from collections.abc import Callable, Collection
from typing import ParamSpec, TypeVar

from demega_jax.errors import UserError, warnings_worded

P = ParamSpec("P")
R = TypeVar("R")

# Parameters that are not called as their options, and flags that switch a parameter off.
OTHER_NAMES = {"input": "windows", "run": "runs", "no_shuffle": "shuffle"}
# An option, and after a space its value: a number, a word in capitals that stands for one, or one of these words.
VALUES = r"[A-Z]+(?![a-z])|-?[\w:./]*\d[\w:./]*(?<![.:])|\w+=\w+|jit|pmap|mean|logits|vote|weighted|all"
OPTION = re.compile(rf"--([a-z][a-z-]*[a-z])(?:[ =]({VALUES})(?![\w/]))?")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def in_python(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose errors and warnings name parameters (`level=20`), not a command's options (`--level 20`)."""
    parameters = frozenset(inspect.signature(function).parameters)

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with warnings_worded(lambda text: _translated(text, parameters)):
                return function(*args, **kwargs)
        except UserError as error:
            where = _translated(error.where, parameters)
            where = where.removesuffix("=")  # it is a name there, not a part of a sentence
            rest = (_translated(text, parameters) for text in (error.came, error.wanted, error.way_out))
            raise UserError(where, *rest) from error.__cause__

    return called


def _translated(text: str, parameters: Collection[str]) -> str:
    """A text in which options are parameters. What is no parameter of the function stays as it is."""

    def of(found: re.Match[str]) -> str:
        option, value = found[1].replace("-", "_"), found[2]
        name = option if option in parameters else OTHER_NAMES.get(option, "")
        if name not in parameters:
            return found[0]
        if value is None or option == "no_shuffle":
            return f"{name}={'False' if option == 'no_shuffle' else ''}"
        plain = NUMBER.fullmatch(value) or (value.isalpha() and value.isupper())
        return f"{name}={value if plain else repr(value)}"

    return OPTION.sub(of, text)
