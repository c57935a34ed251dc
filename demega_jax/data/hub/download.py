"""Grouped files and recordings from the hub: only files that are missing are fetched, and every file is checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from demega_jax.data.grouped import open_grouped
from demega_jax.data.hdf5 import check_storage, open_file
from demega_jax.data.hub.choice import Wanted, choose_grouped, choose_recordings, lacking, wanted_runs
from demega_jax.data.hub.client import HubFile, HubTree, list_tree, resolve_revision
from demega_jax.data.hub.record import Record, entry_of, read_record, write_record
from demega_jax.data.hub.transfer import bytes_there, fetch, has_checksum, partial_path
from demega_jax.data.recordings.events import read_events
from demega_jax.data.recordings.runs import RunName, find_recordings
from demega_jax.errors import UserError, counted, set_warning_sink, warn
from demega_jax.files import format_bytes, free_space

GROUPED_REPO = "wordcab/libribrain-meg-preprocessed"
RECORDINGS_REPO = "pnpl/LibriBrain"
RECORDINGS_MIRROR = "pnpl/LibriBrain-Competition-2025"  # for files that the first lacks


class Display(Protocol):
    """Shows the progress of a download."""

    def line(self, text: str) -> None:
        """Print a line."""

    def begin(self, name: str, size: int) -> None:
        """A file begins to be read or fetched; `at` and `end` follow."""

    def at(self, count: int) -> None:
        """`count` bytes of the file are there."""

    def end(self) -> None:
        """The file is done."""


def download_grouped(
    out: Path, *, levels: Sequence[int], splits: Sequence[str], repo: str | None, revision: str | None, show: Display
) -> list[Path]:
    """Fetch grouped files into OUT/grouped_K, or OUT/data/grouped_K if that exists, and return their paths.

    repo: OWNER/NAME (None: the published one).  revision: branch, tag or commit; None: the one that download.json
    names, otherwise `main`. An interrupted download continues when it is started again, and a file has its final name
    only when it is whole. UserError: too little space, a file that is not the hub's, or the hub cannot give the files.
    """
    tree = _tree(out, repo or GROUPED_REPO, revision, show)
    wanted = choose_grouped(tree, out, levels, splits)
    paths = _bring(out, [tree], wanted, show)
    remarks: list[str] = []
    set_warning_sink(remarks.append)
    try:
        for path in paths:
            open_grouped(path)
    finally:
        set_warning_sink(None)
    if remarks:
        said = f"{counted(len(remarks), 'warning')} about {counted(len(paths), 'file')}"
        first = remarks[0].removeprefix("warning: ").removeprefix(f"{out}/")
        warn(f"{out}: {said}, the first is: {first}; `demega-jax inspect {out}` shows all")
    return paths


def download_recordings(
    out: Path,
    *,
    runs: Sequence[RunName] | None,
    splits: Sequence[str],
    repo: str | None,
    revision: str | None,
    show: Display,
) -> list[Path]:
    """Fetch recordings and their events into OUT/{task}/derivatives/.. and return their paths.

    runs: session runs; None for all that the dataset lists. All else is as in `download_grouped`. Session runs that
    the hub lacks are left out with a warning.
    """
    tree = _tree(out, repo or RECORDINGS_REPO, revision, show)
    looked_for = wanted_runs(tree, runs, splits, published=repo is None)
    mirror = None
    if repo is None and lacking(tree, looked_for):
        try:
            mirror = _tree(out, RECORDINGS_MIRROR, None, show)
        except UserError as error:
            warn(f"{tree.repo} lacks files, and its mirror cannot be asked: {error}")
    names, wanted = choose_recordings(tree, mirror, looked_for, asked=runs is not None)
    paths = _bring(out, [tree, mirror] if mirror is not None else [tree], wanted, show)
    for recording in find_recordings(out, only=names):
        read_events(recording.events)
    return paths


def _tree(out: Path, repo: str, revision: str | None, show: Display) -> HubTree:
    """The files of a dataset at the commit that a revision is now. UserError: files in `out` are of another commit.

    Files of one dataset in one folder are of one commit. Without a revision it is the recorded commit, so that an
    interrupted download continues even if the dataset has changed.
    """
    entry = read_record(out).datasets.get(repo)
    commit = resolve_revision(repo, revision or "main")
    if revision is None and entry is not None and entry.revision != commit:
        warn(
            f"{repo} is at {commit[:12]} now; this download uses {entry.revision[:12]}, as the files in {out} do; "
            "choose another folder and --revision main for the new one"
        )
        commit = entry.revision
    tree = list_tree(repo, commit)
    if entry is not None and entry.revision != commit:
        there = {file.path: file.checksum for file in tree.files}
        changed = [
            name
            for name, known in entry.files.items()
            if (out / name).exists() and there.get(known.source) != (known.sha256 or known.git_sha1)
        ]
        if changed:
            came = f"{commit[:12]}, but {out} holds {counted(len(changed), 'file')} of {entry.revision[:12]}"
            raise UserError(
                f"--revision {revision}",
                f"{came}, different in both ({changed[0]})",
                "one revision in one folder",
                f"use --revision {entry.revision}, or download to another folder",
            )
    show.line(f"{repo} at {commit[:12]}" + (f" ({revision})" if revision and revision != commit else ""))
    return tree


def _bring(out: Path, trees: Sequence[HubTree], wanted: Sequence[Wanted], show: Display) -> list[Path]:
    """Check the space, check the files that are there, and fetch the others. Return the paths of all."""
    _gather(out, wanted, show)
    _check_space(out, wanted, show)
    record = read_record(out)
    tasks = []
    for w in wanted:
        if not _is_right(out, w, record, show):
            _refuse_foreign(out / w.name, w.file)
            tasks.append(w)
    for tree in trees:
        if any(w.file.repo == tree.repo for w in wanted):
            write_record(out, tree.repo, tree.revision, {})  # an interrupted download continues at this commit
    cuts = 0
    for i, w in enumerate(tasks, 1):
        show.begin(w.name, w.file.size)
        cuts += fetch(w.file, out / w.name, show.at)
        show.end()
        write_record(out, w.file.repo, w.file.revision, {w.name: entry_of(w.file, out / w.name)})
        kind = "SHA-256" if w.file.sha256 else "git hash"
        place = f"{i}/{len(tasks)}"
        show.line(f"fetched {place} {w.name}: {format_bytes(w.file.size)}, {kind} {w.file.checksum[:12]} checked")
    if cuts:
        warn(f"the connection was cut {counted(cuts, 'time')}, and each time the download continued")
    return [out / w.name for w in wanted]


def _gather(out: Path, wanted: Sequence[Wanted], show: Display) -> None:
    """Move splits from data/grouped_K to grouped_K if both exist, as all splits of a level are read from one folder."""
    for w in wanted:
        target, level = out / w.name, Path(w.name).parent.name
        older = out / "data" / w.name
        if level.startswith("grouped_") and not target.exists() and older.is_file():
            try:
                older.replace(target)
            except OSError as error:
                came, whole = f"cannot be moved ({error.strerror})", f"all splits in {target.parent}"
                raise UserError(older, came, whole, f"move it to {target}, or choose another folder") from None
            show.line(f"moved {older.relative_to(out)} to {w.name}, where the other splits are")


def _check_space(out: Path, wanted: Sequence[Wanted], show: Display) -> None:
    """Say how much space is needed and free. UserError: too little is free."""
    total = sum(w.file.size for w in wanted)
    here = sum(w.file.size for w in wanted if _has_size(out, w))
    begun = sum(bytes_there(w.file, out / w.name) for w in wanted if not _has_size(out, w))
    need = total - here - begun
    try:
        free = free_space(out)
    except OSError as error:
        raise UserError(out, f"{error.strerror}", "a folder for the download", "choose another folder") from None
    parts = [f"{format_bytes(here)} are there"] if here else []
    parts += [f"{format_bytes(begun)} are there of files that are not whole"] if begun else []
    parts += [f"{format_bytes(need)} to fetch, {format_bytes(free)} free"] if need else ["nothing to fetch"]
    show.line(f"{counted(len(wanted), 'file')}, {format_bytes(total)}: {', '.join(parts)}")
    if need > free:
        raise UserError(
            out,
            f"{format_bytes(need)} are needed and {format_bytes(free)} are free",
            "enough space for all files",
            "free some space, choose another folder, or name fewer --level, --split or --run",
        )


def _has_size(out: Path, w: Wanted) -> bool:
    path = out / w.name
    return path.is_file() and path.stat().st_size == w.file.size


def _is_right(out: Path, w: Wanted, record: Record, show: Display) -> bool:
    """Whether a file has the hub's bytes. If the record does not say so, the file is read once and then recorded."""
    path = out / w.name
    if not _has_size(out, w):
        return False
    if record.holds(w.file, w.name, path):
        return True
    show.begin(f"checking {w.name}", w.file.size)
    try:
        right = has_checksum(w.file, path, show.at)
    except OSError as error:
        way_out = "move it away, and it is fetched again"
        raise UserError(path, f"cannot be read ({error.strerror})", "a readable file", way_out) from None
    show.end()
    if right:
        write_record(out, w.file.repo, w.file.revision, {w.name: entry_of(w.file, path)})
        show.line(f"kept {w.name}: {format_bytes(w.file.size)}, its checksum is that of the hub")
    return right


def _refuse_foreign(path: Path, file: HubFile) -> None:
    """UserError: a sound file that is not the hub's. The user made or changed it, so it is not replaced.

    A file that is not sound is the rest of a broken transfer: a warning says so, and the download continues.
    """
    if not path.exists():
        return
    try:
        if path.suffix == ".h5":
            with open_file(path) as opened:
                check_storage(path, opened["data"])
        else:
            read_events(path)
    except (UserError, KeyError):
        size = path.stat().st_size
        how = "it is continued" if size < file.size and not partial_path(file, path).exists() else "it is replaced"
        warn(f"{path}: it has {size} bytes of {file.size} and is not readable; {how}")
        return
    raise UserError(
        path,
        f"a sound file, but not that of {file.repo} at {file.revision[:12]}",
        "the hub's file, or no file",
        "move it away, or download to another folder",
    )
