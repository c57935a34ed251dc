"""What a user is told when the input, not the program, is wrong (exit status 2), and the one-line warnings."""

import contextlib
import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator

# What the system says when a disk, a quota or the largest size of a file is full.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

NEWER = "upgrade demega-jax: run `git pull` and `make install` in its clone"
SINGULAR = {"are": "is", "were": "was", "have": "has", "go": "goes"}


def without_reader(error: BaseException) -> bool:
    """Whether a process ends because nobody reads its output any more, as after `| head`. rich says so by status 1."""
    return isinstance(error, BrokenPipeError) or (isinstance(error, SystemExit) and error.code == 1)


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
        sentences = (printable(" ".join(without_secrets(part).split())) for part in parts)
        return " ".join(text if text.endswith(("?", "!", ".")) else f"{text}." for text in sentences)


# Of an address: the user and password before its host, and what a signed address has after its `?`.
CREDENTIALS, SIGNATURE = re.compile(r"(?<=://)[^/\s]*@"), re.compile(r"(\w+://[^\s?]+)\?[^\s)]+")
ADDRESSES = ("HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")  # environment variables that may hold a password
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")


# What a terminal acts on instead of showing it: control characters, and those that turn the direction of a text.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A text from outside as it can be shown: what a terminal would act on becomes a code such as \\x1b."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_secrets(text: str) -> str:
    """A text without passwords of addresses, signatures of addresses, and tokens of the environment."""
    text = SIGNATURE.sub(r"\1?..", CREDENTIALS.sub("", text))
    addresses = [os.environ.get(form, "") for name in ADDRESSES for form in (name, name.lower())]
    logins = [address.partition("://")[2].rpartition("@")[0] for address in addresses]
    secrets = [*logins, *(login.partition(":")[2] for login in logins), *(os.environ.get(name, "") for name in TOKENS)]
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, "..")
    return text


def listed(names: Iterable[object], most: int = 5) -> str:
    """The first of some names, as a message lists them: `a, b, ..` where there are more."""
    found = [str(name) for name in names]
    return ", ".join(found[:most]) + (", .." if len(found) > most else "")


def counted(number: int, noun: str, verb: str = "") -> str:
    """A number with its noun, and perhaps a verb in the plural: `1 row`, `2 classes`, `1 row is`, `2 rows are`."""
    if number == 1:
        return f"1 {noun} {SINGULAR.get(verb, f'{verb}s')}" if verb else f"1 {noun}"
    many = f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"
    return f"{many} {verb}" if verb else many


def install(extra: str) -> str:
    """The way out where an extra is missing. The package is installed from a clone, as it is on no index."""
    return f"run `pip install -e '.[{extra}]'` in the clone of demega-jax"


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
_worded: Callable[[str], str] = str


def set_warning_sink(sink: Callable[[str], None] | None) -> None:
    """Send warning lines to a function, such as one that prints above a progress bar; None: to stderr again."""
    global _emit
    _emit = sink or _print_warning


@contextlib.contextmanager
def warnings_worded(words: Callable[[str], str]) -> Iterator[None]:
    """Within this block warnings are in other words, such as those of Python in place of a command's options."""
    global _worded
    before, _worded = _worded, words
    try:
        yield
    finally:
        _worded = before


def warn(message: str) -> None:
    """Say on one line what was wrong, where the command goes on. Give a count instead of a line for each case."""
    _emit("warning: " + printable(" ".join(without_secrets(_worded(message)).split())))
