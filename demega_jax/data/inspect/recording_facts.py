"""What an inspection of recordings finds, and how it reads them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demega_jax.data.inspect.amplitude import Amplitude
from demega_jax.data.inspect.event_tables import EventFacts
from demega_jax.data.recordings.events import EventChoice


@dataclasses.dataclass(frozen=True)
class Reading:
    """How recordings are read. choice, top: the events to count, and how many of their labels are classes, as for
    `classes_of`; None: phonemes, or other events of recordings that are not of LibriBrain and have no phoneme.
    splits: the file of splits; None: the published splits.  tmin, tmax: of a window, in seconds after the onset.
    """

    choice: EventChoice | None = None
    top: int | None = None
    splits: Path | None = None
    tmin: float = 0.0
    tmax: float = 0.5


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """A session run. phonemes: known ones, or the events of other classes.  windows: those of them that lie within the
    recording.

    unknown: events with symbols that are no class.  counts: windows of each class, usually the 39 phonemes.
    """

    name: str
    task: str
    session: str
    split: str
    minutes: float
    phonemes: int
    windows: int
    unknown: int
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """All session runs of a split together."""

    runs: int
    minutes: float
    phonemes: int
    windows: int
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class RecordingFacts:
    """A recording tree. rate: Hz.  measured: its sensors in words.  missing: session runs that should be there, in
    words; None: nobody knows.  amplitude: in tesla.  events: what the tables of events hold; None: not looked at, as
    in LibriBrain.  options: those of `group` and `inspect` that read the events that are counted.
    """

    rate: float
    sensors: int
    measured: str
    minutes: float
    nbytes: int
    classes: tuple[str, ...]
    splits: dict[str, SplitFacts]
    runs: tuple[RunFacts, ...]
    missing: tuple[str, ...] | None
    simulated: bool
    amplitude: Amplitude
    events: EventFacts | None
    options: str


USUAL = Reading()


def together(runs: Sequence[RunFacts]) -> SplitFacts:
    """The sums of session runs."""
    minutes, phonemes = sum(run.minutes for run in runs), sum(run.phonemes for run in runs)
    counts = np.sum([run.counts for run in runs], axis=0).tolist()
    return SplitFacts(len(runs), minutes, phonemes, sum(counts), tuple(counts))
