"""Inspection of recording trees: session runs, minutes, events, what is missing, and amplitudes."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.hdf5 import open_file
from demega_jax.data.inspect.amplitude import Amplitude, measure
from demega_jax.data.inspect.event_tables import EventFacts, options_of, other_events, survey
from demega_jax.data.inspect.missing import missing_runs
from demega_jax.data.inspect.recording_facts import USUAL, Reading, RecordingFacts, RunFacts, SplitFacts, together
from demega_jax.data.inspect.report import Report
from demega_jax.data.recordings.chapters import has_chapters, warn_of_shared
from demega_jax.data.recordings.classes import classes_of
from demega_jax.data.recordings.events import AGAIN, OTHERS, PHONEME_EVENTS
from demega_jax.data.recordings.runs import NAME, OFFICIAL, Recording, RunName, find_recordings
from demega_jax.data.recordings.splits import Assigned, read_splits
from demega_jax.data.recordings.symbols import Unknown, named
from demega_jax.data.recordings.tally import Tally
from demega_jax.data.recordings.windows import window_points
from demega_jax.errors import UserError, counted, listed, warn
from demega_jax.files import visible
from demega_jax.names import PUBLISHED_RATE, SPLITS
from demega_jax.phonemes import PHONEMES

SENSORS_READ = 16  # sensors whose checksums are compared at a time
PIECES, PIECE = 4, 2.0  # the amplitudes are measured on 4 pieces of 2 s of each session run


def inspect_recordings(root: Path, reading: Reading = USUAL) -> Report:
    """The report of a recording tree. A session run that is not sound is a problem; the others are reported."""
    report = Report(root, "recordings")
    with report.watch():
        names = _paired(root)
        if not names:
            find_recordings(root)  # its error says what is missing
        sound: list[Recording] = []
        for name in names:
            with report.going_on():
                sound += find_recordings(root, only=[name], choice=reading.choice or PHONEME_EVENTS)
        if not sound:
            return report
        _check_alike(report, sound)
        events = None if has_chapters(sound) else survey([recording.events for recording in sound])
        if events is not None and reading.choice is None:
            reading = _with_found_events(reading, sound, events)
            sound = [dataclasses.replace(recording, choice=reading.choice or recording.choice) for recording in sound]
        assigned = _assigned(report, sound, reading)
        warn_of_shared(assigned)
        facts = _facts(report, assigned, reading)
        if facts is not None:
            missing = None if events is not None else () if facts.simulated else tuple(missing_runs(names))
            options = options_of(sound[0].choice, reading.top)
            report.facts = dataclasses.replace(facts, missing=missing, events=events, options=options)
            _compare_all(report, sound)
    return report


def _with_found_events(reading: Reading, recordings: Sequence[Recording], events: EventFacts) -> Reading:
    """The reading, with other events where recordings have no phoneme, and a warning that says so."""
    for recording in recordings:
        with contextlib.suppress(UserError):  # a table without the columns of phonemes
            if recording.read_events().symbol:
                return reading
    found = other_events(recordings, events)
    if found is None:
        return reading
    warn(f"there is no phoneme, so that other events are counted, those of `{options_of(*found)}`")
    choice, top = found
    return dataclasses.replace(reading, choice=choice, top=top)


def _assigned(report: Report, recordings: Sequence[Recording], reading: Reading) -> Assigned:
    """The session runs of each split. Those of own recordings are all of train, unless a file says otherwise."""
    if reading.splits is not None and not report.problems:
        with report.going_on():
            return read_splits(reading.splits, recordings)
    elif reading.splits is not None:
        warn(f"{reading.splits} is not read, as session runs are not sound: the published splits are taken")
    if reading.splits is None and not has_chapters(recordings) and not any(r.name in OFFICIAL for r in recordings):
        warn(
            "none of these session runs is in a published split, and all count as train here: name their splits with "
            "--splits TABLE, a table with the columns run and split, or draw them with `group --split-shares`"
        )
    return {split: [r for r in recordings if OFFICIAL.get(r.name, "train") == split] for split in SPLITS}


def _facts(report: Report, assigned: Assigned, reading: Reading) -> RecordingFacts | None:
    """The facts of the session runs whose events can be read; None: there are none."""
    sound = sorted((run for some in assigned.values() for run in some), key=lambda run: run.name)
    split_of = {recording.name: split for split, some in assigned.items() for recording in some}
    classes = classes_of(assigned.get("train") or sound, reading.top)
    tallies = {split: Tally(classes) for split in SPLITS}
    runs: list[RunFacts] = []
    for recording in sound:
        with report.going_on():
            split = split_of[recording.name]
            runs.append(_run_facts(recording, tallies[split], split, reading))
    if not runs:
        return None
    _say_unlike(sound[0].rate, runs, sum((tally.unknown for tally in tallies.values()), Counter()), reading)
    for tally in tallies.values():
        with report.going_on():
            tally.check()
    return RecordingFacts(
        rate=sound[0].rate,
        sensors=sound[0].sensors,
        measured=dataclasses.replace(sound[0].acquisition, sampling_rate=None).describe(),
        minutes=sum(run.minutes for run in runs),
        nbytes=sum(recording.nbytes for recording in sound),
        classes=classes,
        splits=_splits(runs, classes),
        runs=tuple(runs),
        missing=None,
        simulated=all(recording.simulated for recording in sound),
        amplitude=_amplitude(report, sound),
        events=None,
        options="",
    )


def _compare_all(report: Report, recordings: Sequence[Recording]) -> None:
    """Read the recordings that have checksums and of which no problem is known."""
    named = {problem.where for problem in report.problems}
    for recording in (recording for recording in recordings if str(recording.meg) not in named):
        with report.going_on():
            _compare(recording)


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


def _run_facts(recording: Recording, tally: Tally, split: str, reading: Reading) -> RunFacts:
    """The facts of a session run, which is added to the tally of its split. UserError: its events are not sound."""
    name, events = recording.name, recording.read_events()
    _check_times(recording)
    classes = tally.classes
    own = Tally(classes)
    label = own.add(recording, events)
    start = np.floor((events.onset + reading.tmin) * recording.rate)
    time_points = window_points(recording.rate, reading.tmin, reading.tmax)
    fits = (start >= 0) & (start + time_points <= recording.samples)
    counts = np.bincount(label[fits & (label >= 0)], minlength=len(classes))
    seconds = recording.samples / recording.rate
    for count, what in (
        (events.duplicates, "a second time in the table"),
        (events.unordered, "out of order in time"),
        (events.cut, "in a row with fewer columns than the head of the table"),
    ):
        if count:
            warn(f"{name}: {counted(count, 'event')} {what}")
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
    unknown = len(label) - known
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


def _say_unlike(rate: float, runs: Sequence[RunFacts], unknown: Unknown, reading: Reading) -> None:
    """Warn of another sampling rate, of windows that run off their recording, and of labels that are no class."""
    if rate != PUBLISHED_RATE:
        warn(
            f"the sampling rate is {rate:g} Hz; that of the published recordings is {PUBLISHED_RATE:g} Hz, to which "
            f"`group --resample {PUBLISHED_RATE:g}` resamples"
        )
    off = sum(run.phonemes - run.windows for run in runs)
    if off:
        seconds = reading.tmax - reading.tmin
        warn(f"{counted(off, 'window', 'run')} off a recording in {seconds:g} s, and no such window is counted")
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
