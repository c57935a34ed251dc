"""Submissions to the PNPL competition of 2026: a CSV file with the probabilities of words for the holdout's windows.

The columns are an index, the words of the vocabulary, and, where they are wanted, those of a secondary vocabulary with
`moses_` before them. As told by the competition's public library `pnpl`, read 2026-11-27.
"""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from demega_jax.errors import UserError, counted, listed
from demega_jax.evaluation.submission import HEADER as PHONEME_COLUMNS
from demega_jax.evaluation.submission import WORD_INDICES
from demega_jax.evaluation.vocabulary import Apostrophe, spelled, without
from demega_jax.files import output
from demega_jax.reading import open_text

IndexColumn = Literal["index", "id"]
Ranks = Literal["highest", "lowest"]
SECONDARY = "moses_"  # before the words of the secondary vocabulary
LEAST = 1e-300  # a probability in a logarithm

AGAIN = "write it again with `demega-jax submit --competition 2026`"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the file is to look. words: of the vocabulary; secondary: of the secondary one, empty without it.

    index: the name of the first column.  apostrophe: how the names of columns spell them.
    """

    words: tuple[str, ...]
    secondary: tuple[str, ...] = ()
    index: IndexColumn = "index"
    apostrophe: Apostrophe = "keep"

    @property
    def head_line(self) -> str:
        """Line 1 of the file."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(self.header)
        return text.getvalue()

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns. UserError: two words are the same without apostrophes."""
        secondary = (SECONDARY + word for word in spelled(self.secondary, self.apostrophe))
        return (self.index, *spelled(self.words, self.apostrophe), *secondary)


def lowest_first(p: Float[np.ndarray, "N V"]) -> Float[np.ndarray, "N V"]:
    """Values from 0 to 1 of which the most likely word of a row has the smallest: -log p, divided by its sum.

    The order of the words is exactly the other one, and what is equal stays equal. With 1 - p it would not: of unlikely
    words the values would all be rounded to 1.
    """
    surprise = -np.log(np.clip(p / p.sum(axis=1, keepdims=True, dtype=np.float64), LEAST, 1))
    return np.abs(surprise / surprise.sum(axis=1, keepdims=True))


def write_word_submission(
    path: Path, layout: Layout, p: Float[np.ndarray, "N V"], secondary: Float[np.ndarray, "N W"] | None = None
) -> None:
    """Write a submission that was checked under another name before it has its own. UserError: it is not valid."""
    blocks = [p] if secondary is None else [p, secondary]
    values = np.concatenate([block / block.sum(axis=1, keepdims=True, dtype=np.float64) for block in blocks], axis=1)
    with output(path, "choose another --output") as aside:
        with aside.open("w", encoding="utf-8", newline="") as file:
            file.write(layout.head_line)
            writer = csv.writer(file, lineterminator="\n")
            for index, row in enumerate(values.tolist()):
                writer.writerow([index, *(f"{value:.9g}" for value in row)])
        check_word_submission(aside, layout, rows=len(p), where=path)


def check_word_submission(
    path: Path, layout: Layout, *, rows: int | None = None, where: Path | None = None
) -> Float[np.ndarray, "N V"]:
    """The probabilities of a submission. rows: how many it must have; None: any number.  where: what errors name.

    Columns that begin with `moses_` may follow where no secondary vocabulary says which they are. UserError: columns,
    number or order of rows are wrong, or a value is not from 0 to 1. The error names the line.
    """
    where = where or path
    table: list[list[float]] = []
    try:
        with open_text(path, "utf-8-sig") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            _check_header(where, header, layout)
            for number, line in enumerate(lines):
                table.append(_values(where, number, line, header))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(where, f"it cannot be read ({reason})", "a CSV file", "correct the path") from None
    if len(table) != rows and (rows is not None or not table):
        wanted = "one for each word of the holdout" if rows is None else f"{rows:,}, one for each word of the holdout"
        way_out = f"see whether --track, --holdout or --rows are those of this file, or {AGAIN}"
        raise UserError(where, counted(len(table), "row"), wanted, AGAIN if rows is None else way_out)
    return np.array([line[: len(layout.words)] for line in table])


def _check_header(where: Path, header: Sequence[str], layout: Layout) -> None:
    """UserError: other columns than the layout has, with what is known of how that comes."""
    wanted = list(layout.header)
    if not layout.secondary and len(header) > len(wanted):
        more = header[len(wanted) :]
        if all(name.startswith(SECONDARY) for name in more) and len(set(more)) == len(more):
            header = header[: len(wanted)]
    if list(header) == wanted:
        return
    if tuple(header[:2]) == PHONEME_COLUMNS[:2]:
        came = f"the first columns are {listed(header, 2)}, as in a submission of phonemes to the competition of 2025"
        way_out = "to check such a file, leave out --competition 2026"
        raise UserError(where, came, f"`{wanted[0]}` and the words", way_out)
    if header and header[0] != wanted[0] and header[0] in WORD_INDICES:
        way_out = f"add --index-column {header[0]} if that is what your scorer wants, or else rename the column"
        raise UserError(where, f"the first column is `{header[0]}`", f"`{wanted[0]}`", way_out)
    if len(header) != len(wanted):
        came, columns = (
            f"{counted(len(header), 'column')} in line 1",
            f"{wanted[0]}, {wanted[1]} and so on to {wanted[-1]}",
        )
        raise UserError(where, came, f"{len(wanted)} columns: {columns}", AGAIN)
    place = next(i for i, (is_there, right) in enumerate(zip(header, wanted, strict=True)) if is_there != right)
    came = f"the column {header[place]!r} at place {place + 1} of line 1"
    same = without(header[place]) == without(wanted[place])
    way_out = "add the --apostrophe that your scorer wants, or else rename the column" if same else AGAIN
    expected = f"{wanted[place]!r}, in the order of the vocabulary"
    raise UserError(where, came, f"{wanted[place]!r}, with its apostrophe so" if same else expected, way_out)


def _values(where: Path, row: int, line: Sequence[str], header: Sequence[str]) -> list[float]:
    """The values of a line without its index. UserError: the line is not that of this row, or has a wrong value."""
    number = row + 2
    if len(line) != len(header):
        raise UserError(where, f"{counted(len(line), 'value')} in line {number}", counted(len(header), "value"), AGAIN)
    if line[0].strip() != str(row):
        came = f"{header[0]} {line[0]!r} in line {number}"
        raise UserError(where, came, f"{row}, as rows are numbered from 0 in order", AGAIN)
    found = []
    for name, text in zip(header[1:], line[1:], strict=True):
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not 0 <= value <= 1:  # which is so of what is no number, too
            raise UserError(where, f"{text!r} in line {number}, {name}", "a probability from 0 to 1", AGAIN)
        found.append(value)
    return found
