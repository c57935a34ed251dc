"""Submissions: what is written is what the competition takes, and every fault is named with its line."""

import csv

import numpy as np
import pytest
from helpers.errors import refused

from demega_jax.data.arrays import array_split
from demega_jax.evaluation.submission import (
    HEADER,
    check_submission,
    phoneme_columns,
    warn_if_standardised_twice,
    write_submission,
)
from demega_jax.phonemes import PHONEMES

ROWS = 7


def probabilities() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(39), ROWS)


@pytest.fixture
def submission(tmp_path):
    path = tmp_path / "submission.csv"
    write_submission(path, probabilities().astype(np.float32))
    return path


def changed(path, line: int, column: int, text: str | None):
    """The file with another value; None: the value is left out."""
    lines = list(csv.reader(path.open()))
    lines[line][column : column + 1] = [] if text is None else [text]
    path.write_text("\n".join(map(",".join, lines)) + "\n")
    return path


def test_the_file_is_as_the_competition_wants_it(submission):
    lines = submission.read_text().splitlines()
    assert lines[0].split(",") == ["segment_idx"] + [f"phoneme_{number}" for number in range(1, 40)]
    assert [line.split(",")[0] for line in lines[1:]] == list(map(str, range(ROWS)))
    values = np.array([line.split(",")[1:] for line in lines[1:]], float)
    np.testing.assert_allclose(values, probabilities(), rtol=1e-5)
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-7)
    np.testing.assert_array_equal(check_submission(submission, rows=ROWS), values)


@pytest.mark.parametrize(
    ("line", "column", "text", "facts"),
    [
        (0, 0, "id", ["segment_idx", "id", "--competition 2026", "--vocabulary"]),
        (0, 5, "phoneme_6", ["phoneme_5", "phoneme_6"]),
        (0, 39, None, ["39 columns", "40 columns"]),
        (3, 0, "3", ["segment_idx 3", "line 4"]),
        (3, 39, None, ["39 values", "line 4"]),
        (2, 4, "nan", ["nan", "line 3", "phoneme_4"]),
        (2, 4, "inf", ["inf", "line 3", "phoneme_4"]),
        (2, 4, "", ["line 3", "phoneme_4"]),
        (2, 4, "-0.1", ["-0.1", "line 3", "phoneme_4"]),
        (2, 4, "0.9", ["line 3", "sum"]),
    ],
)
def test_faults_are_named_with_their_line(submission, line, column, text, facts):
    with refused(*facts, where=submission):
        check_submission(changed(submission, line, column, text), rows=ROWS)


@pytest.mark.parametrize(("kept", "rows"), [(slice(0, -1), "6"), (slice(0, 0), "0")])
def test_missing_rows(submission, kept, rows):
    lines = submission.read_text().splitlines()
    submission.write_text("\n".join([lines[0], *lines[1:][kept]]))
    with refused(f"{rows} rows", "7"):
        check_submission(submission, rows=ROWS)


def test_repeated_and_unordered_rows(submission):
    lines = submission.read_text().splitlines()
    submission.write_text("\n".join([*lines[:3], lines[2], *lines[4:]]))
    with refused("segment_idx 1", "line 4"):
        check_submission(submission, rows=ROWS)
    submission.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with refused("segment_idx 1", "line 2"):
        check_submission(submission, rows=ROWS)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\x00\x00"])
def test_files_that_are_no_csv(tmp_path, content):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with refused(where=path):
        check_submission(path)


@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_nothing_is_written_that_is_not_valid(tmp_path, value):
    p = probabilities()
    p[3, 5] = value
    with refused("line 5"), np.errstate(invalid="ignore"):
        write_submission(tmp_path / "x.csv", p)
    assert list(tmp_path.iterdir()) == []


def test_columns_follow_the_phonemes():
    classes = tuple(reversed(PHONEMES))
    p = probabilities()
    np.testing.assert_array_equal(phoneme_columns(p, classes, "run"), p[:, ::-1])
    with refused("run", "39 phonemes", "x"):
        phoneme_columns(p, (*PHONEMES[:-1], "x"), "run")


@pytest.mark.parametrize(("scale", "told"), [(1.0, True), (0.1, False)])
def test_a_holdout_that_was_standardised_twice(warnings, scale, told):
    """The published segments are averages of about 100 standardised windows: a tenth of their amplitude."""
    x = scale * np.random.default_rng(0).standard_normal((200, 6, 25)).astype(np.float32)
    warn_if_standardised_twice(array_split(x, ("a",), (6, 25)))
    assert bool(warnings) == told


def test_the_header_has_every_phoneme():
    assert len(HEADER) == 40
