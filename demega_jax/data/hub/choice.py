"""Which files of a dataset are wanted, and where each goes: grouped files by level and split, recordings by run."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from demega_jax.data.hub.client import HubFile, HubTree
from demega_jax.data.recordings.runs import NAME, OFFICIAL, RunName
from demega_jax.errors import UserError, warn
from demega_jax.names import SPLITS

GROUPED = re.compile(r"(?:.*/)?grouped_(?P<level>\d+)/(?P<split>train|validation|test)_grouped\.h5")
# A task's folder is a word, so that no listing can name a place outside the folder that is downloaded to.
MEG = re.compile(r"[A-Za-z0-9]\w*/derivatives/serialised/(?P<name>[^/]+_meg\.h5)")
EVENTS = re.compile(r"[A-Za-z0-9]\w*/derivatives/events/(?P<name>[^/]+_events\.tsv)")
PUBLISHED = "_proc-bads+headpos+sss+notch+bp+ds_meg.h5"  # the processing that everything here is made for
LISTED = 5  # names that a message lists


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A file of the hub and the path below the folder that it is to have."""

    file: HubFile
    name: str


def choose_grouped(tree: HubTree, out: Path, levels: Sequence[int], splits: Sequence[str]) -> list[Wanted]:
    """The grouped files of some levels and splits. UserError: the dataset has none such."""
    there: dict[tuple[int, str], HubFile] = {}
    for file in tree.files:
        if match := GROUPED.fullmatch(file.path):
            there.setdefault((int(match["level"]), match["split"]), file)
    known = sorted({level for level, _ in there})
    for level in levels:
        if level not in known:
            wanted = f"a level that it has: {', '.join(map(str, known)) or 'none'}"
            raise UserError(f"--level {level}", f"not in {tree.repo}", wanted, "choose another --level, or --repo")
    chosen = []
    for level in dict.fromkeys(levels):
        folder = grouped_folder(out, level)
        for split in (split for split in SPLITS if split in splits):
            if (level, split) not in there:
                has = ", ".join(split for split in SPLITS if (level, split) in there)
                raise UserError(
                    f"--split {split}", f"not in grouped_{level} of {tree.repo}", f"a split that is there: {has}",
                    f"leave it out: --split {has.replace(',', '')}",
                )  # fmt: skip
            chosen.append(Wanted(there[level, split], str(folder / f"{split}_grouped.h5")))
    return chosen


def grouped_folder(out: Path, level: int) -> Path:
    """Where a level goes, below `out`: where files of it are already, else grouped_K.

    What reads a level looks into one folder alone, so its splits stay together. The hub's own tools put it into
    data/grouped_K.
    """
    name = f"grouped_{level}"
    candidates = [Path(name), Path("data") / name]
    if out.resolve().name == name:
        candidates.insert(0, Path("."))
    for folder in candidates:
        if next((out / folder).glob("*_grouped.h5*"), None) is not None:
            return folder
    return next((folder for folder in candidates if (out / folder).is_dir()), Path(name))


def parse_run(text: str) -> RunName:
    """`1:Sherlock1:1` is session 1, task Sherlock1, run 1 of the one listener, subject 0. UserError: another form."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isalnum() for part in parts):
        raise UserError("--run", repr(text), "SESSION:TASK:RUN", "write it as in 1:Sherlock1:1")
    session, task, run = parts
    return RunName("0", session, task, run)


def split_of(run: RunName) -> str:
    """The published split of a run."""
    return OFFICIAL.get(run, "train")


def short(run: RunName) -> str:
    """A run as `--run` takes it."""
    return f"{run.session}:{run.task}:{run.run}"


def find_runs(tree: HubTree) -> dict[RunName, tuple[HubFile | None, HubFile | None]]:
    """(recording, events) of each run that the dataset has anything of, in the order of runs."""
    megs: dict[RunName, HubFile] = {}
    events: dict[RunName, HubFile] = {}
    # The published processing first: of several recordings of a run it is the one that is taken.
    for file in sorted(tree.files, key=lambda file: (not file.path.endswith(PUBLISHED), file.path)):
        for pattern, found in ((MEG, megs), (EVENTS, events)):
            if (match := pattern.fullmatch(file.path)) and (name := NAME.match(match["name"])):
                found.setdefault(RunName(**name.groupdict()), file)
    return {name: (megs.get(name), events.get(name)) for name in sorted(megs.keys() | events.keys())}


def wanted_runs(
    tree: HubTree, runs: Sequence[RunName] | None, splits: Sequence[str], *, published: bool
) -> list[RunName]:
    """The runs to look for: those asked for, else all that are listed.

    published: the dataset should have the runs of the published validation and test splits, listed or not.
    UserError: none.
    """
    candidates: Iterable[RunName] = runs if runs is not None else {*find_runs(tree), *(OFFICIAL if published else ())}
    found = sorted({run for run in candidates if split_of(run) in splits})
    if not found:
        came = f"no run of {tree.repo} in {' '.join(splits)}"
        raise UserError("--recordings", came, "a dataset with recordings", "check --repo, --run and --split")
    return found


def choose_recordings(
    tree: HubTree, mirror: HubTree | None, runs: Sequence[RunName], *, asked: bool
) -> tuple[list[RunName], list[Wanted]]:
    """The runs that can be had whole, and their events and recordings, in order.

    mirror: where files are taken from that the dataset lacks, said on one line.  asked: the user named the runs.
    Runs that miss a file in both are left out, with one warning line. UserError: none is left.
    """
    primary, second = find_runs(tree), find_runs(mirror) if mirror is not None else {}
    names, chosen, missing, borrowed = [], [], [], []
    for run in runs:
        pairs = zip(primary.get(run, (None, None)), second.get(run, (None, None)), strict=True)
        meg, events = (first or other for first, other in pairs)
        if meg is None or events is None:
            lacks = " and ".join(what for what, file in (("recording", meg), ("events", events)) if file is None)
            missing.append(f"{short(run)} (no {lacks})")
            continue
        names.append(run)
        chosen += [Wanted(file, file.path) for file in (events, meg)]
        borrowed += [short(run) for file in (events, meg) if file.repo != tree.repo]
    if not names:
        there = f"one of its {len(primary)} runs: {_some(map(short, primary))}" if primary else "recordings"
        raise UserError("--run" if asked else tree.repo, f"not on the hub: {_some(missing)}", there, "check --run")
    if borrowed and mirror is not None:
        some = _some(dict.fromkeys(borrowed))
        warn(f"{tree.repo} lacks {counted(len(borrowed), 'file')}; taken from {mirror.repo}: {some}")
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        warn(f"{tree.repo}: {counted(len(missing), 'run')} {verb} not on the hub whole, left out: {_some(missing)}")
    return names, chosen


def lacking(tree: HubTree, runs: Sequence[RunName]) -> bool:
    """Whether the dataset lacks a file of these runs."""
    there = find_runs(tree)
    return any(None in there.get(run, (None, None)) for run in runs)


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:LISTED]) + (", .." if len(listed) > LISTED else "")
