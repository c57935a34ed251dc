"""Recordings and their events as published (LibriBrain): finding the runs, reading them, refusing what is not sound.

{task}/derivatives/serialised/sub-{subject}_ses-{session}_task-{task}_run-{run}_.._meg.h5   data [C, n], tesla
{task}/derivatives/events/sub-{subject}_ses-{session}_task-{task}_run-{run}_events.tsv
"""

import csv
import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.grouped import FLOATS, check_storage, open_file
from demega_jax.errors import UserError, warn
from demega_jax.phonemes import PHONEMES

NAME = re.compile(r"sub-(?P<subject>[^_]+)_ses-(?P<session>[^_]+)_task-(?P<task>[^_]+)_run-(?P<run>[^_]+)_")
NO_PHONEME = ("oov", "sil", "sp", "spn", "")  # symbols that aligners use for silence, noise and unknown words
POSITIONS = ("B", "I", "E", "S", "")  # of a phoneme in its word: begin, inside, end, single; unknown
COLUMNS = ("kind", "segment", "timemeg")
LISTED = 5  # names that a message lists
READ_SENSORS = 16  # sensors of one read, where a recording is not needed whole


@functools.total_ordering
@dataclasses.dataclass(frozen=True, eq=True)
class RunName:
    """Which run a recording is. Ordered by task, then session and run as numbers, then subject."""

    subject: str
    session: str
    task: str
    run: str

    def __str__(self) -> str:
        return f"{self.subject}/{self.session}/{self.task}/{self.run}"

    def __lt__(self, other: "RunName") -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[object, ...]:
        return (*_natural(self.task), *_natural(self.session), *_natural(self.run), *_natural(self.subject))


def _natural(text: str) -> tuple[str, int, str]:
    """Sherlock2 before Sherlock10; 2 before 10."""
    match = re.fullmatch(r"(.*?)(\d*)", text)
    digits = match[2] if match else ""
    return text[: len(text) - len(digits)], int(digits or -1), text


# The published splits: one run each for validation and test, all others train.
OFFICIAL = {RunName("0", "11", "Sherlock1", "2"): "validation", RunName("0", "12", "Sherlock1", "2"): "test"}


@dataclasses.dataclass(frozen=True)
class Recording:
    """A run that has both a recording and events, found sound but for its numbers."""

    name: RunName
    meg: Path
    events: Path
    sensors: int
    samples: int
    rate: float

    @property
    def nbytes(self) -> int:
        """Size of the recording in float32."""
        return self.sensors * self.samples * 4

    def read(
        self, sensors: slice = slice(None), out: Float[np.ndarray, "C n"] | None = None
    ) -> Float[np.ndarray, "C n"]:
        """The recording in tesla, float32, in `out` if given. UserError: sensors with values that are not finite,
        named."""
        x = np.empty((len(range(*sensors.indices(self.sensors))), self.samples), np.float32) if out is None else out
        with open_file(self.meg) as file:
            file["data"].read_direct(x, np.s_[sensors])
        bad = [i for i in range(len(x)) if not np.isfinite(x[i]).all()]
        if bad:
            first = sensors.start or 0
            some = ", ".join(str(first + i) for i in bad[:LISTED]) + (", .." if len(bad) > LISTED else "")
            raise UserError(
                self.meg, f"values that are not finite in sensor {some}", "finite numbers in every sensor",
                "download the recording again, or leave the run out",
            )  # fmt: skip
        return x

    def blocks(self) -> Iterator[tuple[slice, Float[np.ndarray, "c n"]]]:
        """The recording a few sensors at a time, each in the memory of those before."""
        memory = np.empty((min(READ_SENSORS, self.sensors), self.samples), np.float32)
        for first in range(0, self.sensors, READ_SENSORS):
            some = slice(first, min(first + READ_SENSORS, self.sensors))
            yield some, self.read(some, memory[: some.stop - first])


def has_recordings(root: Path) -> bool:
    """Whether a folder is a recording tree (and not one of grouped files)."""
    return next(iter(root.glob("*/derivatives/serialised/*_meg.h5")), None) is not None


