"""Submissions of words: the file by hand, every trap and fault, and scores by scikit-learn and by counting."""

import csv

import numpy as np
import pytest
from helpers.errors import refused
from sklearn.metrics import balanced_accuracy_score

from demega_jax.evaluation.vocabulary import columns_of, find_words, read_vocabulary, spelled
from demega_jax.evaluation.word_answers import read_answers, score_answers
from demega_jax.evaluation.word_submission import Layout, check_word_submission, lowest_first, write_word_submission

WORDS = ("the", "it\u2019s", "a", "Holmes")
P = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.2, 0.3]])


def vocabulary(tmp_path, text):
    path = tmp_path / "vocabulary.csv"
    path.write_bytes(text.encode())
    return path


def test_a_vocabulary(tmp_path):
    assert read_vocabulary(vocabulary(tmp_path, "\ufeffthe, it\u2019s,a,Holmes,\r\n")) == WORDS
    for text, facts in (("", ["0 lines"]), ("a,b\nc,d\n", ["2 lines"]), ("a\n", ["one word"]), ("a,b,A\n", ["A"])):
        path = vocabulary(tmp_path, text)
        with refused(*facts, where=path):
            read_vocabulary(path)


def test_apostrophes():
    assert spelled(WORDS, "keep") == WORDS
    assert spelled(WORDS, "straight") == ("the", "it's", "a", "Holmes")
    assert spelled(WORDS, "none") == ("the", "its", "a", "Holmes")
    with refused("its", "it's", where="--apostrophe"):
        spelled(("its", "it's"), "none")


def test_words_are_found_up_to_case_and_apostrophes():
    np.testing.assert_array_equal(find_words(["ITS", "it's", "holmes", "x"], WORDS), [1, 1, 3, -1])
    np.testing.assert_array_equal(find_words(["its", "it's", "it\u2019s"], ["it's", "its"]), [1, 0, 0])


def test_the_columns_of_a_model():
    """A model of the classes Holmes, its, a, the: the first column of the file is its last class."""
    np.testing.assert_array_equal(columns_of(("holmes", "its", "a", "the"), WORDS, "run"), [3, 1, 2, 0])
    for classes, facts in (
        (("holmes", "its", "a", "an"), ["an"]),
        (("holmes", "its", "a"), ["the"]),
        (("its", "it's", "a", "the"), ["its", "it's"]),
    ):
        with refused("run", *facts, where="run"):
            columns_of(classes, WORDS, "run")


def test_the_file(tmp_path):
    path = tmp_path / "s.csv"
    layout = Layout(WORDS, ("a", "bed"))
    write_word_submission(path, layout, 2 * P, np.full((3, 2), 3.0))  # each block is divided by its sum
    lines = path.read_text().splitlines()
    assert lines[0] == "index,the,it\u2019s,a,Holmes,moses_a,moses_bed"
    assert lines[1] == "0,0.1,0.2,0.3,0.4,0.5,0.5" and len(lines) == 4
    np.testing.assert_allclose(check_word_submission(path, layout, rows=3), P, rtol=1e-8)
    np.testing.assert_allclose(check_word_submission(path, Layout(WORDS)), P, rtol=1e-8)
    write_word_submission(path, Layout(WORDS, index="id", apostrophe="none"), P)
    assert path.read_text().splitlines()[0] == "id,the,its,a,Holmes"


