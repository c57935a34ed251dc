"""Which runs are for training, validation and test: the published assignment, shares by a seed, or a file's."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from demega_jax.data.draws import generator
from demega_jax.data.recordings.runs import OFFICIAL, Recording
from demega_jax.errors import UserError, warn
from demega_jax.files import write_text
from demega_jax.names import SPLITS

FORMAT = 1

Assigned = dict[str, list[Recording]]


def official(recordings: Sequence[Recording]) -> Assigned:
    """Session 11 of Sherlock1 validates, session 12 tests, all others train."""
    return assign(recordings, {str(r.name): OFFICIAL.get(r.name, "train") for r in recordings})


def by_shares(recordings: Sequence[Recording], shares: Sequence[float], seed: int) -> Assigned:
    """Runs drawn by a seed so that the splits have these shares of the recorded time, as nearly as whole runs can.

    UserError: shares that are no three numbers of which the first is positive, or too few runs.
    """
    if len(shares) != len(SPLITS) or min(shares) < 0 or not shares[0] > 0:
        raise UserError("--split-shares", f"{list(shares)}", "three shares, such as 0.8 0.1 0.1", "mend them")
    wanted = {split: share / sum(shares) for split, share in zip(SPLITS, shares, strict=True) if share > 0}
    if len(recordings) < len(wanted):
        raise UserError(
            "--split-shares", f"{len(recordings)} runs for {len(wanted)} splits", "a run for each split", "add runs"
        )
    total = sum(r.samples for r in recordings)
    have = dict.fromkeys(wanted, 0)
    chosen: dict[str, str] = {}
    order = generator(seed, 0).permutation(len(recordings))
    for left, index in zip(range(len(order), 0, -1), order, strict=True):
        empty = [split for split in wanted if have[split] == 0]
        among = empty if len(empty) == left else list(wanted)  # no split goes without a run
        split = max(among, key=lambda name: wanted[name] - have[name] / total)
        chosen[str(recordings[index].name)] = split
        have[split] += recordings[index].samples
    return assign(recordings, chosen)


def assign(recordings: Sequence[Recording], named: Mapping[str, str]) -> Assigned:
    """Recordings by split, in their order. Warns of a split without runs; UserError if it is train."""
    assigned: Assigned = {split: [r for r in recordings if named[str(r.name)] == split] for split in SPLITS}
    if not assigned["train"]:
        raise UserError(
            recordings[0].meg.parents[3], "no run for training", "at least one train run, whose statistics "
            "standardise every split", "add runs, or assign them with --split-shares",
        )  # fmt: skip
    for split in [split for split, runs in assigned.items() if not runs]:
        warn(f"no run for {split}: it is left out")
        del assigned[split]
    return assigned


def write_splits(path: Path, assigned: Assigned) -> None:
    """{run: split} as JSON; `read_splits` reads it."""
    runs = {str(r.name): split for split, some in assigned.items() for r in some}
    write_text(path, json.dumps({"format": FORMAT, "runs": dict(sorted(runs.items()))}, indent=1) + "\n")


def read_splits(path: Path, recordings: Sequence[Recording]) -> Assigned:
    """The assignment that a file holds. UserError: no such file, a newer one, or a run that it does not name."""
    try:
        content = json.loads(path.read_text())
        version, named = content["format"], dict(content["runs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file of splits"
        raise UserError(
            path, str(reason), "a splits.json that `group --split-shares` wrote", "check the path"
        ) from None
    if version > FORMAT:
        raise UserError(path, f"format {version}", f"format {FORMAT} or older", "upgrade demega-jax")
    absent = [str(r.name) for r in recordings if named.get(str(r.name)) not in SPLITS]
    if absent:
        raise UserError(
            path, f"run {absent[0]} without a split", f"one of {', '.join(SPLITS)} for every run",
            "add it to the file",
        )  # fmt: skip
    return assign(recordings, named)
