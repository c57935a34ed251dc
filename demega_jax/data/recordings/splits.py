"""Which session runs are for training, validation and test: as published, drawn by shares, or as a file says.

A file of splits is JSON: {"format": 1, "runs": {"0/1/Sherlock1/1": "train", ..}, "chapters": {"Sherlock1/11":
"validation", ..}, "others": "train"}, of which `group --split-shares` writes `runs`. The split of a session run is that
in `runs`, or else that of its chapter (its task and session, whoever hears it), or else `others`; null: it is left out.
A plain list of session runs and splits, as a table or as JSON, does as well (`split_list.py`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demega_jax.data.recordings.chapters import by_chapter, chapter_of
from demega_jax.data.recordings.runs import OFFICIAL, Recording
from demega_jax.data.recordings.split_list import is_table, named_splits, rows_of_json, rows_of_table
from demega_jax.data.shares import check_shares, split_units
from demega_jax.data.unreadable import why_unreadable
from demega_jax.errors import UserError, counted, listed, warn
from demega_jax.files import write_text
from demega_jax.names import SPLITS
from demega_jax.reading import read_json

FORMAT = 1
BY_TABLE = (
    "name the split of each session run with --splits TABLE (data.regroup.splits), a table with the columns run and "
    "split, or use more session runs"
)

Assigned = dict[str, list[Recording]]


def official(recordings: Sequence[Recording]) -> Assigned:
    """The published splits: session 11 of Sherlock1 for validation, session 12 for test, all others for training."""
    return assign(recordings, {str(r.name): OFFICIAL.get(r.name, "train") for r in recordings})


def by_shares(recordings: Sequence[Recording], shares: Sequence[float], seed: int) -> Assigned:
    """Session runs drawn by a seed, so that the splits have these shares of the recorded time as nearly as possible.

    All session runs of a chapter are in one split.
    UserError: not three shares, or a negative one, or none for training; fewer chapters than splits.
    """
    wanted = check_shares(shares, "--split-shares")
    chapters = by_chapter(recordings)
    if len(chapters) < len(wanted):
        there = f"{counted(len(recordings), 'session run')} of {counted(len(chapters), 'chapter')}"
        came = f"{there} for {len(wanted)} splits"
        wanted_chapters = "at least one chapter for each split, as all session runs of a task and session stay together"
        way_out = (
            "name the split of each session run with --splits TABLE, a table with the columns run and split, or set "
            "the share of a split to 0"
        )
        raise UserError("--split-shares", came, wanted_chapters, way_out)
    drawn = split_units([sum(run.samples for run in chapter) for chapter in chapters], wanted, seed)
    chosen = {str(run.name): split for chapter, split in zip(chapters, drawn, strict=True) for run in chapter}
    return assign(recordings, chosen)


def assign(recordings: Sequence[Recording], named: Mapping[str, str | None]) -> Assigned:
    """Recordings by split, in their order. Warns of a split without session runs.

    UserError: train has none.
    """
    assigned: Assigned = {split: [r for r in recordings if named[str(r.name)] == split] for split in SPLITS}
    if not assigned["train"]:
        wanted = "at least one, as its statistics standardise every split"
        raise UserError(recordings[0].meg.parents[3], "no session run for training", wanted, BY_TABLE)
    for split in [split for split, runs in assigned.items() if not runs]:
        warn(f"no session run for {split}: this split is left out")
        del assigned[split]
    return assigned


def write_splits(path: Path, assigned: Assigned, left_out: Sequence[Recording] = ()) -> None:
    """Write which split each session run is in, as JSON; `read_splits` reads it. left_out: those that are in none."""
    write_text(path, splits_text(assigned, left_out))


def splits_text(assigned: Assigned, left_out: Sequence[Recording] = ()) -> str:
    """What `write_splits` writes."""
    runs: dict[str, str | None] = {str(r.name): split for split, some in assigned.items() for r in some}
    runs |= {str(r.name): None for r in left_out}
    return json.dumps({"format": FORMAT, "runs": dict(sorted(runs.items()))}, indent=1) + "\n"


def read_splits(path: Path, recordings: Sequence[Recording], known: Sequence[Recording] | None = None) -> Assigned:
    """The splits that a file names; a session run whose split is null, or that a list does not name, is left out.

    known: the recordings of the whole tree, if `recordings` are some of them.
    Warns of chapters in it that no session run hears. UserError: it cannot be read, is of a newer format, or lacks a
    session run; a list as `named_splits` says.
    """
    rows = rows_of_table(path) if is_table(path) else []
    try:
        content: Any = {"format": FORMAT} if rows else read_json(path)
        if isinstance(content, list):
            rows, content = rows_of_json(path, content), {"format": FORMAT}
        version, runs, chapters = content["format"], dict(content.get("runs", {})), dict(content.get("chapters", {}))
        others = content.get("others", "")
        newer = version > FORMAT
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file of splits"
        way_out = "give another path with --splits (or data.regroup.splits)"
        wanted = (
            "a splits.json that `group --split-shares` wrote, or a table (.tsv, .csv) with the columns run and split"
        )
        raise why_unreadable(path, error) or UserError(path, str(reason), wanted, way_out) from None
    if rows:
        return assign(recordings, named_splits(path, rows, recordings, known or recordings))
    if newer:
        raise UserError(path, f"format {version}", f"format {FORMAT} or older", "update demega-jax")
    if strange := sorted(chapters.keys() - {chapter_of(r.name) for r in recordings}):
        warn(f"{path}: {len(strange)} of its chapters have no session run: {listed(strange)}")
    named = {str(r.name): runs.get(str(r.name), chapters.get(chapter_of(r.name), others)) for r in recordings}
    absent = [name for name, split in named.items() if split not in (*SPLITS, None)]
    if absent:
        came, wanted = f"session run {absent[0]} has no split", f"one of {', '.join(SPLITS)} for every session run"
        raise UserError(path, came, wanted, "add it to `runs`, or its task and session to `chapters`, in the file")
    return assign(recordings, named)
