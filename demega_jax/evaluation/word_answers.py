"""Scores of a submission of words by a file of answers: balanced accuracy, and balanced accuracy at 10."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.errors import UserError, counted
from demega_jax.evaluation.vocabulary import find_words
from demega_jax.evaluation.word_submission import Ranks
from demega_jax.metrics import Scores, confusion_matrix, right_at_10_of, scores
from demega_jax.reading import open_text

ID, LABEL = ("id", "index"), "label"


@dataclasses.dataclass(frozen=True, eq=False)
class AnswerScores:
    """scores: over the rows whose answer is a word of the vocabulary.

    outside: how many rows have each answer that is not in the vocabulary.  unanswered: rows without an answer.
    """

    scores: Scores
    outside: dict[str, int]
    unanswered: int


def read_answers(path: Path, rows: int) -> dict[int, str]:
    """The answer of each row that has one, of a CSV file with the columns `id` and `label`, and perhaps others.

    UserError: it has no such columns, or names a row twice, or one that the submission does not have.
    """
    wanted = "a CSV file with the columns id and label"
    found: dict[int, str] = {}
    try:
        with open_text(path, "utf-8-sig") as file:
            lines = csv.DictReader(file)
            names = lines.fieldnames or []
            number_of = next((name for name in ID if name in names), None)
            if number_of is None or LABEL not in names:
                came = f"the columns {', '.join(names) or 'none'}"
                raise UserError(path, came, wanted, "name the columns id and label in line 1")
            for line in lines:
                row, label = line[number_of] or "", (line[LABEL] or "").strip()
                if not (row.isascii() and row.isdecimal() and int(row) < rows and int(row) not in found and label):
                    came = f"{number_of} {row!r} with the label {label!r} in line {lines.line_num}"
                    way_out = "correct the line, or leave it out"
                    raise UserError(path, came, f"each row from 0 to {rows - 1} at most once, with a word", way_out)
                found[int(row)] = label
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(path, f"it cannot be read ({reason})", wanted, "correct the path") from None
    return found


def score_answers(
    p: Float[np.ndarray, "N V"], answers: dict[int, str], words: Sequence[str], *, ranks: Ranks, where: object
) -> AnswerScores:
    """The scores of the values of a submission. ranks: whether its largest or its smallest values are the best guesses.

    An answer is compared with words up to case and apostrophes. Of equal values the word that is listed first is the
    better guess. UserError: no row has an answer that is in the vocabulary.
    """
    rows = np.array(sorted(answers), np.int64)
    labels = find_words([answers[row] for row in rows.tolist()], words)
    outside: dict[str, int] = {}
    for row in rows[labels < 0].tolist():
        outside[answers[row]] = outside.get(answers[row], 0) + 1
    known = labels >= 0
    if not known.any():
        way_out = "give the answers of this vocabulary"
        raise UserError(
            where, f"{counted(len(rows), 'answer')}, none of them a word of the vocabulary", "such words", way_out
        )
    guesses = p[rows[known]] if ranks == "highest" else -p[rows[known]]
    confusion = confusion_matrix(labels[known], guesses.argmax(axis=-1), len(words))
    found = scores(confusion, words, right_at_10=right_at_10_of(guesses, labels[known]))
    return AnswerScores(found, outside, len(p) - len(rows))
