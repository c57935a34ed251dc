"""How much a command or a function says: lines on stdout, by its loudness. Warnings and errors always go to stderr."""

import enum
from collections.abc import Iterator
from contextlib import contextmanager

from demega_jax.errors import printable


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
