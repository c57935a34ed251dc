"""Which events have windows, and what their classes are: the phonemes, the most frequent labels, or those of a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demega_jax.data.recordings.class_map import ClassMap, read_class_map
from demega_jax.data.recordings.events import ALL_ROWS, EventChoice, values_of
from demega_jax.data.recordings.runs import Recording
from demega_jax.data.recordings.symbols import Unknown, label_symbols, most_frequent, named
from demega_jax.errors import UserError, counted, did_you_mean, listed
from demega_jax.phonemes import PHONEMES


def event_choice(
    where: str, events: str | None, label: str | None, classes_file: Path | None, top: int | None
) -> EventChoice:
    """The events that have windows: phonemes, unless `events` or `label` say others.

    where: an option or a key, such as --events, without the word `events`.  events: such as kind=word, or "all" for
    every row of the table.  UserError: `events` without a column or a
    value; both a file of classes and a number of classes; a file that is not sound.
    """
    usual = EventChoice()
    column, value = usual.column, usual.value
    if events == ALL_ROWS:
        column = value = ""
    elif events is not None:
        column, _, value = events.partition("=")
        if not column or not value:
            wanted = "a column of the events and the value of its rows, or all"
            raise UserError(f"{where}events", repr(events), wanted, "write for example kind=word")
    file_name = f"{where}classes{'-' if where == '--' else '_'}file"
    if classes_file is not None and top is not None:
        wanted = "only one of the two, as the file names the classes"
        raise UserError(f"{where}top", f"given beside {file_name}", wanted, f"leave out {where}top or {file_name}")
    class_map = None if classes_file is None else read_class_map(classes_file)
    return EventChoice(column, value, label or usual.label, class_map)


def classes_of(runs: Sequence[Recording], top: int | None) -> tuple[str, ...]:
    """The classes of the chosen events of the session runs of train: those of the file of classes, or the `top` most
    frequent labels, or the 39 phonemes, or all labels of other events.

    UserError: a class of the file has no event, or there are fewer than two classes.
    """
    choice = runs[0].choice
    if not choice.phonemes and choice.column:
        _check_value(runs, choice)
    if choice.class_map is not None:
        _check_mapped(runs, choice.class_map)
        return choice.class_map.classes
    if choice.phonemes and top is None:
        return PHONEMES
    found = most_frequent([run.read_events().symbol for run in runs], top)
    if len(found) < 2:
        rows = f"rows with {choice.column}={choice.value}" if choice.column else "all rows"
        came = f"{counted(len(found), 'different label')} in the column {choice.label} of {rows}"
        way_out = "name other events with --events and --label (or data.regroup.events and data.regroup.label)"
        raise UserError(runs[0].events, came, "two classes or more in the session runs of train", way_out)
    return found


def _check_value(runs: Sequence[Recording], choice: EventChoice) -> None:
    """UserError: no row of the session runs of train has the value that is asked for."""
    if any(run.read_events().symbol for run in runs):
        return
    there = dict.fromkeys(value for run in runs for value in values_of(run.events, choice.column))
    if choice.value not in there:
        came = f"no row with {choice.column}={choice.value} in {counted(len(runs), 'session run')} of train"
        wanted = f"one of the values of the column {choice.column}: {listed(there, 20)}"
        way_out = did_you_mean(choice.value, there, "name one of them with --events or data.regroup.events")
        raise UserError(runs[0].events, came, wanted, way_out)


def _check_mapped(runs: Sequence[Recording], class_map: ClassMap) -> None:
    """UserError: a class of the file has no event in the session runs of train."""
    counts, others = np.zeros(len(class_map.classes), np.int64), Unknown()
    for run in runs:
        label, unknown = label_symbols(run.read_events().symbol, class_map.classes, run.choice)
        others += unknown
        counts += np.bincount(label[label >= 0], minlength=len(counts))
    absent = [class_map.classes[i] for i in np.flatnonzero(counts == 0).tolist()]
    if absent:
        labels = " ".join(class_map.labels_of(absent[0]))
        more = f", nor of {counted(len(absent) - 1, 'other class')}" if len(absent) > 1 else ""
        came = f"no event of class {absent[0]} ({labels}) in {counted(len(runs), 'session run')} of train{more}"
        wanted = f"an event of every class in the column {runs[0].choice.label} of {runs[0].events} and the others"
        way_out = "correct its labels, or remove this class from the file"
        if others:
            way_out += f"; labels there that it does not name: {named(others)}"
        raise UserError(class_map.path, came, wanted, way_out)
