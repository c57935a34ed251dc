"""The holdout of words: rows in the order of the competition, windows cut by numpy, and every fault of a file."""

import numpy as np
import pytest
from helpers.errors import refused
from helpers.words import write_subject

from demega_jax.data.word_holdout import open_word_holdout

SENTENCE, WORD = "subj00_holdout01_sentence.npz", "subj00_holdout2_word.npz"


def read(split, rows=None):
    return split.reader().read(np.arange(split.rows) if rows is None else np.array(rows))


def test_the_rows_of_the_deep_track(tmp_path):
    wanted = write_subject(tmp_path / "COMPETITION_HOLDOUT", 0)
    for folder in (tmp_path, tmp_path / "COMPETITION_HOLDOUT"):
        split = open_word_holdout(folder, "deep", classes=("a", "b"), expect_shape=(5, 9))
        np.testing.assert_array_equal(read(split), wanted)
        assert split.rows == 6 and split.window == (5, 9) and split.level == 1 and (split.labels == -1).all()
        assert split.acquisition.sampling_rate == 9
    np.testing.assert_array_equal(read(split, [5, 0, 2]), wanted[[5, 0, 2]])


def test_the_rows_of_the_broad_track(tmp_path):
    subjects = [write_subject(tmp_path, subject) for subject in range(40)]
    split = open_word_holdout(tmp_path, "broad")
    np.testing.assert_array_equal(read(split), np.concatenate(subjects[1:]))
    one = split.reader()
    np.testing.assert_array_equal(one.read(np.array([200, 3, 7])), np.concatenate(subjects[1:])[[200, 3, 7]])
    (tmp_path / "subj07_holdout2_word.npz").unlink()
    with refused("subj07_holdout2_word.npz", "broad", where=tmp_path):
        open_word_holdout(tmp_path, "broad")


def test_a_stored_word_that_is_longer_gives_its_first_second(tmp_path):
    meg = np.random.default_rng(1).standard_normal((2, 5, 10)).astype(np.float32)
    write_subject(tmp_path, 0, word={"meg": meg})
    np.testing.assert_array_equal(read(open_word_holdout(tmp_path, "deep"))[3:], meg[:, :, :9])


def test_an_onset_is_rounded_to_the_nearest_time_point(tmp_path):
    """At 10 Hz 0.14 s is 1.4, 0.16 s is 1.6, and of 0.25 s, 2.5, it is the even one, as numpy and Python round."""
    meg = np.arange(2 * 5 * 30, dtype=np.float32).reshape(2, 5, 30)
    onsets = np.array([[0.14, 0.16, 0.25], [np.nan] * 3])
    mask = np.array([[True] * 3, [False] * 3])
    changes = {"meg": meg, "word_onsets_s": onsets, "word_mask": mask}
    write_subject(tmp_path, 0, rate=10, sentence=changes, word={"meg": np.zeros((0, 5, 10), np.float32)})
    np.testing.assert_array_equal(read(open_word_holdout(tmp_path, "deep"))[:, 0, 0], [1, 2, 2])


@pytest.mark.parametrize(
    ("kind", "changes", "facts"),
    [
        ("sentence", {"sentence_n_times": np.array([19, 30])}, ["word 2", "sentence 0", "1.25", "19"]),
        ("sentence", {"sentence_n_times": np.array([24, 300]), "word_onsets_s": np.full((2, 3), 2.5)}, ["2.5", "24"]),
        ("sentence", {"sentence_n_times": np.array([np.nan, 30])}, ["word 0", "0 time points"]),
        ("sentence", {"word_onsets_s": np.full((2, 3), np.nan)}, ["word 0", "sentence 0", "nan"]),
        ("sentence", {"word_onsets_s": np.full((2, 3), -1.0)}, ["word 0", "-1"]),
        ("sentence", {"word_mask": np.ones((2, 2), bool)}, ["word_mask", "[2, 2]"]),
        ("sentence", {"word_mask": np.ones((2, 3))}, ["word_mask", "float64"]),
        ("sentence", {"word_mask": np.array([[{}]], object)}, ["allow_pickle"]),
        ("sentence", {"sfreq": np.float64(np.nan)}, ["sfreq"]),
        ("sentence", {"sfreq": np.float64(-9)}, ["sfreq", "-9"]),
        ("sentence", {"meg": np.zeros((2, 5), np.float32)}, ["meg", "[2, 5]"]),
        ("sentence", {"meg": np.array([[[{}]]], object)}, ["meg", "object"]),
        ("word", {"meg": np.zeros((3, 5, 8), np.float32)}, ["8", "9"]),
        ("word", {"tmin": np.float64(-0.2)}, ["tmin", "-0.2"]),
        ("word", {"sfreq": np.float64(8)}, ["8 Hz", "9 Hz"]),
        ("word", {"meg": np.zeros((3, 4, 9), np.float32)}, ["4 sensors", "5 sensors"]),
    ],
)
def test_faults_of_a_file(tmp_path, kind, changes, facts):
    write_subject(tmp_path, 0, **{kind: changes})
    with refused(*facts, where=tmp_path / (SENTENCE if kind == "sentence" else WORD)):
        open_word_holdout(tmp_path, "deep")


def test_other_faults(tmp_path):
    with refused(SENTENCE, "deep", where=tmp_path):
        open_word_holdout(tmp_path, "deep")
    write_subject(tmp_path, 0)
    with refused("5 sensors", "306 x 250", where=tmp_path):
        open_word_holdout(tmp_path, "deep", expect_shape=(306, 250))
    (tmp_path / WORD).write_bytes(b"PK no zip")
    with refused(where=tmp_path / WORD):
        open_word_holdout(tmp_path, "deep")
    np.savez(tmp_path / WORD, x=np.zeros(3))
    with refused("sfreq", "x", where=tmp_path / WORD):
        open_word_holdout(tmp_path, "deep")


def test_a_value_that_is_not_finite(tmp_path):
    meg = np.zeros((3, 5, 9), np.float32)
    meg[1, 2, 3] = np.inf
    write_subject(tmp_path, 0, word={"meg": meg})
    split = open_word_holdout(tmp_path, "deep")
    with refused("row 1", "sensor 2", "time point 3", where=tmp_path / WORD):
        read(split)
