"""What is in a grouped file, a folder of levels or shards, or a recording tree, and whether it is sound."""

from pathlib import Path

from demega_jax.data.folder import LISTED, find_levels
from demega_jax.data.inspect.downloads import inspect_download
from demega_jax.data.inspect.grouped import inspect_grouped
from demega_jax.data.inspect.recording_facts import USUAL, Reading
from demega_jax.data.inspect.recordings import inspect_recordings
from demega_jax.data.inspect.report import Report
from demega_jax.data.inspect.shards import has_shards, inspect_shards
from demega_jax.errors import UserError, listed
from demega_jax.files import visible

SPLIT_ORDER = {"train": 0, "validation": 1, "test": 2}


def inspect_data(path: Path, reading: Reading = USUAL) -> list[Report]:
    """A report for each file, split of shards or tree at a path, and one of what was downloaded there, if anything was.

    reading: of recordings.  Nothing is raised: a report has what is wrong.
    """
    path = Path(path)
    downloaded = inspect_download(path)
    return _inspect(path, reading) + ([downloaded] if downloaded is not None else [])


def has_recordings(path: Path) -> bool:
    """Whether a path is a recording tree, for `inspect`."""
    return path.is_dir() and next(visible(path, "*/derivatives"), None) is not None


def _inspect(path: Path, reading: Reading) -> list[Report]:
    if path.is_file():
        return [inspect_grouped(path)]
    if has_recordings(path):
        return [inspect_recordings(path, reading)]
    if has_shards(path):
        return _inspect_level(path)
    levels = find_levels(path)
    if levels:
        return [report for level in sorted(levels) for report in _inspect_level(levels[level])]
    files = _grouped_files(path)  # a folder whose name is not grouped_K
    if files:
        return [inspect_grouped(file) for file in files]
    return [Report(path, "nothing", problems=[_nothing(path)])]


def _inspect_level(folder: Path) -> list[Report]:
    """The shards and the files of a folder grouped_K."""
    reports = inspect_shards(folder) if has_shards(folder) else []
    reports += [inspect_grouped(file) for file in _grouped_files(folder)]
    way_out = "copy them here, or make them with `demega-jax group` or `demega-jax shard`"
    problem = UserError(folder, "no .h5 file and no manifest.json", "grouped files or shards", way_out)
    return reports or [Report(folder, "level", problems=[problem])]


def _grouped_files(folder: Path) -> list[Path]:
    """The files of a folder: train, validation, test, then others by name."""
    files = visible(folder, "*.h5")
    return sorted(files, key=lambda file: (SPLIT_ORDER.get(file.name.removesuffix("_grouped.h5"), 3), file))


def _nothing(path: Path) -> UserError:
    wanted = "a grouped file, a folder with grouped_K (files or shards), a recording tree or a training run"
    if not path.is_dir():
        return UserError(path, "no such file or folder", wanted, "correct the path, or give another one")
    try:
        names = sorted(entry.name for entry in visible(path))
    except OSError as error:
        return UserError(path, f"cannot be read ({error.strerror})", wanted, "change its permissions")
    came = f"a folder that holds {listed(names, LISTED) or 'nothing'}"
    return UserError(path, came, wanted, "give the path of one of these")
