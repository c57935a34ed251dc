"""What the tables of events of own recordings hold: the labels of each column, and the options that read them."""

import collections
import csv
import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from demega_jax.data.recordings.classes import classes_of, event_choice
from demega_jax.data.recordings.events import ALL_ROWS, NO_LABEL, ONSET, PHONEME_EVENTS, TIME, EventChoice
from demega_jax.data.recordings.runs import Recording
from demega_jax.data.tables import bare
from demega_jax.errors import UserError
from demega_jax.reading import open_text

FRACTION = re.compile(r"[-+]?[0-9]*\.[0-9]+(e[-+]?[0-9]+)?")
SHOWN = 5  # labels of a column, the most frequent ones
TRIAL_TYPE = "trial_type"  # the column of BIDS with the kind of a trial
MOST_CLASSES = 50  # of events that nobody chose
TRIED = 12  # ways to read events that nobody chose


@dataclasses.dataclass(frozen=True)
class ColumnFacts:
    """A column of labels. rows: with a label.  different: labels.  most: the most frequent ones, and rows of each."""

    name: str
    rows: int
    different: int
    most: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class EventFacts:
    """The tables of events. time: the column of the times, None: there is none.  columns: those with labels that come
    again, but for times and other numbers."""

    tables: int
    rows: int
    time: str | None
    columns: tuple[ColumnFacts, ...]


def options_of(choice: EventChoice, top: int | None) -> str:
    """The options of `group` and `inspect` that read these events."""
    table = [] if choice.class_map is None else ["--classes-file", str(choice.class_map.path)]
    return shlex.join(["--events", choice.rows, "--label", choice.label, *table, *(["--top", str(top)] if top else [])])


def survey(paths: Sequence[Path]) -> EventFacts:
    """The columns of tables of events. A table that cannot be read is left out, as its reader names it."""
    counts: dict[str, collections.Counter[str]] = {}
    heads: list[set[str]] = []
    numbers: set[str] = set()  # columns with decimals, such as times and durations
    rows = 0
    for path in paths:
        try:
            with open_text(path, "utf-8-sig") as file:
                head, *lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)) or [[]]
        except (OSError, UnicodeError, csv.Error):
            continue
        names = [bare(cell) for cell in head]
        heads.append(set(names))
        for cells in filter(None, lines):
            rows += 1
            for name, cell in zip(names, cells, strict=False):
                label = bare(cell)  # as `--events COLUMN=LABEL` compares it
                if name in (TIME, ONSET) or FRACTION.fullmatch(label.strip()):
                    numbers.add(name)
                elif name not in numbers:
                    counts.setdefault(name, collections.Counter())[label] += 1
    times = [name for name in (TIME, ONSET) if heads and all(name in head for head in heads)]
    columns = [_column(name, found) for name, found in counts.items() if name not in numbers]
    return EventFacts(len(heads), rows, times[0] if times else None, tuple(one for one in columns if one is not None))


def _column(name: str, counts: "collections.Counter[str]") -> ColumnFacts | None:
    """The facts of a column; None: no label comes a second time."""
    labels = {label: count for label, count in counts.items() if label.strip().lower() not in ("", NO_LABEL)}
    rows = sum(labels.values())
    if len(labels) == rows:
        return None
    most = sorted(labels.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    return ColumnFacts(name, rows, len(labels), tuple(most))


def other_events(recordings: Sequence[Recording], facts: EventFacts) -> tuple[EventChoice, int | None] | None:
    """Events other than phonemes with two labels or more, which nobody chose, and how many of their labels are classes;
    None: there are none."""
    names = [column.name for column in facts.columns]
    usual, ways = PHONEME_EVENTS, []
    for column in facts.columns:
        if column.name == usual.column:
            ways += [(f"{column.name}={kind}", usual.label) for kind, _ in column.most if kind != usual.value]
    ways += [(ALL_ROWS, name) for name in sorted(names, key=lambda name: name != TRIAL_TYPE)]
    for events, label in ways[:TRIED]:
        choice = event_choice("--", events, label, None, None)
        try:
            classes = classes_of([dataclasses.replace(one, choice=choice) for one in recordings], None)
        except UserError:
            continue  # another column, or too few labels
        return choice, MOST_CLASSES if len(classes) > MOST_CLASSES else None
    return None
