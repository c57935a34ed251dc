"""Options that several commands have, and checks of their values."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option
from typer.models import OptionInfo

from demega_jax.errors import UserError, did_you_mean
from demega_jax.names import MAX_DEVICES, MAX_SEED, PICTURES, SPLITS

# The items of an option that takes a list, see `lists.py`.
Several = list[str] | None

Data = Annotated[str | None, Option(metavar="DIR", help="Folder that holds grouped_K, or recordings.")]
Json = Annotated[Path | None, Option("--json", metavar="FILE", help="Write the results to this JSON file as well.")]
Devices = Annotated[int | None, Option(metavar="N", min=1, max=MAX_DEVICES, help="Number of devices (default: all).")]
KEYS = "Changes of configuration keys. There may be several, anywhere after the command."
Overrides = Annotated[Several, Argument(metavar="section.key=value", help=KEYS, show_default=False)]
Split = Annotated[Several, Option(metavar="SPLIT,..", help=f"{', '.join(SPLITS)} or all (default: all there are).")]
RUNS = "Only these session runs (default: all), written session:task:run, such as 1:Sherlock1:1."
SessionRuns = Annotated[Several, Option(metavar="RUN,..", help=RUNS)]
# What `all` and ranges of levels stand for, where the data decide which levels there are, and where the command does.
THERE = "levels that the data have"
MADE = "the published levels 5, 10, 15 and so on to 100"


def level_option(text: str, stand_for: str, panel: str | None = None) -> OptionInfo:
    """The option --level. text: what the levels are for.  stand_for: THERE, MADE or what `all` and ranges mean."""
    meaning = f"{text}; all, and ranges such as 5-100, stand for {stand_for}."
    return Option(metavar="K,..", help=meaning, rich_help_panel=panel)


def seed_option(text: str) -> OptionInfo:
    """The option --seed of a command that makes data. text: what the seed is of."""
    return Option(metavar="S", min=0, max=MAX_SEED, help=text)


def parse_size(option: str, text: str) -> int:
    """Bytes from `4G`, `512M`, `1.5GiB` or a plain number. UserError: it is not a size, or is too large."""
    from demega_jax.files import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UserError(option, str(error), "a size", "write 256M, 1.5G or a number of bytes") from None


def check_there(path: Path, wanted: str, *, folder: bool) -> None:
    """UserError, with the nearest name that is there: there is no such file (or folder), or it is something else."""
    from demega_jax.files import kind_of

    noun = "folder" if folder else "file"
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            path, f"no such {noun}", wanted, did_you_mean(str(path), _beside(path), "correct the path")
        ) from None
    except OSError as error:
        raise UserError(path, f"it cannot be read ({error.strerror})", wanted, "correct the path") from None
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        raise UserError(path, f"{kind_of(mode)}, not a {noun}", wanted, "correct the path")


def _beside(path: Path) -> list[str]:
    """What lies in the folder of a path; nothing where that cannot be read."""
    try:
        return sorted(str(entry) for entry in path.parent.iterdir())
    except OSError:
        return []


def check_inputs(config: Path | None, data: str | None) -> None:
    """UserError: a configuration or a data folder that is named is not there."""
    if config is not None:
        check_there(config, "a YAML configuration", folder=False)
    if data is not None:
        check_there(Path(data), "a folder that holds grouped_K, or recordings", folder=True)


def check_outputs(*paths: Path | None) -> None:
    """UserError: a file cannot be written. This is better known before minutes of work than after.

    What is written through (`files.output`) may be given twice, as /dev/null.
    """
    from demega_jax.files import is_written_through

    given = [path.absolute() for path in paths if path is not None]
    files = [os.path.realpath(path) for path in given if not is_written_through(path)]
    if len(set(files)) < len(files):
        raise UserError("--plot", f"the same file {given[0]} as --json", "two different files", "choose another --plot")
    for path in given:
        came = "" if is_written_through(path) and os.access(path, os.W_OK) else _why_not_written(path)
        if came:
            raise UserError(path, came, "a file that can be written", "choose another file")


def check_out(folder: Path) -> None:
    """UserError: no files can be written into a folder, which is made as needed."""
    if came := _why_not_written(folder.absolute() / "file"):
        raise UserError(folder, came, "a folder that can be written", "choose another folder")


def _why_not_written(path: Path) -> str:
    """Why a plain file cannot be written there; empty if it can."""
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return "it is a folder"
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"it cannot be written ({error.strerror})"
    real = Path(os.path.realpath(path))
    folder = next(above for above in real.parents if above.exists())
    if not folder.is_dir():
        return f"{folder} is not a folder"
    longest = os.pathconf(folder, "PC_NAME_MAX")
    if any(len(os.fsencode(name)) > longest for name in real.relative_to(folder).parts):
        return f"a name of more than {longest} letters"
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return f"nothing can be written into {folder} ({error.strerror or error})"
    return ""


def refuse_idle(ctx: Context, option: str, came: str, wanted: str) -> None:
    """UserError: an option is on the command line that would do nothing, as `came` says."""
    source = ctx.get_parameter_source(option.removeprefix("--"))
    if source is not None and source.name == "COMMANDLINE":
        raise UserError(option, f"{came}, where it would do nothing", wanted, f"leave out {option}")


def check_picture(option: str, path: Path | None) -> None:
    """UserError: a figure is to be written to a file that ends neither in .png nor in .svg nor in .pdf."""
    if path is not None and path.suffix.removeprefix(".").lower() not in PICTURES:
        wanted = "a file that ends in " + ", ".join(f".{name}" for name in PICTURES)
        raise UserError(option, f"{path}, an ending that is not known", wanted, "choose another name")
