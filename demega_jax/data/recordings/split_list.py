"""A plain list of session runs and their splits: a table with the columns run and split, or the same as JSON.

    run                                      split
    0/1/Sherlock1/1                          train
    sub-0_ses-11_task-Sherlock1_run-2_meg.h5 validation

A session run is named by subject/session/task/run, by session:task:run as for `--run`, or by the name of one of its
files, where `ses` and `run` may be absent as in BIDS and are 1 then. JSON has a list such as
[{"run": "0/1/Sherlock1/1", "split": "train"}].
"""

from collections.abc import Sequence
from pathlib import Path, PurePath

from demega_jax.data.recordings.runs import Recording, RunName
from demega_jax.data.tables import ENDINGS, Row, read_table
from demega_jax.errors import UserError, counted, did_you_mean, listed, shortened, warn
from demega_jax.names import SPLITS

COLUMNS = {"run": ("run", "file"), "split": ("split",)}


def is_table(path: Path) -> bool:
    """Whether a file of splits is a table, by its ending; others are JSON."""
    return path.name.lower().endswith(ENDINGS)


def rows_of_table(path: Path) -> list[Row]:
    """The rows of a table. UserError: it is none."""
    return read_table(path, COLUMNS)


def rows_of_json(path: Path, content: Sequence[object]) -> list[Row]:
    """The rows of a list that JSON holds. UserError: it is empty, or an item has no session run or no split."""
    wanted = 'items such as {"run": "0/1/Sherlock1/1", "split": "train"}'
    if not content:
        raise UserError(path, "an empty list", wanted, "write an item for each session run")
    found = []
    for number, item in enumerate(content, 1):
        named = {str(key): text for key, text in item.items()} if isinstance(item, dict) else {}
        cells = {column: [named[name] for name in names if name in named] for column, names in COLUMNS.items()}
        texts = {column: some[0] for column, some in cells.items() if some and isinstance(some[0], str) and some[0]}
        if len(texts) < len(COLUMNS):
            raise UserError(path, f"item {number} is {shortened(str(item))}", wanted, "write both as texts")
        found.append(Row(f"item {number}", texts))
    return found


def named_splits(
    path: Path, rows: Sequence[Row], recordings: Sequence[Recording], known: Sequence[Recording]
) -> dict[str, str | None]:
    """The split of each of the recordings, by the name of its session run; None where the list does not name it.

    known: the recordings of the whole tree, of which `recordings` are those that were chosen.  Warns of session runs
    that are left out. UserError: a session run that there is not, or that is listed twice; a split of another name, or
    one that would be empty.
    """
    found: dict[RunName, Row] = {}
    unknown = []
    for row in rows:
        name = _run_name(path, row, known)
        if row.cells["split"] not in SPLITS:
            came = f"split {shortened(repr(row.cells['split']))} in {row.where}"
            raise UserError(path, came, " or ".join(SPLITS), did_you_mean(row.cells["split"], SPLITS))
        if name is None:
            unknown.append(row)
        elif name in found:
            came = f"session run {name} is in {found[name].where} and in {row.where}"
            raise UserError(path, came, "each session run once", "remove one of the two")
        else:
            found[name] = row
    if unknown:
        there = [str(r.name) for r in known]
        names = listed(f"{shortened(row.cells['run'])} ({row.where})" for row in unknown)
        wanted = f"session runs of the recordings, such as {listed(there, 3) or '0/1/Sherlock1/1'}"
        way_out = did_you_mean(unknown[0].cells["run"], there, "correct these names, or remove them from the file")
        came = f"{counted(len(unknown), 'session run')} not among the recordings: {names}"
        raise UserError(path, came, wanted, way_out)
    chosen = {str(r.name): found[r.name].cells["split"] if r.name in found else None for r in recordings}
    _check_whole(path, chosen)
    return chosen


def _check_whole(path: Path, chosen: dict[str, str | None]) -> None:
    """Warn of session runs without a split. UserError: a split has none."""
    empty = [split for split in SPLITS if split not in chosen.values()]
    if empty:
        came, wanted = f"no session run for {' and '.join(empty)}", "at least one session run for each split"
        way_out = "name one, or leave the split out on purpose with a splits.json (see `demega-jax group --help`)"
        raise UserError(path, came, wanted, way_out)
    if left_out := [name for name, split in chosen.items() if split is None]:
        count = counted(len(left_out), "session run", "are")
        warn(f"{path}: {count} left out, as it does not name them: {listed(left_out)}")


def _run_name(path: Path, row: Row, known: Sequence[Recording]) -> RunName | None:
    """The session run that a row names; None: it is not there. UserError: several subjects have it."""
    text = row.cells["run"]
    pairs = (part.partition("-")[::2] for part in PurePath(text).stem.split("_"))
    entities = {key: value for key, value in pairs if value}  # such as sub-01, as in names of files
    if {"sub", "task"} <= entities.keys():
        name = RunName(entities["sub"], entities.get("ses", "1"), entities["task"], entities.get("run", "1"))
        return name if any(r.name == name for r in known) else None
    found = [r.name for r in known if text in (str(r.name), f"{r.name.session}:{r.name.task}:{r.name.run}")]
    if len(found) > 1:
        came = f"{text} in {row.where} is a session run of {len(found)} subjects"
        raise UserError(path, came, "one session run", f"write {listed(found)}")
    return found[0] if found else None
