"""Inspection of recording trees: session runs, minutes, phonemes, what is missing, and amplitudes."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.hdf5 import open_file
from demega_jax.data.inspect.amplitude import Amplitude, measure
from demega_jax.data.inspect.report import Report
from demega_jax.data.recordings.chapters import warn_of_shared
from demega_jax.data.recordings.classes import classes_of
from demega_jax.data.recordings.events import AGAIN, OTHERS, PHONEME_EVENTS, EventChoice
from demega_jax.data.recordings.runs import NAME, OFFICIAL, Recording, RunName, find_recordings
from demega_jax.data.recordings.symbols import Unknown, named
from demega_jax.data.recordings.tally import Tally
from demega_jax.errors import UserError, counted, listed, warn
from demega_jax.files import visible
from demega_jax.names import PUBLISHED_RATE, SPLITS
from demega_jax.phonemes import PHONEMES

PUBLISHED_TASKS = "Sherlock"  # the begin of the names of LibriBrain's tasks
WINDOW = 0.5  # s of the windows that are counted
SENSORS_READ = 16  # sensors whose checksums are compared at a time
PIECES, PIECE = 4, 2.0  # the amplitudes are measured on 4 pieces of 2 s of each session run


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """A session run. phonemes: known ones, or the events of other classes.  windows: those of them whose 0.5 s lie
    within the recording.

    unknown: events with labels that are no class.  counts: windows of each class, usually the 39 phonemes.
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
    """A recording tree. rate: Hz.  missing: session runs that should be there, in words.  amplitude: in tesla."""

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


def inspect_recordings(root: Path, choice: EventChoice = PHONEME_EVENTS, top: int | None = None) -> Report:
    """The report of a recording tree. A session run that is not sound is a problem; the others are reported.

    choice, top: the events to count, and how many of their labels are classes, as for `classes_of`.
    """
    report = Report(root, "recordings")
    with report.watch():
        names = _paired(root)
        if not names:
            find_recordings(root)  # its error says what is missing
        sound: list[Recording] = []
        for name in names:
            with report.going_on():
                sound += find_recordings(root, only=[name], choice=choice)
        _check_alike(report, sound)
        warn_of_shared({split: [r for r in sound if OFFICIAL.get(r.name, "train") == split] for split in SPLITS})
        runs: list[RunFacts] = []
        train = [recording for recording in sound if OFFICIAL.get(recording.name, "train") == "train"]
        classes = classes_of(train or sound, top) if sound else PHONEMES
        tallies = {split: Tally(classes) for split in SPLITS}
        for recording in sound:
            with report.going_on():
                runs.append(_run_facts(recording, tallies[OFFICIAL.get(recording.name, "train")]))
        if not runs:
            return report
        _say_unlike(sound[0].rate, runs, sum((tally.unknown for tally in tallies.values()), Counter()))
        for tally in tallies.values():
            with report.going_on():
                tally.check()
        simulated = all(recording.simulated for recording in sound)
        report.facts = RecordingFacts(
            rate=sound[0].rate,
            sensors=sound[0].sensors,
            minutes=sum(run.minutes for run in runs),
            nbytes=sum(recording.nbytes for recording in sound),
            classes=classes,
            splits=_splits(runs, classes),
            runs=tuple(runs),
            missing=() if simulated else tuple(missing_runs(names)),
            simulated=simulated,
            amplitude=_amplitude(report, sound),
        )
        named = {problem.where for problem in report.problems}
        for recording in (recording for recording in sound if str(recording.meg) not in named):
            with report.going_on():
                _compare(recording)
    return report


def _paired(root: Path) -> list[RunName]:
    """Session runs with a recording and events. Warns of those with one of them."""
    found: list[set[RunName]] = []
    for pattern in ("*/derivatives/serialised/*_meg.h5", "*/derivatives/events/*_events.tsv"):
        matches = [NAME.match(path.name) for path in visible(root, pattern)]
        found.append({RunName(**match.groupdict()) for match in matches if match})
    megs, events = found
    for alone, what in ((megs - events, "without events"), (events - megs, "with events but no recording")):
        if alone:
            warn(f"{counted(len(alone), 'session run')} {what}: {listed(sorted(alone))}")
    return sorted(megs & events)


def _check_alike(report: Report, recordings: Sequence[Recording]) -> None:
    """Report a problem for each session run whose rate or number of sensors is not that of the first."""
    for recording in recordings[1:]:
        first = recordings[0]
        if (recording.rate, recording.sensors) != (first.rate, first.sensors):
            came = f"{counted(recording.sensors, 'sensor')} at {recording.rate:g} Hz"
            wanted = f"{counted(first.sensors, 'sensor')} at {first.rate:g} Hz, as in session run {first.name}"
            way_out = "move this session run out of the folder, or download it again"
            report.problems.append(UserError(recording.meg, came, wanted, way_out))


