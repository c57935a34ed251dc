"""Plain files from outside: never a FIFO or a device, which end never, and no more bytes than are stated."""

import contextlib
import errno
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demega_jax.files import format_bytes, kind_of

JSON_BYTES = 2**27


def open_plain(path: Path) -> io.FileIO:
    """A plain file, opened for reading. OSError: it cannot be opened, or is a FIFO, a device or a folder.

    Reading a FIFO would wait for a writer, and some devices never end.
    """
    file = io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "r")
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a plain file", str(path))
    return file


def read_text(path: Path, most: int) -> str:
    """The text of a plain file in UTF-8. OSError: it cannot be read, is not text, or has more than `most` bytes."""
    with open_plain(path) as file:
        content = file.read(most + 1)
    if content is None or len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {format_bytes(most)}", str(path))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "not a text file", str(path)) from None


@contextlib.contextmanager
def open_text(path: Path, encoding: str = "utf-8") -> Iterator[io.TextIOWrapper]:
    """A plain file of text, with its line ends as they are. OSError: as for `open_plain`."""
    with io.TextIOWrapper(io.BufferedReader(open_plain(path)), encoding, newline="") as file:
        yield file


def read_json(path: Path) -> Any:
    """What a plain file of JSON holds. OSError: it cannot be read, as for `read_text`. ValueError: it is not JSON."""
    return parse_json(read_text(path, JSON_BYTES))


def parse_json(text: str | bytes) -> Any:
    """What a text of JSON says. ValueError: it is not JSON, or its lists are within each other, too deeply to read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or mappings within each other, too deeply") from None
