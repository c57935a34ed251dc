"""Which files of a dataset are wanted, and where each goes: grouped files and recordings."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from demega_jax.data.hub.client import HubFile, HubTree
from demega_jax.data.recordings.runs import NAME, OFFICIAL, RunName
from demega_jax.errors import UserError, counted, listed, warn
from demega_jax.files import visible
from demega_jax.names import SPLITS

GROUPED = re.compile(r"(?:.*/)?grouped_(?P<level>\d+)/(?P<split>train|validation|test)_grouped\.h5")
# A task's folder must be a word, so that no listing of a hub can name a place outside the folder of the download.
MEG = re.compile(r"[A-Za-z0-9]\w*/derivatives/serialised/(?P<name>[^/]+_meg\.h5)")
EVENTS = re.compile(r"[A-Za-z0-9]\w*/derivatives/events/(?P<name>[^/]+_events\.tsv)")
PUBLISHED = "_proc-bads+headpos+sss+notch+bp+ds_meg.h5"  # the processing that everything here is made for


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A file of the hub, and its path below the folder of the download."""

    file: HubFile
    name: str


def choose_grouped(tree: HubTree, out: Path, levels: Sequence[int], splits: Sequence[str]) -> list[Wanted]:
    """The grouped files of some levels and splits. UserError: the dataset lacks a level or split."""
    there: dict[tuple[int, str], HubFile] = {}
    for file in tree.files:
        if match := GROUPED.fullmatch(file.path):
            there.setdefault((int(match["level"]), match["split"]), file)
    known = sorted({level for level, _ in there})
    for level in levels:
        if level not in known:
            wanted = f"a level that is there ({', '.join(map(str, known)) or 'there is none'})"
            raise UserError(f"--level {level}", f"not in {tree.repo}", wanted, "choose another --level or --repo")
    chosen = []
    for level in dict.fromkeys(levels):
        folder = grouped_folder(out, level)
        for split in (split for split in SPLITS if split in splits):
            if (level, split) not in there:
                has = ", ".join(split for split in SPLITS if (level, split) in there)
                raise UserError(
                    f"--split {split}",
                    f"not in grouped_{level} of {tree.repo}",
                    f"a split that is there: {has}",
                    f"use --split {has.replace(',', '')}",
                )
            chosen.append(Wanted(there[level, split], str(folder / f"{split}_grouped.h5")))
    return chosen


def grouped_folder(out: Path, level: int) -> Path:
    """The folder of a level, below `out`: the one that has files of it already, otherwise grouped_K.

    All splits of a level must be in one folder to be found. The hub's own tools put them into data/grouped_K.
    """
    name = f"grouped_{level}"
    candidates = [Path(name), Path("data") / name]
    if out.resolve().name == name:
        candidates.insert(0, Path("."))
    for folder in candidates:
        if next(visible(out / folder, "*_grouped.h5*"), None) is not None:
            return folder
    return next((folder for folder in candidates if (out / folder).is_dir()), Path(name))


def parse_run(text: str) -> RunName:
    """The session run of a text such as `1:Sherlock1:1` (session 1, task Sherlock1, run 1). UserError: another form."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isalnum() for part in parts):
        raise UserError("--run", repr(text), "SESSION:TASK:RUN", "use --run 1:Sherlock1:1, for example")
    session, task, run = parts
    return RunName("0", session, task, run)  # LibriBrain has one listener, subject 0


def split_of(run: RunName) -> str:
    """The published split of a session run."""
    return OFFICIAL.get(run, "train")


def short(run: RunName) -> str:
    """A session run in the form that `--run` takes."""
    return f"{run.session}:{run.task}:{run.run}"


def find_runs(tree: HubTree) -> dict[RunName, tuple[HubFile | None, HubFile | None]]:
    """(recording, events) of each session run of which the dataset has at least one, in their order."""
    megs: dict[RunName, HubFile] = {}
    events: dict[RunName, HubFile] = {}
    # The published processing comes first, so that it is taken if a session run has several recordings.
    for file in sorted(tree.files, key=lambda file: (not file.path.endswith(PUBLISHED), file.path)):
        for pattern, found in ((MEG, megs), (EVENTS, events)):
            if (match := pattern.fullmatch(file.path)) and (name := NAME.match(match["name"])):
                found.setdefault(RunName(**name.groupdict()), file)
    return {name: (megs.get(name), events.get(name)) for name in sorted(megs.keys() | events.keys())}


def wanted_runs(
    tree: HubTree, runs: Sequence[RunName] | None, splits: Sequence[str], *, published: bool
) -> list[RunName]:
    """The session runs to look for: `runs`, or else all that the dataset lists, if they are in these splits.

    published: look for those of the published validation and test splits even if the dataset does not list them.
    UserError: there is none.
    """
    candidates: Iterable[RunName] = runs if runs is not None else {*find_runs(tree), *(OFFICIAL if published else ())}
    found = sorted({run for run in candidates if split_of(run) in splits})
    if not found:
        came = f"no session run of {tree.repo} is in {' '.join(splits)}"
        wanted = "a dataset with recordings of these splits"
        raise UserError("--recordings", came, wanted, "choose another --repo, --run or --split")
    return found


def choose_recordings(
    tree: HubTree, mirror: HubTree | None, runs: Sequence[RunName], *, asked: bool
) -> tuple[list[RunName], list[Wanted]]:
    """The session runs of which both files can be fetched, and their events and recordings, in order.

    mirror: a second dataset, for files that the first lacks; a warning names them.  asked: the user named the session
    runs. Warns of those that lack a file in both datasets, and leaves them out. UserError: none is left.
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
        has = f"one of its {len(primary)} session runs: {listed(map(short, primary))}" if primary else "recordings"
        where = "--run" if asked else tree.repo
        raise UserError(where, f"not on the hub: {listed(missing)}", has, "choose another --run or --repo")
    if borrowed and mirror is not None:
        some = listed(dict.fromkeys(borrowed))
        warn(f"{tree.repo} lacks {counted(len(borrowed), 'file')}; taken from {mirror.repo}: {some}")
    if missing:
        left_out = f"{counted(len(missing), 'session run')} left out, as the hub lacks a file of each"
        warn(f"{tree.repo}: {left_out}: {listed(missing)}")
    return names, chosen


def lacking(tree: HubTree, runs: Sequence[RunName]) -> bool:
    """Whether the dataset lacks a file of these session runs."""
    there = find_runs(tree)
    return any(None in there.get(run, (None, None)) for run in runs)
