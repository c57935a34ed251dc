"""What a user is told when the input, not the program, is wrong (exit status 2), and the one-line warnings."""

import difflib
import errno
import sys
from collections.abc import Callable, Iterable

# What the system says when a disk, a quota or the largest size of a file is full.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """Bad input. `cli.py` alone turns it into `error: ...` on one line of stderr and exit status 2.

    where:   the file, config key or command-line argument.
    came:    what was found there.
    wanted:  what would have been right.
    way_out: what to do about it, a sentence that begins with a verb.

    Composed: "{where}: {came}. Expected: {wanted}. {Way out}."
    """

    def __init__(self, where: object, came: str, wanted: str, way_out: str):
        super().__init__(where, came, wanted, way_out)
        self.where, self.came, self.wanted, self.way_out = str(where), came, wanted, way_out

    def __str__(self) -> str:
        way_out = self.way_out[:1].upper() + self.way_out[1:]
        parts = (f"{self.where}: {self.came}", f"Expected: {self.wanted}", way_out)
        sentences = (" ".join(part.split()) for part in parts)
        return " ".join(text if text.endswith(("?", "!", ".")) else f"{text}." for text in sentences)


def listed(names: Iterable[object], most: int = 5) -> str:
    """The first of some names, as a message lists them: `a, b, ..` where there are more."""
    found = [str(name) for name in names]
    return ", ".join(found[:most]) + (", .." if len(found) > most else "")


def shortened(text: str, most: int = 60) -> str:
    """A text from outside as a message shows it: of a long one the beginning, and how long it is."""
    return text if len(text) <= most else f"{text[:most]}.. ({len(text):,} letters)"


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "choose one of them") -> str:
    """The way out of a misspelt word: the nearest known word, if there is a near one."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]}?" if near else otherwise


def _print_warning(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_emit: Callable[[str], None] = _print_warning


def set_warning_sink(sink: Callable[[str], None] | None) -> None:
    """Send warning lines to a function, such as one that prints above a progress bar; None: to stderr again."""
    global _emit
    _emit = sink or _print_warning


def warn(message: str) -> None:
    """Say on one line what was wrong, where the command goes on. Give a count instead of a line for each case."""
    _emit("warning: " + " ".join(message.split()))
