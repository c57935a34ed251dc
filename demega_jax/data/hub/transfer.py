"""One file from the hub to the disk: continued where it stopped, checked, and given its name when it is whole."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

from demega_jax.data.hub.client import Cut, HubFile, open_stream
from demega_jax.data.hub.refusals import AGAIN
from demega_jax.errors import UserError, warn
from demega_jax.files import locked, never_left_empty, open_part
from demega_jax.reading import open_plain

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # s before each next try while no bytes come; after the last one we give up
# Bytes of one request: the hub refuses to send more than 50 GB at once, and the address that it gives for a file is
# valid for an hour.
WINDOW = 8 * 2**30
READ = 2**22  # bytes of a read from the disk


def partial_path(file: HubFile, target: Path) -> Path:
    """The file into which bytes are written. Its name has the checksum, so that versions of a file never mix."""
    return target.with_name(f"{target.name}.{file.checksum[:16]}.partial")


def bytes_there(file: HubFile, target: Path) -> int:
    """Bytes that need not be fetched: those of an earlier transfer, or of a shorter file at `target`."""
    path = next((path for path in (partial_path(file, target), target) if path.is_file()), None)
    size = path.stat().st_size if path is not None else 0
    return size if size <= file.size else 0  # a longer file is another one


def has_checksum(file: HubFile, path: Path, at: Callable[[int], None]) -> bool:
    """Whether a file has the hub's bytes; it is read whole. at: called with the number of bytes read so far."""
    hasher, read = file.hasher(), 0
    with open_plain(path) as stream:
        while block := stream.read(READ):
            hasher.update(block)
            read += len(block)
            at(read)
    return hasher.hexdigest() == file.checksum


def fetch(file: HubFile, target: Path, at: Callable[[int], None]) -> int:
    """Fetch a file to `target` and return how often the connection was cut.

    The transfer continues what is in `partial_path`, or a shorter file at `target`. at: called with the number of bytes
    that are there.
    UserError: the hub refuses, the connection stays cut, the bytes are not those that the hub lists, another process
    is fetching the same file, the disk is full or cannot be written to. Bytes that are not wrong stay in
    `partial_path`.
    """
    partial = partial_path(file, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not partial.exists():
            target.replace(partial)
        with (
            never_left_empty(partial),
            io.FileIO(open_part(partial, os.O_APPEND), "a+") as stream,
            locked(partial, stream),
        ):
            part = _Part(stream, file, at)
            part.load()
            resumed = part.size > 0
            cuts = _fill(part, file)
            if resumed and not part.is_right:
                warn(f"{target.name}: the part that was there is not the hub's; the whole file is fetched again")
                part.restart()
                cuts += _fill(part, file)
            if not part.is_right:
                partial.unlink()
                raise UserError(
                    f"{file.repo}: {file.path}",
                    f"{part.size} bytes with checksum {part.checksum[:16]}",
                    f"{file.size} with {file.checksum[:16]}, as the hub lists",
                    "run the command again; if that does not help, tell the owner of the dataset",
                )
            os.fsync(stream.fileno())
            partial.replace(target)
    except OSError as error:
        raise UserError(
            target,
            f"cannot be written ({error.strerror or error})",
            "a writable folder with enough space",
            f"free some space or choose another folder, then {AGAIN}",
        ) from None
    for stale in target.parent.glob(f"{target.name}.*.partial"):
        stale.unlink(missing_ok=True)  # parts of older versions of the file
    return cuts


class _Part:
    """The part of a file that is there, and its checksum."""

    def __init__(self, stream: io.FileIO, file: HubFile, at: Callable[[int], None]):
        self._stream, self._file, self._at = stream, file, at
        self._hasher = file.hasher()
        self.size = 0

    @property
    def checksum(self) -> str:
        return self._hasher.hexdigest()

    @property
    def is_right(self) -> bool:
        return self.size == self._file.size and self.checksum == self._file.checksum

    def load(self) -> None:
        """Read the part that is there already."""
        self._stream.seek(0)
        while block := self._stream.read(READ):
            self._take(block)

    def write(self, block: bytes) -> None:
        rest = memoryview(block)
        while len(rest):  # a disk that is nearly full writes less than it is given, and raises the next time
            rest = rest[self._stream.write(rest) :]
        self._take(block)

    def restart(self) -> None:
        self._stream.truncate(0)
        self._hasher, self.size = self._file.hasher(), 0

    def _take(self, block: bytes) -> None:
        self._hasher.update(block)
        self.size += len(block)
        self._at(self.size)


def _fill(part: _Part, file: HubFile) -> int:
    """Fetch all missing bytes, and try again after each cut. Return how often the connection was cut.

    UserError: as many tries as there are WAITS have brought nothing.
    """
    if part.size > file.size:
        part.restart()
    cuts = tries = 0
    furthest = part.size
    while part.size < file.size:
        stop = min(file.size, part.size + WINDOW)
        reason = "the connection ended early"
        try:
            with open_stream(file, part.size, stop) as (begin, blocks):
                if begin < part.size:
                    part.restart()
                for block in blocks:
                    part.write(block)
                    if part.size > file.size:
                        return cuts
        except Cut as cut:
            reason = str(cut)
        if part.size > furthest:
            furthest, tries = part.size, 0
        if part.size >= stop:
            continue
        if tries == len(WAITS):
            came = f"stopped at {part.size} of {file.size} bytes ({reason}), and {tries} more tries brought nothing"
            where, way_out = f"{file.repo}: {file.path}", f"check the network, then {AGAIN}"
            raise UserError(where, came, "a connection that lasts", way_out)
        time.sleep(WAITS[tries])
        cuts, tries = cuts + 1, tries + 1
    return cuts
