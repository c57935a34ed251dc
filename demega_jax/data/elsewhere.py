"""Datasets whose bytes lie in other files: links, external storage and virtual datasets.

HDF5 reads zeros, without an error, where a part of external storage or a source of a virtual dataset is missing. So
what can be read is checked here, before any row is.
"""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py._hl.vds import VDSmap

from demega_jax.data.unreadable import why_unreadable
from demega_jax.errors import UserError

Check = Callable[[Path, h5py.Dataset], None]
Box = tuple[tuple[int, ...], tuple[int, ...]]  # the first and the last element of a selection on each axis


def is_linked(file: h5py.File, data: h5py.Dataset) -> bool:
    """Whether a dataset that was found by its name in `file` is part of another file."""
    return h5py.h5o.get_info(data.id).fileno != h5py.h5o.get_info(file.id).fileno


def is_elsewhere(file: h5py.File, data: h5py.Dataset) -> bool:
    """Whether bytes of a dataset that was found by its name in `file` lie in other files."""
    return is_linked(file, data) or data.is_virtual or bool(data.external)


def check_elsewhere(path: Path, data: h5py.Dataset, check: Check) -> None:
    """UserError: external storage is too short, or the sources of a virtual dataset do not hold all of it.

    check: called with the file and the dataset of each source of a virtual dataset.
    """
    if data.is_virtual:
        _check_virtual(path, data, check)
    elif data.external:
        _check_external(path, data)


def _check_external(path: Path, data: h5py.Dataset) -> None:
    need = data.size * data.dtype.itemsize
    for name, offset, size in data.external:
        file = _external_file(path, name)
        if file is None:
            raise _missing(path, data, f"{name} is missing in the folder where HDF5 looks for it")
        part = min(need, size)
        if file.stat().st_size < offset + part:
            raise _missing(path, data, f"{name} ends before byte {offset + part}")
        need -= part
    if need:
        raise _missing(path, data, f"{need} bytes more are stored nowhere")


def _check_virtual(path: Path, data: h5py.Dataset, check: Check) -> None:
    boxes: list[Box] = []
    covered = 0
    for source in data.virtual_sources():
        try:
            box = source.vspace.get_select_bounds()
            count = source.vspace.get_select_npoints()
        except (RuntimeError, ValueError):  # a selection without an end, as of files that are still written
            raise _missing(path, data, "a source has no fixed size") from None
        if count != _size(box) or any(_overlap(box, other) for other in boxes):
            raise _missing(path, data, "its sources are not blocks side by side, so that they cannot be checked")
        boxes.append(box)
        covered += count
        _check_source(path, data, source, count, check)
    if covered != data.size:
        raise _missing(path, data, f"its sources hold {covered} of its {data.size} numbers")


def _check_source(path: Path, data: h5py.Dataset, source: VDSmap, count: int, check: Check) -> None:
    """UserError: a source is missing, or does not hold the `count` numbers that are taken from it."""
    file_name, dataset = source.file_name, source.dset_name
    name = f"`{dataset}` of {file_name}"
    file = path if file_name == "." else _source_file(path, file_name)
    if file is None:
        raise _missing(path, data, f"{file_name} is missing")
    try:
        with h5py.File(file, "r") as other:
            found = other.get(dataset)
            if not isinstance(found, h5py.Dataset):
                raise _missing(path, data, f"there is no dataset {name}")
            if found.is_virtual:  # it could be virtual for ever, in a circle
                raise _missing(path, data, f"{name} is stored in other files itself")
            if not _holds(found.shape, source.src_space, count):
                raise _missing(path, data, f"{name} of shape {list(found.shape)} is too small")
            check(file, found)
    except OSError as error:
        why = why_unreadable(file, error)
        raise why or _missing(path, data, f"{file_name} cannot be read ({error.strerror or error})") from None


def _holds(shape: tuple[int, ...], taken: h5py.h5s.SpaceID, count: int) -> bool:
    """Whether a dataset of this shape holds the `count` numbers that are taken from it."""
    if taken.get_select_type() == h5py.h5s.SEL_ALL:  # it has no bounds then
        return int(np.prod(shape)) == count
    last = taken.get_select_bounds()[1]
    return len(last) == len(shape) and all(end < length for end, length in zip(last, shape, strict=True))


def _external_file(path: Path, name: str) -> Path | None:
    """The file of external storage, as HDF5 finds it; None: there is none.

    HDF5 looks in the folder of HDF5_EXTFILE_PREFIX, or else in the working directory: not beside the file.
    """
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", str(path.resolve().parent))
    file = Path(prefix, name)
    return file if file.is_file() else None


def _source_file(path: Path, name: str) -> Path | None:
    """The file of a source of a virtual dataset, as HDF5 finds it; None: there is none.

    HDF5 looks in the folder of HDF5_VDS_PREFIX, then beside the file; an absolute name is tried before these, and in
    these without its folders.
    """
    prefix = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", str(path.resolve().parent))
    absolute = Path(name).is_absolute()
    folders = [Path(prefix)] if prefix else []
    candidates = [folder / (Path(name).name if absolute else name) for folder in [*folders, path.resolve().parent]]
    return next((file for file in [Path(name), *candidates][not absolute :] if file.is_file()), None)


def _size(box: Box) -> int:
    return int(np.prod([last - first + 1 for first, last in zip(*box, strict=True)]))


def _overlap(one: Box, other: Box) -> bool:
    firsts, lasts = np.maximum(one[0], other[0]), np.minimum(one[1], other[1])
    return bool((firsts <= lasts).all())


def _missing(path: Path, data: h5py.Dataset, reason: str) -> UserError:
    name = (data.name or "").lstrip("/")
    came = f"`{name}` is stored in other files, and {reason}"
    return UserError(path, came, "all of it", f"copy those files beside it, or copy `{name}` into one file")