def test_ranks_the_other_way_round():
    found = lowest_first(P)
    logarithms = -np.log([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(found[0], logarithms / logarithms.sum())
    assert found[1, 1] == found[1, 2] == found[1, 3]  # what is equal stays equal
    draw = np.random.default_rng(0).dirichlet(np.full(50, 0.1), 20)  # most of them tiny
    written = np.array([[float(f"{value:.9g}") for value in row] for row in lowest_first(draw)])
    np.testing.assert_array_equal(np.argsort(written)[:, :10], np.argsort(-draw)[:, :10])
    assert (lowest_first(np.array([[1.0, 0.0]])) == [[0, 1]]).all()


@pytest.mark.parametrize(
    ("line", "column", "text", "facts"),
    [
        (0, 0, "id", ["id", "index", "--index-column id"]),
        (0, 0, "row", ["row", "index"]),
        (0, 2, "its", ["its", "it\u2019s", "--apostrophe"]),
        (0, 1, "a", ["'a'", "'the'"]),
        (0, 4, None, ["4 columns", "5 columns"]),
        (2, 0, "2", ["index '2'", "line 3"]),
        (2, 0, "", ["line 3"]),
        (2, 4, None, ["4 values", "line 3"]),
        (3, 1, "nan", ["nan", "line 4", "the"]),
        (3, 1, "1.01", ["1.01", "line 4"]),
        (3, 1, "-0.01", ["-0.01", "line 4"]),
        (3, 1, "x", ["'x'", "line 4"]),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, line, column, text, facts):
    path = tmp_path / "s.csv"
    write_word_submission(path, Layout(WORDS), P)
    lines = list(csv.reader(path.open()))
    lines[line][column : column + 1] = [] if text is None else [text]
    path.write_text("\n".join(map(",".join, lines)) + "\n")
    with refused(*facts, where=path):
        check_word_submission(path, Layout(WORDS))


def test_a_submission_of_phonemes_is_told(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("segment_idx,phoneme_1,phoneme_2\n")
    with refused("segment_idx", "phonemes", "leave out --competition 2026", where=path):
        check_word_submission(path, Layout(WORDS))


def test_the_number_of_rows(tmp_path):
    path = tmp_path / "s.csv"
    write_word_submission(path, Layout(WORDS), P)
    with refused("3 rows", "4", "--track", "--rows", where=path):
        check_word_submission(path, Layout(WORDS), rows=4)
    path.write_text(path.read_text().splitlines()[0])
    with refused("0 rows", where=path):
        check_word_submission(path, Layout(WORDS))


@pytest.mark.parametrize("value", [np.nan, -1.0])
def test_nothing_is_written_that_is_not_valid(tmp_path, value):
    p = P.copy()
    p[1, 2] = value
    with refused("line 3"), np.errstate(invalid="ignore"):
        write_word_submission(tmp_path / "s.csv", Layout(WORDS), p)
    assert list(tmp_path.iterdir()) == []


def answers_file(tmp_path, text):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    return path


def test_answers(tmp_path):
    path = answers_file(tmp_path, "id,label,Usage\n1,the,x\n0,cat,y\n")
    assert read_answers(path, 3) == {1: "the", 0: "cat"}
    for text, facts in (
        ("", ["none", "label"]),
        ("id,word\n", ["word"]),
        ("id,label\n3,a\n", ["'3'", "line 2"]),
        ("id,label\n1,a\n1,b\n", ["'1'", "line 3"]),
        ("id,label\n1,\n", ["line 2"]),
        ("id,label\n-1,a\n", ["'-1'"]),
    ):
        path = answers_file(tmp_path, text)
        with refused(*facts, where=path):
            read_answers(path, 3)


def test_scores_of_answers():
    """Of 12 words and 60 rows, against scikit-learn, and against sorting each row."""
    draw = np.random.default_rng(3)
    words = [f"w{number}" for number in range(12)]
    p, labels = draw.dirichlet(np.ones(12), 60), draw.integers(0, 7, 60)
    answers = {row: words[label].upper() for row, label in enumerate(labels)} | {3: "cat", 4: "cat", 5: "dog"}
    del answers[6]
    kept = np.array([row for row in range(60) if row not in (3, 4, 5, 6)])
    for ranks, sign in (("highest", -1), ("lowest", 1)):
        found = score_answers(p, answers, words, ranks=ranks, where="file")
        order = np.argsort(sign * p[kept], axis=1)
        wanted = balanced_accuracy_score(labels[kept], order[:, 0])
        assert found.scores.balanced_accuracy == pytest.approx(wanted)
        hit = (order[:, :10] == labels[kept][:, None]).any(1)
        each = [hit[labels[kept] == label].mean() for label in np.unique(labels[kept])]
        assert found.scores.balanced_accuracy_at_10 == pytest.approx(np.mean(each))
        assert found.outside == {"cat": 2, "dog": 1} and found.unanswered == 1 and found.scores.rows == 56
    with refused("2 answers", where="file"):
        score_answers(p, {3: "cat", 4: "dog"}, words, ranks="highest", where="file")
