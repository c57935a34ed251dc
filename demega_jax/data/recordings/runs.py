"""Recordings and their events as published (LibriBrain): finding the runs, reading them, refusing what is not sound.

{task}/derivatives/serialised/sub-{subject}_ses-{session}_task-{task}_run-{run}_.._meg.h5   data [C, n], tesla
{task}/derivatives/events/sub-{subject}_ses-{session}_task-{task}_run-{run}_events.tsv
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from demega_jax.data.grouped import FLOATS
from demega_jax.data.hdf5 import check_storage, open_file
from demega_jax.errors import UserError, warn

NAME = re.compile(r"sub-(?P<subject>[^_]+)_ses-(?P<session>[^_]+)_task-(?P<task>[^_]+)_run-(?P<run>[^_]+)_")
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
    simulated: bool = False

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
        simulated = bool(file.attrs.get("simulated", False))
    return Recording(name, meg, events, sensors, samples, float(rate), simulated)
