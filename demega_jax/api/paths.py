"""Checks of what a command or a function is given: files and folders, before minutes of work."""

import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from demega_jax.errors import UserError, did_you_mean
from demega_jax.names import PICTURES

PathLike = str | Path
HEAD_BYTES = 2**16


def expanded_path(path: PathLike | None) -> str | None:
    """A path as Python gives it, with the home folder for `~`."""
    from demega_jax.files import expanded

    return None if path is None else expanded(str(path))


def path_of(path: PathLike | None) -> Path | None:
    """The same as a `Path`."""
    text = expanded_path(path)
    return None if text is None else Path(text)


def check_one_of(option: str, value: str, known: Sequence[str]) -> None:
    """UserError, with the nearest known one: a word that Python gave is not one of those that are known."""
    if value not in known:
        raise UserError(option, repr(value), f"one of {', '.join(known)}", did_you_mean(str(value), known))


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


def check_replaced(path: Path, is_ours: Callable[[bytes], bool], *, force: bool) -> None:
    """UserError: another file is there than this command writes, such as one of its inputs, and would be replaced.

    is_ours: whether a file that begins with these bytes is one that it writes.  force: replace it whatever it is.
    """
    from demega_jax.files import is_written_through

    if force or is_written_through(path) or not path.is_file():
        return
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        came = f"a file is there already, and cannot be read ({error.strerror})"
    else:
        if not head or is_ours(head):
            return
        came = "another file is there already, which this command would replace"
    raise UserError(path, came, "a new file, or one that this command wrote before", "choose another, or add --force")


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


def check_picture(option: str, path: Path | None) -> None:
    """UserError: a figure is to be written to a file that ends neither in .png nor in .svg nor in .pdf."""
    if path is not None and path.suffix.removeprefix(".").lower() not in PICTURES:
        wanted = "a file that ends in " + ", ".join(f".{name}" for name in PICTURES)
        raise UserError(option, f"{path}, an ending that is not known", wanted, "choose another name")
