"""Which session runs are for training, validation and test: as published, drawn by shares, or as a file says."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from demega_jax.data.draws import generator
from demega_jax.data.recordings.runs import OFFICIAL, Recording
from demega_jax.errors import UserError, warn
from demega_jax.files import write_text
from demega_jax.names import SPLITS
from demega_jax.reading import read_json

FORMAT = 1

Assigned = dict[str, list[Recording]]


def official(recordings: Sequence[Recording]) -> Assigned:
    """The published splits: session 11 of Sherlock1 for validation, session 12 for test, all others for training."""
    return assign(recordings, {str(r.name): OFFICIAL.get(r.name, "train") for r in recordings})


def by_shares(recordings: Sequence[Recording], shares: Sequence[float], seed: int) -> Assigned:
    """Session runs drawn by a seed, so that the splits have these shares of the recorded time as nearly as possible.

    UserError: not three shares, or a negative one, or none for training; fewer session runs than splits.
    """
    if len(shares) != len(SPLITS) or min(shares) < 0 or not shares[0] > 0:
        three = "three shares, of train (above 0), validation and test"
        raise UserError("--split-shares", f"{list(shares)}", three, "use --split-shares 0.8 0.1 0.1, for example")
    wanted = {split: share / sum(shares) for split, share in zip(SPLITS, shares, strict=True) if share > 0}
    if len(recordings) < len(wanted):
        came = f"{len(recordings)} session runs for {len(wanted)} splits"
        way_out = "download more session runs, or set the share of a split to 0"
        raise UserError("--split-shares", came, "at least one session run for each split", way_out)
    total = sum(r.samples for r in recordings)
    have = dict.fromkeys(wanted, 0)
    chosen: dict[str, str] = {}
    order = generator(seed, 0).permutation(len(recordings))
    for left, index in zip(range(len(order), 0, -1), order, strict=True):
        empty = [split for split in wanted if have[split] == 0]
        among = empty if len(empty) == left else list(wanted)  # every split gets at least one session run
        split = max(among, key=lambda name: wanted[name] - have[name] / total)
        chosen[str(recordings[index].name)] = split
        have[split] += recordings[index].samples
    return assign(recordings, chosen)


def assign(recordings: Sequence[Recording], named: Mapping[str, str | None]) -> Assigned:
    """Recordings by split, in their order. Warns of a split without session runs. UserError: train has none."""
    assigned: Assigned = {split: [r for r in recordings if named[str(r.name)] == split] for split in SPLITS}
    if not assigned["train"]:
        wanted = "at least one, as its statistics standardise every split"
        way_out = "download more session runs, or assign those that are there with --split-shares"
        raise UserError(recordings[0].meg.parents[3], "no session run for training", wanted, way_out)
    for split in [split for split, runs in assigned.items() if not runs]:
        warn(f"no session run for {split}: this split is left out")
        del assigned[split]
    return assigned


def write_splits(path: Path, assigned: Assigned, left_out: Sequence[Recording] = ()) -> None:
    """Write which split each session run is in, as JSON; `read_splits` reads it. left_out: those that are in none."""
    runs: dict[str, str | None] = {str(r.name): split for split, some in assigned.items() for r in some}
    runs |= {str(r.name): None for r in left_out}
    write_text(path, json.dumps({"format": FORMAT, "runs": dict(sorted(runs.items()))}, indent=1) + "\n")


def read_splits(path: Path, recordings: Sequence[Recording]) -> Assigned:
    """The splits that a file names; a session run whose split is null is left out.

    UserError: it cannot be read, is of a newer format, or lacks a session run.
    """
    try:
        content = read_json(path)
        version, named = int(content["format"]), dict(content["runs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file of splits"
        way_out = "give another path with --splits (or data.regroup.splits)"
        raise UserError(path, str(reason), "a splits.json that `group --split-shares` wrote", way_out) from None
    if version > FORMAT:
        raise UserError(path, f"format {version}", f"format {FORMAT} or older", "update demega-jax")
    absent = [str(r.name) for r in recordings if named.get(str(r.name), "") not in (*SPLITS, None)]
    if absent:
        came, wanted = f"session run {absent[0]} has no split", f"one of {', '.join(SPLITS)} for every session run"
        raise UserError(path, came, wanted, "add it to `runs` in the file")
    return assign(recordings, named)
