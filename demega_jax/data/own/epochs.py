"""MNE Epochs as grouped files (extra `mne`)."""

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from demega_jax.data.own.write import write_grouped
from demega_jax.errors import UserError, did_you_mean, install, listed

if TYPE_CHECKING:
    import mne

BLOCK_ROWS = 32
# By sensor type of MNE: the unit of its values, and the unit and factor that make them neither tiny nor huge.
UNITS: dict[str, tuple[str, str, float]] = {
    "mag": ("T", "fT", 1e15),
    "ref_meg": ("T", "fT", 1e15),
    "grad": ("T/m", "fT/cm", 1e13),
    "eeg": ("V", "uV", 1e6),
    "seeg": ("V", "uV", 1e6),
    "ecog": ("V", "uV", 1e6),
    "dbs": ("V", "uV", 1e6),
}


def from_epochs(
    epochs: "mne.BaseEpochs",
    folder: str | Path,
    *,
    picks: Sequence[str] | None = None,
    labels: str | ArrayLike | None = None,
    groups: str | ArrayLike | None = None,
    scale: bool = True,
    classes: Sequence[str] | None = None,
    split: str | Sequence[str] | None = None,
    shares: Sequence[float] | None = None,
    seed: int = 777,
    level: int = 1,
    group: int | None = None,
    drop_remaining: bool = False,
) -> list[Path]:
    """Write MNE Epochs [epochs, sensors, times] as FOLDER/grouped_K/{split}_grouped.h5, and return the paths.

    Sampling rate, time of the first point, names, types, units and positions of the sensors go into the files. Epochs
    that are marked as bad are left out, and so are bad channels.
    picks: names of channels; by default all good MEG, EEG, sEEG and ECoG channels.  labels: by default the names of the
    events (`event_id`), or a column of `metadata`, or a label for each epoch.  groups: likewise.  scale: write fT,
    fT/cm and uV in place of T, T/m and V, whose numbers are too small to train on.  The others: as for `write_grouped`.
    UserError: MNE is not installed, no Epochs, no such channel or column, and as for `write_grouped`.
    """
    mne = import_mne("from_epochs")
    if not isinstance(epochs, mne.BaseEpochs):
        wanted = "Epochs of MNE, such as mne.Epochs(raw, events, event_id) makes"
        raise UserError("epochs", f"a {type(epochs).__name__}", wanted, "for an array, use demega_jax.write_grouped")
    epochs.drop_bad(verbose="error")
    channels = _channels(mne, epochs, picks)
    kinds = [str(kind) for kind in epochs.get_channel_types(picks=channels)]
    units = [UNITS.get(kind, ("unknown", "unknown", 1.0)) for kind in kinds]
    factors = np.array([factor if scale else 1.0 for _, _, factor in units])
    return write_grouped(
        folder,
        _blocks(epochs, channels, factors),
        _column(epochs, "labels", labels, _events(epochs)),
        classes=classes,
        split=split,
        shares=shares,
        seed=seed,
        level=level,
        group=group,
        drop_remaining=drop_remaining,
        groups=None if groups is None else _column(epochs, "groups", groups, ()),
        sampling_rate=float(epochs.info["sfreq"]),
        tmin=float(epochs.times[0]),
        units=[scaled if scale else plain for plain, scaled, _ in units],
        sensor_types=kinds,
        sensor_names=[epochs.ch_names[channel] for channel in channels],
        sensor_positions=positions(epochs.info, channels),
    )


def import_mne(where: object) -> types.ModuleType:
    """The module mne. UserError: it is not installed."""
    try:
        import mne
    except ModuleNotFoundError:
        wanted = "the package mne, to read Epochs"
        raise UserError(where, "MNE-Python is not installed", wanted, install("mne")) from None
    return mne


def _channels(mne: types.ModuleType, epochs: "mne.BaseEpochs", picks: Sequence[str] | None) -> list[int]:
    """The numbers of the channels to write. UserError: there are none, or not these."""
    if picks is None:
        found = mne.pick_types(epochs.info, meg=True, ref_meg=False, eeg=True, seeg=True, ecog=True, exclude="bads")
        if not len(found):
            came = f"no good MEG or EEG channel among {listed(epochs.ch_names)}"
            raise UserError("epochs", came, "at least one", "name channels with picks=")
        return [int(channel) for channel in found]
    names = [picks] if isinstance(picks, str) else list(picks)
    for name in names:
        if name not in epochs.ch_names:
            way_out = did_you_mean(name, epochs.ch_names)
            raise UserError("picks", f"no channel {name}", f"names among {listed(epochs.ch_names)}", way_out)
    return [epochs.ch_names.index(name) for name in names]


def _blocks(epochs: "mne.BaseEpochs", channels: Sequence[int], factors: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(epochs), BLOCK_ROWS):
        data = epochs[first : first + BLOCK_ROWS].get_data(picks=list(channels), verbose="error")
        yield data * factors[:, None]


def _events(epochs: "mne.BaseEpochs") -> list[str]:
    """The name of each epoch's event."""
    names = {number: str(name) for name, number in epochs.event_id.items()}
    return [names[number] for number in epochs.events[:, 2].tolist()]


def _column(epochs: "mne.BaseEpochs", what: str, given: str | ArrayLike | None, otherwise: Sequence[str]) -> ArrayLike:
    """A value for each epoch: those given, a column of the metadata, or else others. UserError: no such column."""
    if given is None:
        return otherwise
    if not isinstance(given, str):
        return given
    rows = epochs.metadata
    if isinstance(rows, list):  # what MNE gives where pandas is not installed
        columns = list(dict.fromkeys(name for row in rows for name in row))
    else:
        columns = [] if rows is None else list(rows.columns)
    if given not in columns:
        wanted = f"a column of the metadata: {listed(columns) or 'there is none'}"
        raise UserError(what, f"no column {given}", wanted, did_you_mean(given, columns, "give a list instead"))
    return [row.get(given) for row in rows] if isinstance(rows, list) else rows[given].tolist()


def positions(info: "mne.Info", channels: Sequence[int]) -> np.ndarray | None:
    """Where the sensors are, in metres, in MNE's device or head coordinates; None where that is not known of all."""
    found = np.array([info["chs"][channel]["loc"][:3] for channel in channels])
    return found if np.isfinite(found).all() and found.any() else None
