"""Events of a recording as published: when which phoneme begins, and where in its word it stands."""

import collections
import csv
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.recordings.class_map import ClassMap
from demega_jax.data.tables import bare
from demega_jax.data.unreadable import why_unreadable
from demega_jax.errors import UserError, did_you_mean, listed
from demega_jax.names import straight
from demega_jax.reading import open_text

NO_PHONEME = ("oov", "sil", "sp", "spn", "")  # symbols that aligners use for silence, noise and unknown words
NO_LABEL = "n/a"  # in tables of BIDS, for what is not known
POSITIONS = ("B", "I", "E", "S", "")  # of a phoneme in its word: begin, inside, end, single; unknown
TIME, ONSET = "timemeg", "onset"  # columns of the time of an event in s; the second, as in BIDS, of other events only
AGAIN = "download the file again"
ALL_ROWS = "all"  # as the events that are chosen
OTHERS = "name other events than phonemes with `group --events` and `--label` (or data.regroup.events and label)"
QUIET = 30.0, 0.1  # s, and share of a recording: a longer end without any event means that events are missing


@dataclasses.dataclass(frozen=True)
class EventChoice:
    """Which rows of a table of events have windows: those with this value in this column, or all, where these are
    empty; label: the column of their labels. Only labels of phonemes have a position in the word, as in ah_B.

    class_map: the classes of labels; None: each label is a class of its own.
    """

    column: str = "kind"
    value: str = "phoneme"
    label: str = "segment"
    class_map: ClassMap | None = None

    @property
    def phonemes(self) -> bool:
        """Whether these are the published phonemes, whatever their classes are."""
        usual = PHONEME_EVENTS
        return (self.column, self.value, self.label) == (usual.column, usual.value, usual.label)

    @property
    def rows(self) -> str:
        """The rows as `group --events` names them."""
        return f"{self.column}={self.value}" if self.column else ALL_ROWS

    @property
    def left_out(self) -> frozenset[str]:
        """Labels that stand for no class: silence, noise and unknown words, unless a mapping names them."""
        named = () if self.class_map is None else [label for label, _ in self.class_map.pairs]
        return frozenset((*NO_PHONEME, *(() if self.phonemes else (NO_LABEL,)))).difference(named)


PHONEME_EVENTS = EventChoice()


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """The chosen events of a session run, usually phonemes, in order of time.

    onset [E]: seconds from the start of the recording, float64.  symbol [E]: names of phonemes, in small letters and
    with straight apostrophes.  position [E]: places in POSITIONS.  duplicates: events that were in the table twice and
    are dropped.  unordered: events that began before the one above them and were sorted.  cut: rows of the table that
    have fewer columns than its head and are left out.  last: seconds at which the last event of any kind begins; 0 if
    there is none.
    """

    onset: Float[np.ndarray, " E"]
    symbol: tuple[str, ...]
    position: Int[np.ndarray, " E"]
    duplicates: int
    unordered: int
    cut: int = 0
    last: float = 0.0

    def end_early(self, seconds: float) -> bool:
        """Whether a recording of this length goes on long after its last event: over 30 s and a tenth of its length."""
        least, share = QUIET
        return seconds - self.last > max(least, share * seconds)


class _Row(NamedTuple):
    """A row of the table; a column that it lacks is empty."""

    line: int
    kind: str
    segment: str
    time: str
    cut: bool


def read_events(path: Path, choice: EventChoice = PHONEME_EVENTS) -> Events:
    """The chosen events of a file. Silence, unknown words and rows without a label are left out.

    UserError: it is no events file.
    """
    try:
        with open_text(path, "utf-8-sig") as file:  # a byte order mark is no part of the first column
            rows = list(_rows(path, csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), choice))
    except (OSError, UnicodeError, csv.Error) as error:
        came = f"cannot be read ({error})"
        raise why_unreadable(path, error) or UserError(path, came, "a table of events", AGAIN) from None
    left_out = choice.left_out
    unlabelled = left_out & {NO_LABEL}  # such rows often have no time either
    found = [
        _event(path, row, choice) for row in rows if row.kind == choice.value and row.segment.lower() not in unlabelled
    ]
    events = [event for event in found if event[1] not in left_out]
    unique = list(dict.fromkeys(events))
    ordered = sorted(unique, key=lambda event: event[0])
    times = (_seconds(row.time) for row in rows)
    return Events(
        onset=np.array([onset for onset, _, _ in ordered], np.float64),
        symbol=tuple(symbol for _, symbol, _ in ordered),
        position=np.array([POSITIONS.index(position) for _, _, position in ordered], np.int8),
        duplicates=len(events) - len(unique),
        unordered=sum(later[0] < earlier[0] for earlier, later in itertools.pairwise(unique)),
        cut=sum(row.cut and row.kind != choice.value for row in rows),
        last=max((time for time in times if np.isfinite(time)), default=0.0),
    )


def _rows(path: Path, lines: Iterator[list[str]], choice: EventChoice) -> Iterator[_Row]:
    """The rows below the head, one for each line. A quotation mark is a letter: in a word it may stand alone.

    If a cell begins and ends with one, as in tables where every text is quoted, the two are left out.
    """
    head = [bare(cell) for cell in next(lines, [])]
    time = ONSET if TIME not in head and ONSET in head and not choice.phonemes else TIME
    columns = (choice.column or choice.label, choice.label, time)
    missing = [name for name in columns if name not in head]
    if missing:
        came = f"no column {missing[0]} in its head ({listed(head, 20)})"
        wanted = f"the tab-separated columns {', '.join(columns)}"
        way_out = f"{AGAIN}, or {OTHERS}" if choice.phonemes else did_you_mean(missing[0], head, "name another column")
        raise UserError(path, came, wanted, way_out)
    places = [head.index(name) for name in columns]
    for number, cells in enumerate(lines, 2):
        if cells:  # a line without anything is no row
            kind, segment, when = (bare(cells[place]) if place < len(cells) else "" for place in places)
            yield _Row(number, kind if choice.column else "", segment, when, len(cells) < len(head))


def values_of(path: Path, column: str) -> tuple[str, ...]:
    """The different values of a column of a table that `read_events` has read, the most frequent first."""
    with open_text(path, "utf-8-sig") as file:
        head, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    place = [bare(cell) for cell in head].index(column)
    counts = collections.Counter(bare(cells[place]) for cells in rows if len(cells) > place)
    return tuple(value for value, _ in counts.most_common())


def _seconds(text: str) -> float:
    """A time in seconds; NaN for what is no number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _event(path: Path, row: _Row, choice: EventChoice) -> tuple[float, str, str]:
    """(onset, symbol, position) of a line such as `12  phoneme  ah_B  3.2  0.08`. Other events have no position."""
    symbol, _, position = row.segment.partition("_") if choice.phonemes else (row.segment.strip(), "", "")
    onset = _seconds(row.time)
    if not np.isfinite(onset):
        wanted = f"a number of seconds in the column {TIME}" + ("" if choice.phonemes else f" or {ONSET}")
        way_out = AGAIN if choice.phonemes else "correct the table, or name only rows with a time by --events"
        raise UserError(path, f"time {row.time!r} in line {row.line}", wanted, way_out)
    return onset, straight(symbol.lower()), position if position in POSITIONS else ""
