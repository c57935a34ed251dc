"""Recordings as LibriBrain publishes them: finding the session runs, checking them, reading them.

{task}/derivatives/serialised/sub-{subject}_ses-{session}_task-{task}_run-{run}_.._meg.h5   data [C, n], tesla
{task}/derivatives/events/sub-{subject}_ses-{session}_task-{task}_run-{run}_events.tsv
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.acquisition import Acquisition, differences, read_acquisition, same_number
from demega_jax.data.checksums import Checks, check_events, events_checksum, sensor_checks
from demega_jax.data.grouped import FLOATS
from demega_jax.data.hdf5 import check_storage, find_dataset, flag, open_file
from demega_jax.data.recordings.events import PHONEME_EVENTS, EventChoice, Events, read_events
from demega_jax.errors import UserError, counted, listed, shortened, warn
from demega_jax.files import visible
from demega_jax.names import MAX_RATE
from demega_jax.signal.resample import ratio_of, resampled

NAME = re.compile(r"sub-(?P<subject>[^_]+)_ses-(?P<session>[^_]+)_task-(?P<task>[^_]+)_run-(?P<run>[^_]+)_")


@dataclasses.dataclass(frozen=True)
class RunName:
    """The name of a session run. Ordered by task, then session and run as numbers, then subject."""

    subject: str
    session: str
    task: str
    run: str

    def __str__(self) -> str:
        return f"{self.subject}/{self.session}/{self.task}/{self.run}"

    def paths(self, folder: Path, kind: str = "meg.h5") -> tuple[Path, Path]:
        """(samples, events): its files in a recording tree. kind: the end of the name of the first."""
        base = folder / self.task / "derivatives"
        stem = f"sub-{self.subject}_ses-{self.session}_task-{self.task}_run-{self.run}_"
        return base / "serialised" / f"{stem}{kind}", base / "events" / f"{stem}events.tsv"

    def __lt__(self, other: "RunName") -> bool:
        return self._key() < other._key()

    def _key(self) -> list[tuple[str, int, str]]:
        return [_natural(text) for text in (self.task, self.session, self.run, self.subject)]


def _natural(text: str) -> tuple[str, int, str]:
    """A key that sorts Sherlock2 before Sherlock10, and 2 before 10."""
    word = text.rstrip("0123456789")
    return word, int(text[len(word) :] or -1), text


# The published splits: one session run for validation and one for test; all others are for training.
OFFICIAL = {RunName("0", "11", "Sherlock1", "2"): "validation", RunName("0", "12", "Sherlock1", "2"): "test"}


@dataclasses.dataclass(frozen=True)
class Recording:
    """A session run with a recording and events. Shape and attributes were checked; `read` checks the numbers."""

    name: RunName
    meg: Path
    events: Path
    sensors: int
    samples: int
    rate: float
    simulated: bool = False
    checks: Checks | None = dataclasses.field(default=None, compare=False, repr=False)  # of the sensors
    events_checksum: int | None = dataclasses.field(default=None, compare=False, repr=False)
    acquisition: Acquisition = dataclasses.field(default=Acquisition(), compare=False, repr=False)
    choice: EventChoice = PHONEME_EVENTS
    stored: tuple[int, Fraction] | None = None  # where it is resampled: samples in the file, and the ratio of the rates

    @property
    def nbytes(self) -> int:
        """Size of the recording in float32."""
        return self.sensors * self.samples * 4

    def read_events(self) -> Events:
        """The events, compared with the checksum that the recording has of their file, if any. UserError: altered."""
        found = read_events(self.events, self.choice)
        check_events(self.events, self.events_checksum)
        return found

    def read(
        self, sensors: slice = slice(None), out: Float[np.ndarray, "C n"] | None = None
    ) -> Float[np.ndarray, "C n"]:
        """The recording in tesla, float32, in `out` if it is given. A sensor is compared with its checksum, if any.

        UserError: values that are not finite, or a sensor that was altered. It names the sensors, counted from 0.
        """
        count = len(range(*sensors.indices(self.sensors)))
        samples = self.samples if self.stored is None else self.stored[0]
        x = out if out is not None and self.stored is None else np.empty((count, samples), np.float32)
        with open_file(self.meg) as file:
            file["data"].read_direct(x, np.s_[sensors])
        bad = [i for i in range(len(x)) if not np.isfinite(x[i]).all()]
        if bad:
            first = sensors.start or 0
            came = f"values that are not finite in sensor {listed(first + i for i in bad)}"
            way_out = "download the recording again, or remove this session run"
            raise UserError(self.meg, came, "finite numbers in every sensor", way_out)
        if self.checks is not None:
            self.checks.compare(np.arange(self.sensors)[sensors], x)
        if self.stored is None:
            return x
        found = resampled(x, self.stored[1])
        if out is not None:
            out[...] = found
        return found if out is None else out

    def at_rate(self, rate: float) -> "Recording":
        """This recording, resampled to another rate in Hz when it is read. UserError: the rates have no small ratio."""
        if same_number(rate, self.rate):
            return self
        ratio = ratio_of(self.rate, rate)
        if ratio is None:
            way_out = f"choose a rate such as {self.rate / 2:g}, or resample the recordings before"
            raise UserError(
                "--resample (or data.regroup.resample)",
                f"{rate:g} Hz",
                f"a simple share of {self.rate:g} Hz ({self.meg})",
                way_out,
            )
        known = dataclasses.replace(self.acquisition, sampling_rate=rate)
        samples = -(-self.samples * ratio.numerator // ratio.denominator)
        return dataclasses.replace(self, samples=samples, rate=rate, acquisition=known, stored=(self.samples, ratio))


def find_recordings(
    root: Path,
    only: Sequence[RunName] | None = None,
    *,
    rate: float | None = None,
    choice: EventChoice = PHONEME_EVENTS,
) -> list[Recording]:
    """The session runs of a recording tree, in their order. only: find these session runs and no others.

    rate: in Hz, to which they are resampled when they are read.  choice: of the events that have windows.

    Warns of recordings without events and events without a recording, which are left out.
    UserError: no session run, files that are not recordings, session runs that differ in sampling rate or number of
    sensors.
    """
    root = Path(root)
    if not root.is_dir():
        came = "a file" if root.exists() else "no such folder"
        raise UserError(root, came, "the folder of a recording tree", "correct the path of the recordings")
    megs = _by_name(visible(root, "*/derivatives/serialised/*_meg.h5"), only)
    events = _by_name(visible(root, "*/derivatives/events/*_events.tsv"), only)
    for some, others, what in ((megs, events, "without events"), (events, megs, "without a recording")):
        alone = sorted(set(some) - set(others))
        if alone:
            warn(f"{root}: {counted(len(alone), 'session run', 'are')} {what}, and left out: {listed(alone)}")
    names = sorted(set(megs) & set(events))
    if not names:
        wanted = "files {task}/derivatives/serialised/*_meg.h5 and {task}/derivatives/events/*_events.tsv"
        way_out = "run `demega-jax download OUT --recordings`, or `demega-jax simulate OUT --recordings --minutes 5`"
        raise UserError(root, "no session run that has a recording and its events", wanted, way_out)
    found = [dataclasses.replace(_open(name, megs[name], events[name]), choice=choice) for name in names]
    found = found if rate is None else [recording.at_rate(rate) for recording in found]
    for recording in found[1:]:
        for key, unit in (("rate", "Hz"), ("sensors", "sensors")):
            came, first = getattr(recording, key), getattr(found[0], key)
            if came != first:
                wanted = f"{first:g} {unit}, as in session run {found[0].name}"
                way_out = "move this session run out of the folder, or download it again"
                if key == "rate":
                    way_out = f"resample all of them with `demega-jax group --resample {min(came, first):g}`"
                raise UserError(recording.meg, f"{came:g} {unit}", wanted, way_out)
        for what, mine, wanted in differences(recording.acquisition, found[0].acquisition):
            way_out = "put its sensors into the same order, or move this session run out of the folder"
            raise UserError(recording.meg, f"{what} {mine}", f"{wanted}, as in session run {found[0].name}", way_out)
    return found


def _by_name(paths: Iterator[Path], only: Sequence[RunName] | None) -> dict[RunName, Path]:
    found: dict[RunName, Path] = {}
    for path in sorted(paths):
        match = NAME.match(path.name)
        if match is None:
            continue
        name = RunName(**match.groupdict())
        if only is not None and name not in only:
            continue
        if name in found:
            came, wanted = f"a second file of session run {name}", f"one file; another is {found[name].name}"
            raise UserError(path, came, wanted, "remove one of the two")
        found[name] = path
    return found


def _open(name: RunName, meg: Path, events: Path) -> Recording:
    with open_file(meg) as file:
        data = find_dataset(meg, file, "data")
        if data is None or data.ndim != 2 or data.dtype.name not in FLOATS or 0 in data.shape:
            came = "no dataset `data`" if data is None else f"`data` {data.dtype} {data.shape}"
            wanted = "a dataset `data` of floating-point numbers [sensors, samples]"
            raise UserError(meg, came, wanted, "download the file again")
        check_storage(meg, data)
        rate = np.asarray(file.attrs.get("sample_frequency"))
        if rate.size != 1 or rate.dtype.kind not in "iuf" or not 0 < rate.item() <= MAX_RATE:
            wanted = f"the sampling rate in Hz, up to {MAX_RATE:g}, in the file's attribute sample_frequency"
            raise UserError(
                meg,
                f"sample_frequency {shortened(str(rate))}",
                wanted,
                "write that attribute, or download the file again",
            )
        sensors, samples = data.shape
        simulated = flag(file.attrs, "simulated")
        written = events_checksum(file)
        checks = sensor_checks(meg, file) if data.dtype == np.float32 else None  # they are read as float32
        known = dataclasses.replace(read_acquisition(meg, file, sensors), sampling_rate=float(rate.item()))
    return Recording(name, meg, events, sensors, samples, float(rate.item()), simulated, checks, written, known)
