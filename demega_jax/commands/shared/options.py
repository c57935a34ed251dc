"""Options that several commands have, and checks of their values."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from demega_jax.errors import UserError, did_you_mean
from demega_jax.names import SPLITS

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder that holds grouped_K, or recordings.",
    ),
]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the results to this JSON file as well.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="section.key=value",
        help="Changes of configuration keys. There may be several, anywhere after the command.",
        show_default=False,
    ),
]
# The end of the help of --level, where the data decide which levels there are, and where the command makes levels.
THERE = "all, and ranges such as 5-100, stand for levels that the data have"
MADE = "all, and ranges such as 5-100, stand for the published levels 5, 10, 15 and so on to 100"


def level_option(text: str, stand_for: str, panel: str | None = None) -> typer.models.OptionInfo:
    """The option --level. text: what the levels are for.  stand_for: THERE or MADE."""
    return typer.Option("--level", metavar="K,..", help=f"{text}; {stand_for}.", rich_help_panel=panel)


Split = Annotated[
    list[str] | None,
    typer.Option("--split", metavar="SPLIT,..", help=f"{', '.join(SPLITS)} or all (default: all that there are)."),
]
SessionRuns = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        metavar="RUN,..",
        help="Only these session runs (default: all), written session:task:run, such as 1:Sherlock1:1.",
    ),
]


def parse_size(option: str, text: str) -> int:
    """Bytes from `4G`, `512M`, `1.5GiB` or a plain number. UserError: it is not a size."""
    from demega_jax.files import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError:
        raise UserError(option, f"{text!r} is not a size", "a size", "write 256M, 1.5G or a number of bytes") from None


def check_there(path: Path, wanted: str, *, folder: bool) -> None:
    """UserError, with the nearest name that is there: there is no such file (or folder)."""
    if path.is_dir() if folder else path.is_file():
        return
    came = f"no such {'folder' if folder else 'file'}"
    if path.exists():
        came = "a file, not a folder" if folder else "a folder, not a file"
    beside = sorted(str(entry) for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    raise UserError(path, came, wanted, did_you_mean(str(path), beside, "correct the path"))


def check_inputs(config: Path | None, data: str | None) -> None:
    """UserError: a configuration or a data folder that is named is not there."""
    if config is not None:
        check_there(config, "a YAML configuration", folder=False)
    if data is not None:
        check_there(Path(data), "a folder that holds grouped_K, or recordings", folder=True)


def check_outputs(*paths: Path | None) -> None:
    """UserError: a file cannot be written. This is better known before minutes of work than after."""
    given = [path.absolute() for path in paths if path is not None]
    if len(set(given)) < len(given):
        raise UserError("--plot", f"the same file {given[0]} as --json", "two different files", "choose another --plot")
    for path in given:
        folder = next(above for above in path.parents if above.exists())
        came = (
            "it is a folder" if path.is_dir() else None if folder.is_dir() else f"it is below {folder}, which is a file"
        )
        if came is None:
            try:
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                came = f"cannot be written ({error.strerror or error})"
        if came is not None:
            raise UserError(path, came, "a file that can be written", "choose another file")
