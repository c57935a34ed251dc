"""What a data folder holds: which levels, as grouped files or shards, or recordings. Nothing heavy is imported here.

The command line asks before jax is loaded; `open.py` asks when it opens the data.
"""

import os
import re
from pathlib import Path

from demega_jax.errors import UserError, listed
from demega_jax.files import visible

LISTED = 8  # names that a message lists


def data_folder(path: str | None) -> Path:
    """The folder of `data.path`. UserError: none is given."""
    if path is None:
        way_out = "give --data DIR; `demega-jax simulate DIR --level 100 --groups 2000` makes one"
        raise UserError("--data", "no data folder", "the folder that holds grouped_K, or recordings", way_out)
    return Path(path)


def has_recordings(root: Path) -> bool:
    """Whether a folder is a recording tree (and not one of grouped files)."""
    return next(visible(root, "*/derivatives/serialised/*_meg.h5"), None) is not None


def is_recorded(folder: Path, feed: str) -> bool:
    """Whether a folder is to be read as a recording tree; grouped files go first, unless the feed is regroup."""
    return has_recordings(folder) and (feed == "regroup" or not find_levels(folder))


def find_levels(data: Path) -> dict[int, Path]:
    """The folder of each grouping level: D/grouped_K, D/data/grouped_K, or D itself if that is its name."""
    found: dict[int, Path] = {}
    for folder in (data, *sorted(data.glob("grouped_*")), *sorted((data / "data").glob("grouped_*"))):
        level = folder_level(folder)
        if level is not None and folder.is_dir():
            found.setdefault(level, folder)
    return found


def folder_level(folder: Path) -> int | None:
    """K of a folder named grouped_K. The name of a link counts, not that of its target."""
    match = re.fullmatch(r"grouped_(\d+)", os.path.basename(os.path.abspath(folder)))
    return int(match[1]) if match else None


def find_level(data: Path, level: int | None) -> Path:
    """The folder of a level (None: the only one). UserError: it is not there; the error lists what is."""
    if not data.is_dir():
        came = "a file" if data.exists() else "no such folder"
        raise UserError(data, came, "the folder that holds grouped_K", "use --data DIR with that folder")
    levels = find_levels(data)
    there = ", ".join(map(str, sorted(levels))) or "none"
    if not levels:
        names = sorted(entry.name for entry in visible(data))
        came = f"no grouped_K folder (it holds {listed(names, LISTED) or 'nothing'})"
        raise UserError(data, came, "a folder with grouped_K or data/grouped_K in it", "give another --data DIR")
    if level is None and len(levels) > 1:
        raise UserError(data, f"levels {there}", "the choice of one level", "add --level K")
    chosen = level if level is not None else next(iter(levels))
    if chosen not in levels:
        way_out = f"did you mean --level {min(levels, key=lambda one: abs(one - chosen))}?"
        raise UserError(data, f"no level {chosen}", f"a level that is there: {there}", way_out)
    return levels[chosen]


def find_split(data: Path, level: int | None, split: str) -> Path:
    """The file of a split at a level. UserError: it is not there; the error lists what is."""
    folder = find_level(data, level)
    path = folder / f"{split}_grouped.h5"
    if not path.is_file():
        files = ", ".join(sorted(p.name for p in visible(folder, "*.h5"))) or "no .h5 file"
        wanted = f"the {split} split in a folder that has {files}"
        raise UserError(path, "no such file", wanted, "copy or make that file")
    return path
