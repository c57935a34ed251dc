"""What a command shows while it works: lines, and on a terminal a line that moves, with warnings above it."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from demega_jax.errors import set_warning_sink

if TYPE_CHECKING:
    from rich.console import Console


def moves(console: "Console") -> bool:
    """Whether a console can show something that moves."""
    return console.is_terminal and not console.is_dumb_terminal


@contextlib.contextmanager
def warnings_above(console: "Console") -> Iterator[None]:
    """Print warnings through a console that shows something that moves, and on a stderr that leads elsewhere."""

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        if not sys.stderr.isatty():  # it must be found in a file that stderr leads to as well
            print(line, file=sys.stderr, flush=True)

    set_warning_sink(say)
    try:
        yield
    finally:
        set_warning_sink(None)


@contextlib.contextmanager
def status_line(console: "Console") -> Iterator[Callable[[str], None]]:
    """A function that shows what goes on: a line with a spinner on a terminal, nothing anywhere else."""
    if not moves(console):
        yield lambda text: None
        return
    with console.status("") as status, warnings_above(console):
        yield lambda text: status.update(f"{text} ..")
