"""Inspection of recording trees: runs, minutes, phonemes, what is missing, and amplitudes."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.hdf5 import open_file
from demega_jax.data.inspect.amplitude import Amplitude, measure
from demega_jax.data.inspect.report import Report
from demega_jax.data.recordings.events import read_events
from demega_jax.data.recordings.runs import NAME, OFFICIAL, Recording, RunName, find_recordings
from demega_jax.errors import UserError, listed, warn
from demega_jax.phonemes import PHONEMES

PUBLISHED_RATE, WINDOW = 250.0, 0.5  # Hz; s from a phoneme's onset, which a window counts with
PIECES, PIECE = 4, 2.0  # what is read of a run for the amplitudes: so many pieces of so many seconds


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """A run. phonemes: known ones; windows: those of them whose 0.5 s lie within the recording.

    unknown: events with symbols that are no phoneme.  counts: windows of each of the 39 phonemes.
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
    """All runs of a split together."""

    runs: int
    minutes: float
    phonemes: int
    windows: int
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class RecordingFacts:
    """A recording tree. rate: Hz.  missing: runs that should be there, in words.  amplitude: in tesla."""

    rate: float
    sensors: int
    minutes: float
    nbytes: int
    classes: tuple[str, ...]
    splits: dict[str, SplitFacts]
    runs: tuple[RunFacts, ...]
    missing: tuple[str, ...]
    simulated: bool
    amplitude: Amplitude


def inspect_recordings(root: Path) -> Report:
    """The report of a recording tree: a run that is not sound is a problem, and the others are still reported."""
    report = Report(root, "recordings")
    with report.watch():
        names = _paired(root)
        sound = [found for name in names for found in _sound(report, root, name)]
        if not names:
            find_recordings(root)  # says what is missing
        if not sound:
            return report
        _check_alike(report, sound)
        runs = [facts for recording in sound for facts in _run_facts(report, recording)]
        _say_unlike(runs)
        splits = _splits(runs)
        simulated = all(recording.simulated for recording in sound)
        amplitude = _amplitude(report, sound)
        report.facts = RecordingFacts(
            rate=sound[0].rate, sensors=sound[0].sensors, minutes=sum(run.minutes for run in runs),
            nbytes=sum(recording.nbytes for recording in sound), classes=PHONEMES, splits=splits,
            runs=tuple(runs), missing=() if simulated else tuple(missing_runs(names)), simulated=simulated,
            amplitude=amplitude,
        )  # fmt: skip
    return report


def _paired(root: Path) -> list[RunName]:
    """Runs with a recording and events; a warning for those with one of them."""
    found: list[set[RunName]] = []
    for pattern in ("*/derivatives/serialised/*_meg.h5", "*/derivatives/events/*_events.tsv"):
        matches = [NAME.match(path.name) for path in root.glob(pattern)]
        found.append({RunName(**match.groupdict()) for match in matches if match})
    megs, events = found
    for alone, what in ((megs - events, "without events"), (events - megs, "with events and no recording")):
        if alone:
            warn(f"{len(alone)} session runs {what}: {listed(sorted(alone))}")
    return sorted(megs & events)


def _sound(report: Report, root: Path, name: RunName) -> list[Recording]:
    """The run, or nothing and a problem in the report."""
    try:
        return find_recordings(root, only=[name])
    except UserError as error:
        # A file that is there twice is found again with every run.
        if str(error) not in map(str, report.problems):
            report.problems.append(error)
        return []


def _check_alike(report: Report, recordings: Sequence[Recording]) -> None:
    """A problem for each run whose rate or number of sensors is not that of the first."""
    first = recordings[0]
    for recording in recordings[1:]:
        if (recording.rate, recording.sensors) != (first.rate, first.sensors):
            came = f"{recording.sensors} sensors at {recording.rate:g} Hz"
            wanted = f"{first.sensors} at {first.rate:g} Hz, as {first.name}"
            report.problems.append(UserError(recording.meg, came, wanted, "leave the run out, or download it again"))
    if first.rate != PUBLISHED_RATE:
        warn(f"sampled at {first.rate:g} Hz, the published recordings at {PUBLISHED_RATE:g} Hz")


