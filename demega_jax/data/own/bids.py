"""Recordings of a BIDS tree as a recording tree, which `group` and the regroup feed read (extra `bids`).

BIDS: Niso et al. (2018), MEG-BIDS, the brain imaging data structure extended to magnetoencephalography. The files are
read by MNE-BIDS: Appelhoff et al. (2019). A session run takes the files
    {task}/derivatives/serialised/sub-.._ses-.._task-.._run-.._meg.h5       data [C, n] in tesla (T/m of gradiometers)
    {task}/derivatives/events/sub-.._ses-.._task-.._run-.._events.tsv       the table of BIDS, as it is
"""

import collections
import dataclasses
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from demega_jax.data.acquisition import acquisition
from demega_jax.data.own.epochs import positions
from demega_jax.data.recordings.runs import RunName
from demega_jax.data.recordings.write import check_new, write_session
from demega_jax.errors import UserError, counted, did_you_mean, install, listed, warn
from demega_jax.files import expanded
from demega_jax.reading import open_plain

if TYPE_CHECKING:
    import mne
    import mne_bids

# Endings of recordings of MEG in BIDS: Elekta and Megin, CTF, KIT, BTi.
FORMATS = (".fif", ".ds", ".con", ".sqd", ".pdf")
BLOCK_SECONDS = 10.0  # of a recording that are read at a time
EMPTY_ROOM = "emptyroom"  # the subject of recordings without anybody
FIRST_PARTS = (None, "1", "01")  # of a recording that is split over files, MNE reads the others with the first


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A session run in BIDS. path: of its recording.  events: its table of events."""

    name: RunName
    path: "mne_bids.BIDSPath"
    events: Path


def from_bids(
    root: str | Path,
    folder: str | Path,
    *,
    subjects: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write the MEG of a BIDS tree as a recording tree, and return the paths of its recordings.

    All magnetometers and gradiometers are kept, those that are marked as bad too, so that session runs have the same
    ones; nothing is filtered. Their names, types and positions go into the files. A recording without `ses` or `run` in
    its name is session 1 or run 1. Events stay as they are: `group --events` chooses among them.
    root: of the BIDS tree.  folder: of the recording tree; session runs are added to those that are there.  subjects,
    tasks: only these, as in the names of files without `sub-` and `task-`; None: all.  progress: is called with a line
    for each session run.
    Warns of recordings without a table of events, which are left out, and of bad sensors.
    UserError: MNE or MNE-BIDS is not installed; no recording, no such subject or task; a file that exists; a recording
    that cannot be read, or has no MEG; a full disk. A session run is written whole or not at all.
    """
    mne, mne_bids = _import_both()
    root, folder = Path(expanded(str(root))), Path(expanded(str(folder)))
    found = _sources(mne_bids, root, subjects, tasks)
    targets = [source.name.paths(folder) for source in found]
    check_new(*(path for pair in targets for path in pair))
    bad: collections.Counter[str] = collections.Counter()
    for source, paths in zip(found, targets, strict=True):
        raw = _open(mne_bids, source)
        bad.update(_write(mne, source, raw, paths))
        minutes = raw.n_times / raw.info["sfreq"] / 60
        progress(f"wrote {source.name}: {minutes:.2f} minutes, {raw.info['sfreq']:g} Hz, {paths[0]}")
    if bad:
        names = listed(f"{name} ({count})" for name, count in bad.most_common())
        count, runs = counted(len(bad), "sensor", "are"), counted(len(found), "session run")
        warn(f"{count} marked as bad in {runs} or some of them, and kept: {names}")
    return [meg for meg, _ in targets]


def _import_both() -> tuple[types.ModuleType, types.ModuleType]:
    """The modules mne and mne_bids. UserError: one is not installed."""
    try:
        import mne
        import mne_bids
    except ModuleNotFoundError as error:
        came, wanted = f"the package {error.name} is not installed", "MNE-Python and MNE-BIDS, to read BIDS trees"
        raise UserError("from_bids", came, wanted, install("bids")) from None
    return mne, mne_bids


