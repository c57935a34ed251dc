"""The one kind of console that commands print on: what it is given is text, never markup."""

import os
from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, HighlighterType, JustifyMethod, OverflowMethod, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from demega_jax.errors import printable
from demega_jax.saying import is_quiet

PIPE_WIDTH = 160  # columns where there is no terminal that has a width


class LiteralConsole(Console):
    """A console that prints every letter of a path, a class or a message as it is.

    Rich would take `[bold]` for markup and `:ok:` for a picture, and a terminal acts on control characters.
    """

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        emoji: bool | None = None,
        markup: bool | None = None,
        highlight: bool | None = None,
        highlighter: HighlighterType | None = None,
    ) -> Text:
        """The letters of a `str` as a `Text`. Every `str` goes this way, also while a table measures its columns."""
        del emoji, markup, highlight, highlighter
        return super().render_str(printable(text), style=style, justify=justify, overflow=overflow)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed, in which control characters that came within a `Text` are codes."""
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else printable(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)


def new_console(
    *, file: IO[str] | None = None, width: int | None = None, soft_wrap: bool = False, quiet: bool = False
) -> Console:
    """A console on stdout, or on a file. No other function makes one, so that all text from outside is literal.

    width: in columns; None: that of the terminal or of COLUMNS; in a pipe or a file enough for all columns of a table.
    soft_wrap: whether lines are left as long as they are.  quiet: whether nothing is shown; the loudness says so too.
    """
    quiet = quiet or (file is None and is_quiet())
    console = LiteralConsole(
        file=file, width=width, soft_wrap=soft_wrap, quiet=quiet, markup=False, emoji=False, highlight=False
    )
    if width is None and not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console