def _run_facts(report: Report, recording: Recording) -> list[RunFacts]:
    """The run's facts, or nothing and a problem in the report."""
    try:
        events = read_events(recording.events)
    except UserError as error:
        report.problems.append(error)
        return []
    _check_times(recording)
    place = {name: i for i, name in enumerate(PHONEMES)}
    label = np.array([place.get(symbol, -1) for symbol in events.symbol], int)
    start = np.floor(events.onset * recording.rate)
    fits = (start >= 0) & (start + round(WINDOW * recording.rate) <= recording.samples)
    counts = np.bincount(label[fits & (label >= 0)], minlength=len(PHONEMES))
    for count, what in ((events.duplicates, "duplicate events"), (events.unordered, "events out of order of time")):
        if count:
            warn(f"{recording.name}: {count} {what}")
    name, known = recording.name, int((label >= 0).sum())
    return [RunFacts(
        name=str(name), task=name.task, session=name.session, split=OFFICIAL.get(name, "train"),
        minutes=recording.samples / recording.rate / 60, phonemes=known, windows=int(counts.sum()),
        unknown=len(label) - known, counts=tuple(counts.tolist()),
    )]  # fmt: skip


def _check_times(recording: Recording) -> None:
    """Warn where the dataset `times` contradicts the sampling rate or the length."""
    with open_file(recording.meg) as file:
        times = file.get("times")
        if times is None or times.shape != (recording.samples,):
            shape = "is absent" if times is None else f"has shape {times.shape}"
            warn(f"{recording.name}: `times` {shape}; going by {recording.samples} samples at {recording.rate:g} Hz")
        elif recording.samples > 1:
            rate = (recording.samples - 1) / float(times[-1] - times[0]) if times[-1] != times[0] else 0.0
            if abs(rate / recording.rate - 1) > 0.01:
                warn(f"{recording.name}: {rate:.4g} Hz by `times`, {recording.rate:g} Hz by its attribute")


def _say_unlike(runs: Sequence[RunFacts]) -> None:
    """One line each for windows that run off and for symbols that are no phoneme."""
    off, unknown = sum(run.phonemes - run.windows for run in runs), sum(run.unknown for run in runs)
    if off:
        warn(f"{off} windows of {WINDOW:g} s run off their recording and are left out")
    if unknown:
        warn(f"{unknown} events have symbols that are no phoneme")


def _splits(runs: Sequence[RunFacts]) -> dict[str, SplitFacts]:
    found = {}
    for split in ("train", "validation", "test"):
        of_split = [run for run in runs if run.split == split]
        if of_split:
            counts = np.sum([run.counts for run in of_split], axis=0)
            found[split] = SplitFacts(
                len(of_split), sum(run.minutes for run in of_split), sum(run.phonemes for run in of_split),
                sum(run.windows for run in of_split), tuple(counts.tolist()),
            )  # fmt: skip
            absent = [name for name, count in zip(PHONEMES, counts, strict=True) if not count]
            if absent:
                warn(f"no window of {len(absent)} of {len(PHONEMES)} phonemes in {split} ({' '.join(absent)})")
    return found


def missing_runs(names: Sequence[RunName]) -> list[str]:
    """What can be known to be missing: the published validation and test run, and gaps in a task's sessions."""
    missing = [f"the {split} run {name}" for name, split in OFFICIAL.items() if name not in names]
    tasks = sorted({name.task for name in names})
    for task in tasks:
        there = {int(name.session) for name in names if name.task == task and name.session.isdigit()}
        gaps = [number for number in range(1, max(there, default=0)) if number not in there]
        # The sessions of the validation and test run are named above.
        official = {int(name.session) for name in OFFICIAL if name.task == task and name not in names}
        gaps = [number for number in gaps if number not in official]
        if gaps:
            missing.append(f"{task} session{'s' if len(gaps) > 1 else ''} {_ranges(gaps)}")
    return missing


def _ranges(numbers: Sequence[int]) -> str:
    """1-3, 5 of 1, 2, 3, 5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)


def _amplitude(report: Report, recordings: Sequence[Recording]) -> Amplitude:
    """Amplitudes over a few seconds of every run; a problem for each run with values that are not finite."""
    bad: dict[Path, set[int]] = {}

    def pieces() -> Iterator[Float[np.ndarray, "C n"]]:
        # A piece of every run, then the next piece: a reader that stops early has still seen many runs.
        for piece in range(PIECES):
            for recording in (r for r in recordings if r.sensors == recordings[0].sensors):
                length = min(round(PIECE * recording.rate), recording.samples)
                start = (recording.samples - length) * piece // (PIECES - 1)
                with open_file(recording.meg) as file:
                    x = file["data"][:, start : start + length].astype(np.float32)
                wrong = np.flatnonzero(~np.isfinite(x).all(axis=1)).tolist()
                if wrong:
                    bad.setdefault(recording.meg, set()).update(wrong)
                yield x

    amplitude = measure(pieces())
    for path, wrong in bad.items():
        came = f"values that are not finite in sensor {listed(sorted(wrong))}"
        way_out = "download the recording again, or remove this session run"
        report.problems.append(UserError(path, came, "finite numbers in every sensor", way_out))
    return amplitude
