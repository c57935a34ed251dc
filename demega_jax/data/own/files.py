"""Files of windows in other formats, as grouped files: .npz, HDF5, and Epochs of MNE (.fif)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from demega_jax.data.acquisition import Acquisition
from demega_jax.data.arrays import CLASSES, LABELS, WINDOWS, read_npz
from demega_jax.data.hdf5 import check_storage, find_dataset, flag, open_file
from demega_jax.data.own.epochs import from_epochs, import_mne
from demega_jax.data.own.write import write_grouped
from demega_jax.errors import UserError, did_you_mean, listed

HDF5, NPZ, FIF = (".h5", ".hdf5"), (".npz",), (".fif", ".fif.gz")
FACTS = tuple(field.name for field in dataclasses.fields(Acquisition))
MARK = "simulated"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How a file is read. windows, labels, groups: names of arrays, datasets, or columns of metadata; None: the usual
    names; groups of none.  classes, split, shares, seed, level, group, drop_remaining: as for `write_grouped`.  facts:
    arguments of it about sampling rate and sensors, which go before those of the file.  scale: as for `from_epochs`."""

    windows: str | None = None
    labels: str | None = None
    groups: str | None = None
    classes: Sequence[str] | None = None
    split: str | None = None
    shares: Sequence[float] | None = None
    seed: int = 777
    level: int = 1
    group: int | None = None
    drop_remaining: bool = False
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    scale: bool = True

    @property
    def common(self) -> dict[str, Any]:
        """The arguments that every kind of file has."""
        names = ("split", "shares", "seed", "level", "group", "drop_remaining")
        return {name: getattr(self, name) for name in names}


def import_file(path: Path, out: Path, settings: ImportSettings) -> list[Path]:
    """Write the windows of a file as OUT/grouped_K/{split}_grouped.h5, and return the paths.

    UserError: a kind of file that is not known, no array of a name, and as for `write_grouped`.
    """
    name = path.name.lower()
    if name.endswith(FIF):
        return _from_fif(path, out, settings)
    if name.endswith(NPZ):
        arrays = read_npz(path)
        facts = {fact: arrays[fact] for fact in FACTS if fact in arrays} | {MARK: flag(arrays, MARK)}
        return _write(path, out, settings, arrays, arrays.get(CLASSES), facts)
    if name.endswith(HDF5):
        with open_file(path) as file:
            datasets: dict[str, h5py.Dataset] = {}
            for key in file:
                if (found := find_dataset(path, file, key)) is not None:
                    check_storage(path, found)
                    datasets[key] = found
            facts = {fact: file.attrs[fact] for fact in FACTS if fact in file.attrs} | {MARK: flag(file.attrs, MARK)}
            classes = file.attrs.get(CLASSES, datasets[CLASSES][:] if CLASSES in datasets else None)
            return _write(path, out, settings, datasets, classes, facts)
    endings = ", ".join((*NPZ, *HDF5, *FIF))
    raise UserError(path, "an ending that is not known", f"a file that ends in {endings}", "convert it to .npz")


def _write(
    path: Path,
    out: Path,
    settings: ImportSettings,
    arrays: "dict[str, np.ndarray] | dict[str, h5py.Dataset]",
    classes: np.ndarray | None,
    facts: dict[str, Any],
) -> list[Path]:
    """Write the arrays of a file. classes, facts: what the file says itself."""
    x = arrays[_name(path, "--windows", settings.windows, WINDOWS, arrays)]
    labels = arrays[_name(path, "--labels", settings.labels, LABELS, arrays)][()]
    groups = None if settings.groups is None else arrays[_name(path, "--groups", settings.groups, (), arrays)][()]
    named = settings.classes
    if named is None and classes is not None:
        named = [each.decode() if isinstance(each, bytes) else str(each) for each in np.ravel(classes).tolist()]
    return write_grouped(out, x, labels, classes=named, groups=groups, **settings.common, **facts | settings.facts)


def _name(path: Path, option: str, given: str | None, usual: Sequence[str], there: "dict[str, Any]") -> str:
    """The name of an array in a file. UserError: it is not there."""
    for name in (given,) if given is not None else usual:
        if name in there:
            return name
    came = f"no array {given}" if given is not None else f"no array named {' or '.join(usual)}"
    way_out = did_you_mean(given or "", there, f"name it with {option}")
    raise UserError(path, came, f"one of its arrays: {listed(there, 8) or 'none'}", way_out)


def _from_fif(path: Path, out: Path, settings: ImportSettings) -> list[Path]:
    mne = import_mne(path)
    if settings.windows is not None:
        raise UserError("--windows", "given for a .fif file", ".npz or HDF5", "leave --windows out")
    try:
        epochs = mne.read_epochs(path, preload=False, verbose="error")
    except (OSError, ValueError, RuntimeError) as error:
        came = f"no Epochs in it ({' '.join(str(error).split())[:100]})"
        wanted = "a file that epochs.save of MNE wrote"
        raise UserError(path, came, wanted, "make Epochs of a recording first, with mne.Epochs") from None
    if settings.facts:
        name = next(iter(settings.facts))
        raise UserError(name, "given for a .fif file, which says it itself", ".npz or HDF5", f"leave {name} out")
    return from_epochs(
        epochs,
        out,
        labels=settings.labels,
        groups=settings.groups,
        scale=settings.scale,
        classes=settings.classes,
        **settings.common,
    )
