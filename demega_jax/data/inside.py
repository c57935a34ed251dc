"""What an HDF5 file may read from other files: plain files of its own data folder, and nothing else.

HDF5 follows external links, external storage and virtual datasets to any file that the process can read, and waits for
ever for a FIFO. So a file from outside could have /etc/passwd as its data. It is checked before anything is read.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import h5py

from demega_jax.errors import UserError, shortened
from demega_jax.files import kind_of

MOST_NAMES = 1000  # of a file; ours have three to five
MOST_STEPS = 16  # from link to link, and from file to file
PREFIXES = ("HDF5_EXT_PREFIX", "HDF5_EXTFILE_PREFIX", "HDF5_VDS_PREFIX")  # folders where the user lets HDF5 look
WAY_OUT = "copy it into one file, or put the other file into the data folder"


def check_inside(path: Path, file: h5py.File) -> None:
    """UserError: an object of a file, opened from `path`, is read from outside its data folder, or from a device."""
    if len(file) > MOST_NAMES:
        raise UserError(path, f"{len(file)} objects", f"at most {MOST_NAMES}", "give the path of a grouped file")
    real = Path(os.path.realpath(path))
    roots = {os.path.realpath(data_root(each)) for each in (path.absolute(), real)}
    roots |= {os.path.realpath(os.environ[name].replace("${ORIGIN}", str(real.parent))) for name in _prefixes()}
    for name in file:
        _check(path, file, f"/{name}", roots, 0)


def _prefixes() -> list[str]:
    return [name for name in PREFIXES if os.environ.get(name)]


def data_root(path: Path) -> Path:
    """The data folder of a file: the one with its grouped_K or its recordings in it, or else that of the file."""
    for number, above in enumerate(path.parents):
        if re.fullmatch(r"grouped_\d+", above.name):
            return above.parent.parent if above.parent.name == "data" else above.parent
        if (above.name, above.parent.name) == ("serialised", "derivatives") and number == 0:
            return above.parents[2]
        if number == 1:
            break
    return path.parent


def _check(path: Path, file: h5py.File, name: str, roots: set[str], steps: int) -> None:
    """UserError: a name leads outside. steps: of links and files on the way to it."""
    if steps > MOST_STEPS:
        raise _refused(path, name, "through too many links")
    group: h5py.Group = file
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts):
        # `in` and `get` of h5py would follow the link that is looked at here.
        encoded, rest = part.encode(errors="surrogateescape"), "/".join(parts[number + 1 :])
        if not group.id.links.exists(encoded):
            return  # there is no such object, as the reader will say
        kind = group.id.links.get_info(encoded).type
        if kind == h5py.h5l.TYPE_EXTERNAL:
            other_file, within = (os.fsdecode(each) for each in group.id.links.get_val(encoded))
            for other in _places(path, name, other_file, roots):
                _check_other(other, f"{within}/{rest}", roots, steps + 1)
            return
        if kind == h5py.h5l.TYPE_SOFT:
            target = os.fsdecode(group.id.links.get_val(encoded))
            base = "" if target.startswith("/") else "/".join(parts[:number])
            _check(path, file, f"{base}/{target}/{rest}", roots, steps + 1)
            return
        found = _object(group, part)
        if isinstance(found, h5py.Dataset) and not rest:
            _check_dataset(path, name, found, roots, steps)
        if not isinstance(found, h5py.Group):
            return
        group = found


def _object(group: h5py.Group, name: str) -> object:
    """An object that lies in this file; None if its header is damaged."""
    try:
        return group[name]
    except (KeyError, OSError, RuntimeError):
        return None


def _check_dataset(path: Path, name: str, data: h5py.Dataset, roots: set[str], steps: int) -> None:
    for other, *_ in data.external or ():
        list(_places(path, name, other, roots))
    for source in data.virtual_sources() if data.is_virtual else ():
        if source.file_name == ".":
            continue
        # A name with %b stands for the files that there are, one for each block.
        for other in _places(path, name, source.file_name, roots):
            _check_other(other, source.dset_name, roots, steps + 1)


def _check_other(other: Path, name: str, roots: set[str], steps: int) -> None:
    """UserError: an object of another file of the data folder leads outside."""
    try:
        with h5py.File(other, "r") as file:
            _check(other, file, name, roots, steps)
    except OSError:
        return  # it is no HDF5 file, as the reader will say


def _places(path: Path, name: str, other: str, roots: set[str]) -> Iterator[Path]:
    """The files that another file's name can mean. UserError: one of them is outside the roots, or no plain file.

    HDF5 looks beside the file, in the working directory and in the folders of its environment variables; for an
    absolute name also beside the file, without its folders.
    """
    if "%" in other:
        raise _refused(path, name, f"from files that are named by a pattern, {shortened(other)}")
    prefixes = [Path(os.environ[each].replace("${ORIGIN}", str(path.resolve().parent))) for each in _prefixes()]
    for folder in dict.fromkeys([path.parent, path.resolve().parent, Path.cwd(), *prefixes]):
        for place in dict.fromkeys([folder / other, folder / os.path.basename(other)]):
            try:
                mode = os.stat(place).st_mode
            except (OSError, ValueError):
                continue  # nothing is there
            inside = any(os.path.commonpath([root, os.path.realpath(place)]) == root for root in roots)
            if not inside and place != folder / other:
                continue  # something else of the same name in the working directory
            if not inside:
                raise _refused(path, name, f"from {shortened(other, 200)}, which lies outside its data folder")
            if not stat.S_ISREG(mode):
                raise _refused(path, name, f"from {shortened(other, 200)}, which is {kind_of(mode)}")
            yield place


def _refused(path: Path, name: str, how: str) -> UserError:
    return UserError(path, f"`{name.lstrip('/')}` is read {how}", "all of it in this file or its data folder", WAY_OUT)
