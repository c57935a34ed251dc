"""Windows: the stretch of a recording that follows the onset of a phoneme."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from demega_jax.data.acquisition import Acquisition
from demega_jax.data.recordings.events import PHONEME_EVENTS
from demega_jax.data.recordings.runs import Recording
from demega_jax.data.recordings.tally import Tally
from demega_jax.errors import UserError, counted, warn
from demega_jax.phonemes import PHONEMES


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one split, session run after session run; a window's number is its place in these arrays.

    run [W]: place of its session run in `recordings`.  start [W]: its first sample.  label [W]: place in `classes`.
    position [W]: place in POSITIONS.  time_points: samples T of every window.  tmin: of the first of them, in seconds
    after the onset.
    """

    recordings: tuple[Recording, ...]
    classes: tuple[str, ...]
    time_points: int
    run: Int[np.ndarray, " W"]
    start: Int[np.ndarray, " W"]
    label: Int[np.ndarray, " W"]
    position: Int[np.ndarray, " W"]
    tmin: float = 0.0

    @property
    def acquisition(self) -> Acquisition:
        """How the windows were measured. They have no unit, as they are standardised."""
        first = self.recordings[0]
        table = None if first.choice.class_map is None else first.choice.class_map.fingerprint
        return dataclasses.replace(
            first.acquisition,
            tmin=self.tmin,
            units=(),
            event_rows=first.choice.rows,
            event_label=first.choice.label,
            event_classes=table,
        )

    @property
    def simulated(self) -> bool:
        """Whether every session run says that it is simulated."""
        return all(recording.simulated for recording in self.recordings)

    def __len__(self) -> int:
        return len(self.run)

    def class_counts(self) -> Int[np.ndarray, " V"]:
        """Windows of each class."""
        return np.bincount(self.label, minlength=len(self.classes))


def window_points(rate: float, tmin: float, tmax: float) -> int:
    """The samples T of a window. UserError: fewer than 2."""
    time_points = round((tmax - tmin) * rate)
    if time_points < 2:
        way_out = "give a larger tmax, or a smaller tmin"
        raise UserError("tmin, tmax", f"a window of {time_points} samples", "at least 2 samples", way_out)
    return time_points


def find_windows(
    recordings: Sequence[Recording], *, tmin: float = 0.0, tmax: float = 0.5, classes: Sequence[str] = PHONEMES
) -> Windows:
    """Windows from tmin to tmax s around each phoneme's onset: samples int((onset + tmin) rate) .. + T.

    Warns, with a count, of windows that run off the end of a recording, labels that are no class, duplicate and
    unordered events, rows that are cut, session runs without an event of a class or whose events end early.
    UserError: no window, or phonemes that vanish as their symbols are unknown.
    """
    rate = recordings[0].rate
    time_points = window_points(rate, tmin, tmax)
    columns: list[tuple[np.ndarray, ...]] = []
    off, tally = 0, Tally(classes)
    for index, recording in enumerate(recordings):
        events = recording.read_events()
        label = tally.add(recording, events)
        start = np.floor((events.onset + tmin) * rate).astype(np.int64)
        fits = (start >= 0) & (start + time_points <= recording.samples)
        off += int((~fits & (label >= 0)).sum())
        keep = fits & (label >= 0)
        columns.append((np.full(keep.sum(), index, np.int32), start[keep], label[keep], events.position[keep]))
    tally.check()
    where = f"{counted(len(recordings), 'session run')}, the first is {recordings[0].name}"
    if off:
        warn(f"{counted(off, 'window', 'run')} off a recording, and no such window is taken ({where})")
    tally.warn(where)
    run, start, label, position = (np.concatenate(column) for column in zip(*columns, strict=True))
    if not len(run):
        came = f"no window of {time_points} samples in this or any other of {len(recordings)} session runs"
        event = "phoneme" if recordings[0].choice == PHONEME_EVENTS else "event of a class"
        wanted = f"at least one {event} whose window lies within its recording"
        way_out = "download the events again, or choose another tmin and tmax"
        raise UserError(recordings[0].events, came, wanted, way_out)
    return Windows(tuple(recordings), tuple(classes), time_points, run, start, label, position, tmin)
