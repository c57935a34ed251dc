"""Events of a recording as published: when which phoneme begins, and where in its word it stands."""

import csv
import dataclasses
import itertools
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from demega_jax.errors import UserError
from demega_jax.reading import open_text

NO_PHONEME = ("oov", "sil", "sp", "spn", "")  # symbols that aligners use for silence, noise and unknown words
POSITIONS = ("B", "I", "E", "S", "")  # of a phoneme in its word: begin, inside, end, single; unknown
COLUMNS = ("kind", "segment", "timemeg")


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """Phonemes of a session run in order of time.

    onset [E]: seconds from the start of the recording, float64.  symbol [E]: names of phonemes.  position [E]: places
    in POSITIONS.  duplicates: events that were in the table twice and are dropped.  unordered: events that
    began before the one above them and were sorted.
    """

    onset: Float[np.ndarray, " E"]
    symbol: tuple[str, ...]
    position: Int[np.ndarray, " E"]
    duplicates: int
    unordered: int


def read_events(path: Path) -> Events:
    """The phonemes of an events file. Silence and unknown words are left out. UserError: it is no events file."""
    try:
        with open_text(path) as file:
            reader = csv.DictReader(file, delimiter="\t")
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                wanted = f"the tab-separated columns {', '.join(COLUMNS)}"
                raise UserError(path, f"no column {missing[0]}", wanted, "download the file again")
            found = [_event(path, reader.line_num, row) for row in reader if row["kind"] == "phoneme"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, f"cannot be read ({error})", "a table of events", "download the file again") from None
    events = [event for event in found if event[1] not in NO_PHONEME]
    unique = list(dict.fromkeys(events))
    ordered = sorted(unique, key=lambda event: event[0])
    return Events(
        onset=np.array([onset for onset, _, _ in ordered], np.float64),
        symbol=tuple(symbol for _, symbol, _ in ordered),
        position=np.array([POSITIONS.index(position) for _, _, position in ordered], np.int8),
        duplicates=len(events) - len(unique),
        unordered=sum(later[0] < earlier[0] for earlier, later in itertools.pairwise(unique)),
    )


def _event(path: Path, line: int, row: dict[str, str]) -> tuple[float, str, str]:
    """(onset, symbol, position) of a line such as `12  phoneme  ah_B  3.2  0.08`."""
    symbol, _, position = (row["segment"] or "").partition("_")
    try:
        onset = float(row["timemeg"])
    except (TypeError, ValueError):
        onset = float("nan")
    if not np.isfinite(onset):
        wanted = "a number of seconds in the column timemeg"
        raise UserError(path, f"time {row['timemeg']!r} in line {line}", wanted, "download the file again")
    return onset, symbol.lower(), position if position in POSITIONS else ""
