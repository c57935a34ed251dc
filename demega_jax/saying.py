"""How much a command or a function says, and in which words.

Lines on stdout depend on the loudness; warnings and errors always go to stderr. What functions and commands share names
options, as of a command, and `in_python` puts a function's errors and warnings into the words of Python.
"""

import enum
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from demega_jax.errors import UserError, printable, warnings_worded

P = ParamSpec("P")
R = TypeVar("R")

# Parameters that are not called as their options, and flags that switch a parameter off.
OTHER_NAMES = {"input": "windows", "run": "runs", "no_shuffle": "shuffle"}
# An option, and after a space its value: a number, a word in capitals that stands for one, or one of these words.
VALUES = r"[A-Z]+(?![a-z])|-?[\w:./]*\d[\w:./]*(?<![.:])|\w+=\w+|jit|pmap|mean|logits|vote|weighted|all"
OPTION = re.compile(rf"--([a-z][a-z-]*[a-z])(?:[ =]({VALUES})(?![\w/]))?")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


class Loudness(enum.IntEnum):
    """SILENT: no line on stdout, for Python.  QUIET: the line of the result.  VERBOSE: more of what is done."""

    SILENT = 0
    QUIET = 1
    USUAL = 2
    VERBOSE = 3


_now = Loudness.USUAL


@contextmanager
def loudness(wanted: Loudness) -> Iterator[None]:
    """Within this block so much is said, by all threads."""
    global _now
    before, _now = _now, wanted
    try:
        yield
    finally:
        _now = before


def is_quiet() -> bool:
    """Whether only results are said."""
    return _now <= Loudness.QUIET


def is_verbose() -> bool:
    """Whether more is said of what is done."""
    return _now == Loudness.VERBOSE


def say(text: str) -> None:
    """Print a line as it is, for any width."""
    if _now >= Loudness.USUAL:
        print(printable(text), flush=True)


def say_result(text: str) -> None:
    """Print a line of the result, which a quiet command says too."""
    if _now >= Loudness.QUIET:
        print(printable(text), flush=True)


def say_more(text: str) -> None:
    """Print a line that only who asks for more wants to know."""
    if is_verbose():
        print(printable(text), flush=True)


def in_python(function: Callable[P, R], parameters_of: Callable[..., object] | None = None) -> Callable[P, R]:
    """A function whose errors and warnings name parameters (`level=20`), not a command's options (`--level 20`).

    parameters_of: whose parameters; None: those of the function.  Of a method they can be those of `__init__`.
    """
    parameters = frozenset(inspect.signature(parameters_of or function).parameters)

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
