"""What a command shows while it works: lines, and on a terminal a moving line with warnings above it."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from demega_jax.errors import set_warning_sink
from demega_jax.saying import say

if TYPE_CHECKING:
    from rich.console import Console


def moves(console: "Console") -> bool:
    """Whether a console can show a moving line: it is a terminal that can move its cursor, and is not quiet."""
    return console.is_terminal and not console.is_dumb_terminal and not console.quiet


@contextlib.contextmanager
def warnings_above(console: "Console") -> Iterator[None]:
    """Print warnings above the moving line of a console, and on stderr too where that is not the terminal."""

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)
        if not sys.stderr.isatty():  # such as a file, which must have the warning too
            print(line, file=sys.stderr, flush=True)

    set_warning_sink(say)
    try:
        yield
    finally:
        set_warning_sink(None)


@contextlib.contextmanager
def status_line(console: "Console") -> Iterator[Callable[[str], None]]:
    """A function that shows a text beside a spinner on a terminal, and nothing anywhere else."""
    if not moves(console):
        yield lambda text: None
        return
    from rich.text import Text

    # A text of letters, as rich reads markup in a `str` here, whatever the console says.
    with console.status("") as status, warnings_above(console):
        yield lambda text: status.update(Text(f"{text} .."))


@contextlib.contextmanager
def status_or_lines(
    console: "Console", seconds: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str], None]]:
    """A function that shows a text as `status_line` does on a terminal, and as a line in a notebook, a pipe or a file.

    seconds: the least time from the first text to the first line, and from line to line. Quick work leaves no line.
    """
    if moves(console):
        with status_line(console) as show:
            yield show
        return
    last: float | None = None

    def tell(text: str) -> None:
        nonlocal last
        now = clock()
        if last is None:
            last = now
        if now - last >= seconds:
            say(text)
            last = now

    yield tell