def find_recordings(root: Path, only: Sequence[RunName] | None = None) -> list[Recording]:
    """The runs of a recording tree, in their order. only: these runs.

    Warns of runs without events and events without a run, which are left out. UserError: no run, files that are not
    recordings, another sampling rate or number of sensors between runs, a run of `only` that is not there.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(root, "a file" if root.exists() else "no such folder", "a recording tree", "check the path")
    megs = _by_name(root.glob("*/derivatives/serialised/*_meg.h5"))
    events = _by_name(root.glob("*/derivatives/events/*_events.tsv"))
    if only is not None:
        absent = [name for name in only if name not in megs]
        if absent:
            there = ", ".join(map(str, sorted(megs)[:LISTED])) or "none"
            raise UserError(f"run {absent[0]}", f"not in {root}", f"a run that is there: {there} ..", "check --run")
        megs = {name: path for name, path in megs.items() if name in only}
        events = {name: path for name, path in events.items() if name in only}
    for some, others, what in ((megs, events, "without events"), (events, megs, "events without a recording")):
        alone = sorted(set(some) - set(others))
        if alone:
            listed = ", ".join(map(str, alone[:LISTED])) + (", .." if len(alone) > LISTED else "")
            warn(f"{root}: {len(alone)} runs {what}, left out: {listed}")
    names = sorted(set(megs) & set(events))
    if not names:
        raise UserError(
            root, "no run with a recording and its events",
            "{task}/derivatives/serialised/*_meg.h5 and {task}/derivatives/events/*_events.tsv",
            "download them, or make some: `demega-jax simulate OUT --recordings --minutes 5`",
        )  # fmt: skip
    found = [_open(name, megs[name], events[name]) for name in names]
    for recording in found[1:]:
        for key, unit in (("rate", "Hz"), ("sensors", "sensors")):
            came, wanted = getattr(recording, key), getattr(found[0], key)
            if came != wanted:
                raise UserError(
                    recording.meg, f"{came:g} {unit}", f"{wanted:g} {unit}, as {found[0].name}",
                    "move the run elsewhere, or download it again",
                )  # fmt: skip
    return found


def _by_name(paths: Iterator[Path]) -> dict[RunName, Path]:
    found: dict[RunName, Path] = {}
    for path in sorted(paths):
        match = NAME.match(path.name)
        if match is None:
            continue
        name = RunName(**match.groupdict())
        if name in found:
            raise UserError(path, f"a second file of run {name}", f"one, such as {found[name].name}", "remove one")
        found[name] = path
    return found


def _open(name: RunName, meg: Path, events: Path) -> Recording:
    with open_file(meg) as file:
        data = file.get("data")
        if not isinstance(data, h5py.Dataset) or data.ndim != 2 or data.dtype.name not in FLOATS or 0 in data.shape:
            came = "no dataset `data`" if not isinstance(data, h5py.Dataset) else f"`data` {data.dtype} {data.shape}"
            raise UserError(meg, came, "`data` [sensors, samples] of floating point", "download it again")
        check_storage(meg, data)
        rate = file.attrs.get("sample_frequency")
        if rate is None or not float(rate) > 0:
            raise UserError(meg, f"sample_frequency {rate}", "a rate in Hz (an attribute of the file)", "add it")
        sensors, samples = data.shape
    return Recording(name, meg, events, sensors, samples, float(rate))


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


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one split, over its runs in order; a window's number is its place here.

    run [W]: place in `recordings`.  start [W]: first sample.  label [W]: place in `classes`.  position [W]: place in
    POSITIONS.  time_points: samples T of each.
    """

    recordings: tuple[Recording, ...]
    classes: tuple[str, ...]
    time_points: int
    run: Int[np.ndarray, " W"]
    start: Int[np.ndarray, " W"]
    label: Int[np.ndarray, " W"]
    position: Int[np.ndarray, " W"]

    def __len__(self) -> int:
        return len(self.run)

    def class_counts(self) -> Int[np.ndarray, " V"]:
        """Windows of each class."""
        return np.bincount(self.label, minlength=len(self.classes))


def find_windows(
    recordings: Sequence[Recording], *, tmin: float = 0.0, tmax: float = 0.5, classes: Sequence[str] = PHONEMES
) -> Windows:
    """Windows from tmin to tmax s around each phoneme's onset: samples int((onset + tmin) rate) .. + T.

    One warning line each, with a count: windows that run off a recording, unknown symbols, duplicate and unordered
    events. UserError: no window.
    """
    rate = recordings[0].rate
    time_points = round((tmax - tmin) * rate)
    if time_points < 2:
        raise UserError("tmin, tmax", f"a window of {time_points} samples", "at least 2", "widen them")
    place = {name: i for i, name in enumerate(classes)}
    columns: list[tuple[np.ndarray, ...]] = []
    off = duplicates = unordered = 0
    unknown: dict[str, int] = {}
    for index, recording in enumerate(recordings):
        events = read_events(recording.events)
        duplicates, unordered = duplicates + events.duplicates, unordered + events.unordered
        label = np.array([place.get(symbol, -1) for symbol in events.symbol], np.int32)
        for symbol in (s for s in events.symbol if s not in place):
            unknown[symbol] = unknown.get(symbol, 0) + 1
        start = np.floor((events.onset + tmin) * rate).astype(np.int64)
        fits = (start >= 0) & (start + time_points <= recording.samples)
        off += int((~fits & (label >= 0)).sum())
        keep = fits & (label >= 0)
        columns.append((np.full(keep.sum(), index, np.int32), start[keep], label[keep], events.position[keep]))
    names = ", ".join(sorted(unknown)[:LISTED])
    for count, what in (
        (off, "windows run off a recording and are left out"),
        (sum(unknown.values()), f"events with symbols that are no class are left out ({names})"),
        (duplicates, "duplicate events are left out"),
        (unordered, "events came out of order of time and were sorted"),
    ):
        if count:
            warn(f"{count} {what} ({len(recordings)} runs from {recordings[0].name})")
    run, start, label, position = (np.concatenate(column) for column in zip(*columns, strict=True))
    if not len(run):
        came = f"no window of {time_points} samples in {len(recordings)} runs"
        raise UserError(recordings[0].events, came, "at least one phoneme", "check the events and the window")
    return Windows(tuple(recordings), tuple(classes), time_points, run, start, label, position)
