"""Small tables that a user writes by hand: text with a head, separated by tabs, commas or semicolons."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from demega_jax.data.unreadable import why_unreadable
from demega_jax.errors import UserError, counted, did_you_mean, listed
from demega_jax.reading import read_text

ENDINGS = (".tsv", ".csv", ".txt")
SEPARATORS = ("\t", ",", ";")
MOST_BYTES = 2**26


class Row(NamedTuple):
    """A row. where: its place in the file, in words.  cells: the text of each column that was asked for."""

    where: str
    cells: dict[str, str]


def read_table(path: Path, columns: Mapping[str, Sequence[str]]) -> list[Row]:
    """The rows of a table, without blanks around their cells. Lines without any text are no rows.

    columns: the columns to read, and the names that each may have in the head; capitals make no difference there.
    UserError: it cannot be read, a column is missing, there is no row, or a cell is empty.
    """
    wanted = f"a table with the columns {' and '.join(columns)}, separated by tabs or commas"
    try:
        lines = read_text(path, MOST_BYTES).removeprefix("\ufeff").splitlines()  # no byte order mark
        head, places, separator = _head(path, lines[0] if lines else "", columns, wanted)
        if separator == "\t":  # as in tables of events
            rows = csv.reader(lines[1:], delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
        else:
            rows = csv.reader(lines[1:], delimiter=separator, skipinitialspace=True, strict=True)
        found = [
            _row(path, number, cells, places, len(head))
            for number, cells in enumerate(rows, 2)
            if any(cell.strip() for cell in cells)
        ]
    except (OSError, csv.Error) as error:
        came = f"cannot be read ({error.strerror if isinstance(error, OSError) else error})"
        raise why_unreadable(path, error) or UserError(path, came, wanted, "correct the path or the file") from None
    if not found:
        raise UserError(path, "no row below its head", wanted, f"write a row for each {next(iter(columns))}")
    return found


def _head(
    path: Path, line: str, columns: Mapping[str, Sequence[str]], wanted: str
) -> tuple[list[str], dict[str, int], str]:
    """The head, the place of each column, and the separator. UserError: the file is empty, or a column is missing."""
    if not line.strip():
        raise UserError(path, "no head in its first line", wanted, f"begin with a line `{' '.join(columns)}`")
    heads = {
        separator: [cell.strip().strip('"').casefold() for cell in line.split(separator)] for separator in SEPARATORS
    }
    separator = max(SEPARATORS, key=lambda each: sum(_place(heads[each], names) >= 0 for names in columns.values()))
    head = heads[separator]
    places = {column: _place(head, names) for column, names in columns.items()}
    missing = [column for column, place in places.items() if place < 0]
    if missing:
        came = f"no column {missing[0]} in its head ({listed(head, 8)})"
        raise UserError(path, came, wanted, did_you_mean(missing[0], head, f"name a column {missing[0]} in its head"))
    return head, places, separator


def _place(head: Sequence[str], names: Sequence[str]) -> int:
    """The place of a column that has one of these names; -1: there is none."""
    return next((place for place, cell in enumerate(head) if cell in names), -1)


def _row(path: Path, number: int, cells: Sequence[str], places: Mapping[str, int], width: int) -> Row:
    """A row. UserError: it has more cells than the head, or an empty one where text is needed."""
    if len(cells) > width:
        came = f"{counted(len(cells), 'cell')} in line {number}"
        raise UserError(path, came, f"{width}, as in its head", "put quotation marks around text with separators")
    found = {column: bare(cells[place].strip()) if place < len(cells) else "" for column, place in places.items()}
    empty = [column for column, text in found.items() if not text]
    if empty:
        raise UserError(path, f"no {empty[0]} in line {number}", f"a {empty[0]} in every row", "fill it, or remove it")
    return Row(f"line {number}", found)


def bare(cell: str) -> str:
    """A cell without the two quotation marks around it, if there are any."""
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
