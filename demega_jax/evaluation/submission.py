"""Submissions to the LibriBrain 2025 phoneme track: a CSV file with the probabilities of the holdout's segments."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.split import Split
from demega_jax.errors import UserError, counted, warn
from demega_jax.files import output
from demega_jax.phonemes import PHONEMES
from demega_jax.reading import open_text

SEGMENTS = 2382  # of the published holdout
HEADER = ("segment_idx", *(f"phoneme_{number}" for number in range(1, len(PHONEMES) + 1)))
HEAD_LINE = ",".join(HEADER) + "\n"
SUM_TOLERANCE = 1e-4  # of the sum of a row
SPREAD_TOLERANCE = 0.05  # a sensor whose standard deviation is so near to 1 looks standardised on its own
SAMPLED = 512  # segments on which the spread is measured

WORD_INDICES = ("index", "id")  # names of the first column of a submission of words
AGAIN = "write it again with `demega-jax submit`"


def phoneme_columns(p: Float[np.ndarray, "N V"], classes: Sequence[str], where: object) -> Float[np.ndarray, "N 39"]:
    """Probabilities in the order of the 39 phonemes. UserError: the classes are not the 39 phonemes."""
    other = sorted(set(classes) ^ set(PHONEMES))
    if other:
        named = f"no {other[0]}" if other[0] in PHONEMES else f"as {other[0]}"
        came = f"{len(classes)} classes that are not the 39 phonemes ({named})"
        raise UserError(where, came, "a model of the 39 ARPAbet phonemes", "submit a run trained on all phonemes")
    return p[:, [list(classes).index(name) for name in PHONEMES]]


def write_submission(path: Path, p: Float[np.ndarray, "N 39"]) -> None:
    """Write a submission that was checked under another name before it has its own. UserError: it is not valid."""
    p = np.asarray(p, np.float64)
    p = p / p.sum(axis=1, keepdims=True)
    with output(path, "choose another --output") as aside:
        with aside.open("w", encoding="utf-8") as file:
            file.write(HEAD_LINE)
            for index, row in enumerate(p):
                file.write(",".join([str(index), *(f"{value:.9g}" for value in row)]) + "\n")
        check_submission(aside, rows=len(p), where=path)


def check_submission(path: Path, *, rows: int = SEGMENTS, where: Path | None = None) -> Float[np.ndarray, "N 39"]:
    """The probabilities of a submission. rows: how many it must have.  where: the file that errors name.

    UserError: columns, number or order of rows are wrong; a value is no number, not finite or negative; a row does not
    sum to 1. The error names the line.
    """
    where = where or path
    try:
        with open_text(path, "utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(where, f"it cannot be read ({reason})", "a CSV file", "correct the path") from None
    _check_header(where, lines[0] if lines else [])
    table = np.array([_numbers(where, number, line) for number, line in enumerate(lines[1:], start=2)])
    if len(table) != rows:
        came = f"{counted(len(table), 'row')}"
        raise UserError(where, came, f"{rows:,}, one for each segment of the holdout", AGAIN)
    wrong = np.flatnonzero(table[:, 0] != np.arange(rows))
    if len(wrong):
        at = int(wrong[0])
        came = f"segment_idx {table[at, 0]:g} in line {at + 2}"
        raise UserError(where, came, f"{at}, as segments are numbered from 0 in order", AGAIN)
    p = table[:, 1:]
    negative = np.argwhere(p < 0)
    if len(negative):
        row, column = negative[0].tolist()
        came = f"{p[row, column]:g} in line {row + 2}, {HEADER[column + 1]}"
        raise UserError(where, came, "a probability of at least 0", AGAIN)
    sums = p.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(off):
        came = f"probabilities with the sum {sums[off[0]]:.6g} in line {off[0] + 2}"
        raise UserError(where, came, "the sum 1 in every row", "divide each row by its sum")
    return p


def _check_header(where: Path, header: Sequence[str]) -> None:
    if tuple(header) == HEADER:
        return
    wanted = f"{HEADER[0]}, {HEADER[1]} and so on to {HEADER[-1]}"
    if header and header[0] in WORD_INDICES:
        came = f"the first column is `{header[0]}`, as in a submission of words to the competition of 2026"
        way_out = "to check such a file, add --competition 2026 and --vocabulary, and --track with --holdout"
        raise UserError(where, came, f"the {len(HEADER)} columns {wanted}", way_out)
    if len(header) != len(HEADER):
        raise UserError(
            where, f"{counted(len(header), 'column')} in line 1", f"{counted(len(HEADER), 'column')}: {wanted}", AGAIN
        )
    place = next(i for i, (is_there, right) in enumerate(zip(header, HEADER, strict=True)) if is_there != right)
    came = f"the column {header[place]!r} at place {place + 1}"
    raise UserError(where, came, f"{HEADER[place]!r}, of the columns {wanted}", AGAIN)


def _numbers(where: Path, number: int, line: Sequence[str]) -> list[float]:
    """The numbers of a line. UserError: too few or too many, or one that is no finite number."""
    if len(line) != len(HEADER):
        raise UserError(where, f"{counted(len(line), 'value')} in line {number}", counted(len(HEADER), "value"), AGAIN)
    found = []
    for name, text in zip(HEADER, line, strict=True):
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise UserError(where, f"{text!r} in line {number}, {name}", "a finite number", AGAIN)
        found.append(value)
    return found


def warn_if_standardised_twice(split: Split) -> None:
    """Warn if every sensor of a holdout has a standard deviation near 1.

    The published segments are averages, mostly of 100 windows that were standardised before, so their standard
    deviation is far below 1. If it is 1, they were standardised once more, and a model sees other amplitudes.
    """
    spread = split.sample(SAMPLED).std(axis=(0, 2), dtype=np.float64)
    if (np.abs(spread - 1) < SPREAD_TOLERANCE).all():
        warn(
            f"{split.path}: every sensor has a standard deviation near 1 ({spread.min():.3f} to {spread.max():.3f}), "
            "so the segments look standardised a second time; give the published file as it is"
        )