def _sources(
    mne_bids: types.ModuleType, root: Path, subjects: Sequence[str] | None, tasks: Sequence[str] | None
) -> list[Source]:
    """The session runs that are asked for and have events. UserError: there are none, or two of one name."""
    found: dict[RunName, Source] = {}
    left_out = []
    for path in _recordings(mne_bids, root, subjects, tasks):
        run = RunName(path.subject, path.session or "1", path.task, path.run or "1")
        events = path.find_matching_sidecar("events", ".tsv", on_error="ignore")
        if run in found:
            came, wanted = f"a second recording of session run {run}", f"one; another is {found[run].path.basename}"
            raise UserError(path.fpath, came, wanted, "move one of the two out of the tree")
        if events is None:
            left_out.append(path.basename)
        else:
            found[run] = Source(run, path, Path(events))
    if not found:
        came = f"{counted(len(left_out), 'recording')} without a table of events"
        raise UserError(root, came, "files *_events.tsv beside them", "write such a table for each recording")
    if left_out:
        count = counted(len(left_out), "recording", "are")
        warn(f"{root}: {count} left out, without a table of events: {listed(left_out)}")
    return [found[run] for run in sorted(found)]


def _recordings(
    mne_bids: types.ModuleType, root: Path, subjects: Sequence[str] | None, tasks: Sequence[str] | None
) -> "list[mne_bids.BIDSPath]":
    """The recordings of MEG that are asked for. UserError: there are none."""
    if not root.is_dir():
        raise UserError(root, "no such folder", "the folder of a BIDS tree", "correct the path")
    there = mne_bids.find_matching_paths(
        root, datatypes="meg", suffixes="meg", extensions=list(FORMATS), ignore_nosub=True
    )
    # Files for the calibration of Megin have no task.
    found = [p for p in there if p.task is not None and p.subject != EMPTY_ROOM and p.split in FIRST_PARTS]
    if not found:
        wanted = f"files sub-../meg/sub-.._task-.._meg{FORMATS[0]} (or {', '.join(FORMATS[1:])})"
        way_out = "name the folder that holds dataset_description.json"
        raise UserError(root, "no recording of MEG with a task", wanted, way_out)
    for what, asked in (("subject", subjects), ("task", tasks)):
        known = sorted({getattr(path, what) for path in found})
        for name in asked or ():
            if name not in known:
                raise UserError(f"{what}s", f"no {what} {name}", f"some of {listed(known)}", did_you_mean(name, known))
        found = [path for path in found if asked is None or getattr(path, what) in asked]
    if not found:
        raise UserError(root, "no recording of these subjects and tasks", "at least one", "choose others of them")
    return found


def _open(mne_bids: types.ModuleType, source: Source) -> "mne.io.BaseRaw":
    """The recording, of which nothing is read yet. UserError: it cannot be read."""
    try:
        return mne_bids.read_raw_bids(source.path, verbose="error")
    except (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError) as error:
        # MNE has no error of its own for a damaged file: it raises what follows from what it has read.
        came = f"MNE-BIDS cannot read it ({' '.join(str(error).split())[:200]})"
        way_out = "check the tree with the BIDS validator, or leave this one out with --subject and --task"
        raise UserError(source.path.fpath, came, "a recording and its tables as BIDS has them", way_out) from None


def _write(mne: types.ModuleType, source: Source, raw: "mne.io.BaseRaw", paths: tuple[Path, Path]) -> list[str]:
    """Write a session run; returns its bad sensors. UserError: it has no MEG, or the disk is full."""
    picks = [int(channel) for channel in mne.pick_types(raw.info, meg=True, ref_meg=False, exclude=())]
    if not picks:
        came = f"no sensor of MEG among {listed(raw.ch_names)}"
        raise UserError(source.path.fpath, came, "at least one", "leave this recording out, or correct channels.tsv")
    names = [raw.ch_names[channel] for channel in picks]
    known = acquisition(
        source.path.fpath,
        len(picks),
        sensor_names=names,
        sensor_types=raw.get_channel_types(picks=picks),
        sensor_positions=positions(raw.info, picks),
    )
    with open_plain(source.events) as file:
        table = file.readall() or b""
    shape, rate = (len(picks), raw.n_times), float(raw.info["sfreq"])
    write_session(paths, table, _blocks(raw, picks), shape, rate, known, {"bids": source.path.basename})
    return [name for name in raw.info["bads"] if name in names]


def _blocks(raw: "mne.io.BaseRaw", picks: list[int]) -> Iterator[Float[np.ndarray, "C n"]]:
    """The samples of some channels, a stretch of time after another."""
    step = max(1, round(BLOCK_SECONDS * raw.info["sfreq"]))
    for begin in range(0, raw.n_times, step):
        yield raw.get_data(picks, begin, min(begin + step, raw.n_times), verbose="error").astype(np.float32)
