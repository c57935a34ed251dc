"""What is odd in the events of several session runs, counted, for one warning each."""

import collections
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from demega_jax.data.recordings.events import PHONEME_EVENTS, Events
from demega_jax.data.recordings.runs import Recording, RunName
from demega_jax.data.recordings.symbols import Unknown, check_vanished, label_symbols, named
from demega_jax.errors import counted, listed, warn


class Tally:
    """Counts over the session runs that were added. classes: the names that symbols are looked for in."""

    def __init__(self, classes: Sequence[str]):
        self.classes = classes
        self.unknown: Unknown = collections.Counter()
        self._counts = np.zeros(len(classes), np.int64)
        self._duplicates = self._unordered = self._cut = 0
        self._early: list[RunName] = []
        self._empty: list[RunName] = []
        self._first: Recording | None = None

    def add(self, recording: Recording, events: Events) -> Int[np.ndarray, " E"]:
        """Count a session run. The class of each of its events, a place in `classes`; -1 for none."""
        label, unknown = label_symbols(events.symbol, self.classes, recording.choice)
        self.unknown += unknown
        self._counts += np.bincount(label[label >= 0], minlength=len(self.classes))
        self._duplicates += events.duplicates
        self._unordered += events.unordered
        self._cut += events.cut
        self._early += [recording.name] if events.end_early(recording.samples / recording.rate) else []
        self._empty += [] if (label >= 0).any() else [recording.name]
        self._first = self._first or recording
        return label

    def check(self) -> None:
        """UserError: phonemes have vanished, as their symbols are unknown."""
        if self._first is not None and self._first.choice == PHONEME_EVENTS:
            check_vanished(self._first.events, self._counts, self.unknown, self.classes)

    def warn(self, where: str) -> None:
        """One warning for each kind of oddity that was found. where: the session runs in words."""
        choice = PHONEME_EVENTS if self._first is None else self._first.choice
        strange = "a symbol that is no phoneme" if choice == PHONEME_EVENTS else "a label that is no class"
        if choice.class_map is not None:
            strange = f"a label that {choice.class_map.path} does not name"
        event = "phoneme" if choice == PHONEME_EVENTS else "event of a class"
        for count, noun, verb, what in (
            (self.unknown.total(), "event", "have", f"{strange}, and no such event is used: {named(self.unknown)}"),
            (self._duplicates, "duplicate event", "are", "left out"),
            (self._unordered, "event", "were", "out of order in time, and all events have been sorted"),
            (self._cut, "row", "have", "fewer columns than the head of the table of events, and no such row is used"),
            (len(self._empty), "session run", "have", f"no {event}: {listed(self._empty)}"),
            (len(self._early), "session run", "go", f"on long after the last event: {listed(self._early)}"),
        ):
            if count:
                warn(f"{counted(count, noun, verb)} {what} ({where})")
