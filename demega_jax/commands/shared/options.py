"""Options that several commands have, and the reading of their values."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from demega_jax.commands.shared.lists import did_you_mean
from demega_jax.errors import UserError

Data = Annotated[str | None, typer.Option("--data", metavar="DIR", help="Folder that holds grouped_K, or recordings.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all of it to a JSON file as well.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="section.key=value",
        help="Changes to the configuration, as many as you like, anywhere after the command.",
        show_default=False,
    ),
]
# Hints of --level, where the data decide which levels there are, and where the command makes them.
THERE = "all, and ranges as 5-100, choose from the levels that are there"
MADE = "all, and ranges as 5-100, choose from the published levels 5, 10, 15 .. 100"


def parse_size(option: str, text: str) -> int:
    """Bytes from `4G`, `512M`, `1.5GiB` or a plain number. UserError: another form."""
    from demega_jax.files import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError:
        raise UserError(option, repr(text), "a size", "write 256M, 1.5G or a number of bytes") from None


def check_there(path: Path, wanted: str, *, folder: bool) -> None:
    """UserError: no such file (or folder), with the nearest name that is there."""
    if path.is_dir() if folder else path.is_file():
        return
    came = f"no such {'folder' if folder else 'file'}"
    if path.exists():
        came = "a file" if folder else "a folder"
    beside = sorted(str(entry) for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    raise UserError(path, came, wanted, did_you_mean(str(path), beside, "check the path"))


def check_outputs(*paths: Path | None) -> None:
    """UserError: files that could not be written. It is better to know before minutes of work than after."""
    given = [path.absolute() for path in paths if path is not None]
    if len(set(given)) < len(given):
        raise UserError("--plot", f"{given[0]}, as --json", "two different files", "choose another")
    for path in given:
        folder = next(above for above in path.parents if above.exists())
        came = "a folder" if path.is_dir() else None if folder.is_dir() else f"below {folder}, which is a file"
        if came is None:
            try:
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                came = f"cannot be written ({error.strerror or error})"
        if came is not None:
            raise UserError(path, came, "a file that can be written", "choose another place")
