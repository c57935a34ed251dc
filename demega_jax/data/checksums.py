"""Checksums in the files that this project writes, so that a flipped bit is found before it is learned from.

A grouped file has a dataset `row_crc32` [N]: the CRC-32 of the bytes of each row of `data`. Its attributes `labels` and
`facts` are the CRC-32 of the labels and of the attributes that numbers depend on. A row is compared when it is first
read, by readers through HDF5 and past it. Recordings have `sensor_crc32` [C] in the same way. Files from elsewhere
have none of these and are read as they are. CRC-32 is that of zlib, as in shards: it needs no other library.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int, UInt32

from demega_jax.data.elsewhere import is_elsewhere
from demega_jax.errors import UserError
from demega_jax.reading import open_plain

ROWS, SENSORS, EVENTS = "row_crc32", "sensor_crc32", "events_crc32"
FACTS = (
    "classes",
    "grouped_samples",
    "reference_macro_f1",
    "simulated",
    "sampling_rate",
    "sensor_names",
    "sensor_types",
    "units",
)


class Checks:
    """The checksums of the parts of a file (rows or sensors), and which parts have been compared already.

    path: the file.  what: a part in words, such as "row".  dataset: that holds the checksums [n].
    """

    def __init__(self, path: Path, what: str, dataset: str, wanted: UInt32[np.ndarray, " n"]):
        self.path, self.what, self.dataset, self._wanted = path, what, dataset, wanted
        self._seen = np.zeros(len(wanted), bool)

    def compare(self, numbers: Int[np.ndarray, " m"], parts: np.ndarray) -> None:
        """UserError: one of these parts, as they lie in the file, was altered. A part is compared only once.

        numbers: of the parts.  parts [m, ..]: their values, in the type of the file.
        """
        for place in np.flatnonzero(~self._seen[numbers]).tolist():
            number = int(numbers[place])
            found = zlib.crc32(np.ascontiguousarray(parts[place]).data)
            if found != self._wanted[number]:
                raise _altered(self.path, f"{self.what} {number}", found, int(self._wanted[number]), self.dataset)
            self._seen[number] = True  # threads may compare a part twice, which does no harm


def checksums(parts: Iterable[np.ndarray]) -> UInt32[np.ndarray, " n"]:
    """The CRC-32 of each part."""
    return np.array([zlib.crc32(np.ascontiguousarray(part).data) for part in parts], np.uint32)


def write_checksums(
    file: h5py.File,
    rows: UInt32[np.ndarray, " N"],
    sizes: Int[np.ndarray, " N"],
    windows: Int[np.ndarray, " M"],
) -> None:
    """Write the checksums of a grouped file whose labels and attributes are whole.

    rows: of each row, as written.  sizes, windows: the number of windows in each group, and the windows, group after
    group, as in `group_indices`.
    """
    dataset = file.create_dataset(ROWS, data=rows)
    dataset.attrs.create("labels", _of_labels(file["labels"][:]), dtype=np.uint32)
    dataset.attrs.create("facts", _of_facts(file), dtype=np.uint32)
    dataset.attrs.create("group_indices", _of_groups(sizes, windows), dtype=np.uint32)


def row_checks(path: Path, file: h5py.File) -> Checks | None:
    """What the rows of a grouped file are compared with; None: the file has no checksums. UserError: too few."""
    return _read(path, file, "row", ROWS, len(file["data"]))


def sensor_checks(path: Path, file: h5py.File) -> Checks | None:
    """The same for the sensors of a recording."""
    return _read(path, file, "sensor", SENSORS, len(file["data"]))


def check_labels(path: Path, file: h5py.File, labels: Int[np.ndarray, " N"]) -> None:
    """UserError: the labels of a grouped file, or attributes that numbers depend on, are not those that were written.

    A file without checksums passes.
    """
    _check(path, file, "labels", "`labels`", _of_labels(labels))
    _check(path, file, "facts", f"one of its attributes {', '.join(FACTS)}", _of_facts(file))


def check_groups(path: Path, file: h5py.File, groups: Sequence[Int[np.ndarray, " k"]]) -> None:
    """UserError: `group_indices` are not those that were written. groups: the windows of each group."""
    sizes = np.array([len(group) for group in groups], np.int64)
    _check(path, file, "group_indices", "`group_indices`", _of_groups(sizes, np.concatenate(groups)))


def events_checksum(file: h5py.File) -> int | None:
    """The CRC-32 of the file of events that was written with a recording; None: the recording has none."""
    wanted = file.attrs.get(EVENTS)
    return int(wanted) if isinstance(wanted, np.integer) else None


def check_events(path: Path, wanted: int | None) -> None:
    """UserError: a file of events is not the one that was written with its recording. None: not known, it passes."""
    if wanted is None:
        return
    with open_plain(path) as events:
        found = zlib.crc32(events.readall() or b"")
    if found != wanted:
        came = f"it was altered, as its CRC-32 is {found:08x}"
        way_out = f"copy or make it again; if you changed it on purpose, delete the attribute {EVENTS} of the recording"
        raise UserError(path, came, f"{wanted:08x}, as written", way_out)


def _check(path: Path, file: h5py.File, name: str, what: str, found: int) -> None:
    wanted = file[ROWS].attrs.get(name) if _is_dataset(file, ROWS) else None
    if isinstance(wanted, np.integer) and found != wanted:
        raise _altered(path, what, found, int(wanted), ROWS)


def _read(path: Path, file: h5py.File, what: str, name: str, count: int) -> Checks | None:
    if not _is_dataset(file, name):
        return None
    found = file[name]
    if found.shape != (count,) or found.dtype != np.uint32 or is_elsewhere(file, found):
        came = f"`{name}` of type {found.dtype} and shape {found.shape}"
        raise UserError(path, came, f"the CRC-32 of each {what}: uint32 [{count}]", f"delete `{name}` from the file")
    return Checks(path, what, name, found[:])


def _is_dataset(file: h5py.File, name: str) -> bool:
    return isinstance(file.get(name), h5py.Dataset)


def _of_labels(labels: Int[np.ndarray, " N"]) -> int:
    return zlib.crc32(np.ascontiguousarray(labels, "<i8").data)


def _of_groups(sizes: Int[np.ndarray, " N"], windows: Int[np.ndarray, " M"]) -> int:
    return zlib.crc32(np.ascontiguousarray(windows, "<i8").data, _of_labels(sizes))


def _of_facts(file: h5py.File) -> int:
    """The CRC-32 of some attributes, as text that does not depend on how HDF5 stores them."""
    known = {name: np.asarray(file.attrs[name]).tolist() for name in FACTS if name in file.attrs}
    return zlib.crc32(json.dumps(known, sort_keys=True, default=str).encode())


def _altered(path: Path, what: str, found: int, wanted: int, dataset: str) -> UserError:
    way_out = f"copy, download or make the file again; if you changed it on purpose, delete its dataset `{dataset}`"
    return UserError(path, f"{what} was altered, as its CRC-32 is {found:08x}", f"{wanted:08x}, as written", way_out)
