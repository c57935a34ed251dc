"""Events of a recording as published: when which phoneme begins, and where in its word it stands."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from demega_jax.errors import UserError

NO_PHONEME = ("oov", "sil", "sp", "spn", "")  # symbols that aligners use for silence, noise and unknown words
POSITIONS = ("B", "I", "E", "S", "")  # of a phoneme in its word: begin, inside, end, single; unknown
COLUMNS = ("kind", "segment", "timemeg")


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """Phonemes of a run in order of time. onset [E]: s from the start of the recording, float64.

    symbol [E]: names; position [E]: places in POSITIONS.  duplicates, unordered: events dropped, and out of order.
    """

    onset: Float[np.ndarray, " E"]
    symbol: tuple[str, ...]
    position: Int[np.ndarray, " E"]
    duplicates: int
    unordered: int


def read_events(path: Path) -> Events:
    """The phonemes of an events file; silence and words out of vocabulary are none. UserError: not such a file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter="\t")
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    path, f"no column {missing[0]}", f"tab-separated columns {', '.join(COLUMNS)}", "download it again"
                )
            found = [_event(path, reader.line_num, row) for row in reader if row["kind"] == "phoneme"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, f"cannot be read ({error})", "a table of events", "download it again") from None
    events = [event for event in found if event[1] not in NO_PHONEME]
    unique = dict.fromkeys(events)
    times = np.array([event[0] for event in unique], np.float64)
    order = np.argsort(times, kind="stable")
    listed = list(unique)
    return Events(
        times[order], tuple(listed[i][1] for i in order),
        np.array([POSITIONS.index(listed[i][2]) for i in order], np.int8),
        len(events) - len(unique), int((np.diff(times) < 0).sum()),
    )  # fmt: skip


def _event(path: Path, line: int, row: dict[str, str]) -> tuple[float, str, str]:
    segment = row["segment"] or ""
    symbol, _, position = segment.partition("_")
    try:
        onset = float(row["timemeg"])
    except (TypeError, ValueError):
        onset = float("nan")
    if not np.isfinite(onset):
        raise UserError(path, f"time {row['timemeg']!r} in line {line}", "seconds", "download it again")
    return onset, symbol.lower(), position if position in POSITIONS else ""