def _run_facts(recording: Recording, tally: Tally) -> RunFacts:
    """The facts of a session run, which is added to the tally of its split. UserError: its events are not sound."""
    name, events = recording.name, recording.read_events()
    _check_times(recording)
    classes = tally.classes
    own = Tally(classes)
    label = own.add(recording, events)
    start = np.floor(events.onset * recording.rate)
    fits = (start >= 0) & (start + round(WINDOW * recording.rate) <= recording.samples)
    counts = np.bincount(label[fits & (label >= 0)], minlength=len(classes))
    seconds = recording.samples / recording.rate
    for count, what in (
        (events.duplicates, "duplicate events"),
        (events.unordered, "events out of order in time"),
        (events.cut, "rows of events with fewer columns than the head of their table"),
    ):
        if count:
            warn(f"{name}: {count} {what}")
    if events.end_early(seconds):
        warn(f"{name}: the last event is at {events.last:.1f} s of {seconds:.1f} s, so that events may be missing")
    known, of_class = int((label >= 0).sum()), tuple(counts.tolist())
    if not known:
        event = "phoneme" if recording.choice.phonemes else "event of a class"
        others = f"{counted(own.unknown.total(), 'event')} with other labels: {named(own.unknown) or 'none'}"
        came = f"no {event}, and {others}"
        wanted = f"events of the classes {listed(classes)}"
        raise UserError(recording.events, came, wanted, f"{AGAIN}, or {OTHERS}")
    tally.add(recording, events)
    split, unknown = OFFICIAL.get(name, "train"), len(label) - known
    return RunFacts(str(name), name.task, name.session, split, seconds / 60, known, sum(of_class), unknown, of_class)


def _compare(recording: Recording) -> None:
    """Read a recording that has checksums, a few sensors at a time. UserError: a sensor was altered."""
    if recording.checks is not None:
        for first in range(0, recording.sensors, SENSORS_READ):
            recording.read(slice(first, min(first + SENSORS_READ, recording.sensors)))


def _check_times(recording: Recording) -> None:
    """Warn if the dataset `times` contradicts the sampling rate or the length."""
    with open_file(recording.meg) as file:
        times = file.get("times")
        if times is None or times.shape != (recording.samples,):
            shape = "is absent" if times is None else f"has shape {times.shape}"
            used = f"{recording.samples} samples at {recording.rate:g} Hz are assumed"
            warn(f"{recording.name}: `times` {shape}, so {used}")
        elif recording.samples > 1:
            rate = (recording.samples - 1) / float(times[-1] - times[0]) if times[-1] != times[0] else 0.0
            if abs(rate / recording.rate - 1) > 0.01:
                warn(f"{recording.name}: {rate:.4g} Hz by `times`, but {recording.rate:g} Hz by its attribute")


def _say_unlike(rate: float, runs: Sequence[RunFacts], unknown: Unknown) -> None:
    """Warn of another sampling rate, of windows that run off their recording, and of labels that are no class."""
    if rate != PUBLISHED_RATE:
        warn(
            f"the sampling rate is {rate:g} Hz; that of the published recordings is {PUBLISHED_RATE:g} Hz, to which "
            f"`group --resample {PUBLISHED_RATE:g}` resamples"
        )
    off = sum(run.phonemes - run.windows for run in runs)
    if off:
        warn(f"{counted(off, 'window', 'run')} off a recording in {WINDOW:g} s, and no such window is counted")
    if unknown:
        warn(f"{counted(unknown.total(), 'event', 'have')} a label that is no class: {named(unknown)}")


def _splits(runs: Sequence[RunFacts], classes: Sequence[str]) -> dict[str, SplitFacts]:
    """The session runs of each split together. Warns of classes that a split lacks."""
    found = {}
    for split in SPLITS:
        if of_split := [run for run in runs if run.split == split]:
            found[split] = together(of_split)
            absent = [name for name, count in zip(classes, found[split].counts, strict=True) if not count]
            if absent:
                what = "phonemes" if classes == PHONEMES else "classes"
                warn(f"no window of {len(absent)} of {len(classes)} {what} in {split} ({' '.join(absent)})")
    return found


def together(runs: Sequence[RunFacts]) -> SplitFacts:
    """The sums of session runs."""
    minutes, phonemes = sum(run.minutes for run in runs), sum(run.phonemes for run in runs)
    counts = np.sum([run.counts for run in runs], axis=0).tolist()
    return SplitFacts(len(runs), minutes, phonemes, sum(counts), tuple(counts))


def missing_runs(names: Sequence[RunName]) -> list[str]:
    """What is known to be missing: of published recordings the session runs of validation and test, and gaps in the
    sessions of a task."""
    published = any(name.task.startswith(PUBLISHED_TASKS) for name in names)
    official = OFFICIAL.items() if published else ()
    missing = [f"the {split} session run {name}" for name, split in official if name not in names]
    for task in sorted({name.task for name in names}):
        there = {int(name.session) for name in names if name.task == task and name.session.isdigit()}
        # The sessions of validation and test are named above already.
        named = {int(name.session) for name in OFFICIAL if name.task == task and name not in names}
        gaps = [number for number in range(1, max(there, default=0)) if number not in there | named]
        if gaps:
            missing.append(f"{task} session{'s' if len(gaps) > 1 else ''} {_ranges(gaps)}")
    return missing


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 5 as `1-3, 5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)


def _amplitude(report: Report, recordings: Sequence[Recording]) -> Amplitude:
    """Amplitudes over a few seconds of every session run. Values that are not finite are a problem."""
    bad: dict[Path, set[int]] = {}

    def pieces() -> Iterator[Float[np.ndarray, "C n"]]:
        # One piece of every session run, then the next pieces: a reader that stops early has seen many session runs.
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

    amplitude = measure(pieces(), types=recordings[0].acquisition.sensor_types)
    for path, wrong in bad.items():
        came = f"values that are not finite in sensor {listed(sorted(wrong))}"
        way_out = "download the recording again, or remove this session run"
        report.problems.append(UserError(path, came, "finite numbers in every sensor", way_out))
    return amplitude
