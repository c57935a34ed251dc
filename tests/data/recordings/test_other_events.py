"""Recordings of another sampling rate, and windows of events that are not phonemes."""

from fractions import Fraction

import h5py
import numpy as np
import pytest
from command_line import fails
from helpers.data import grouped_path, read_grouped

from demega_jax.cli import main
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.errors import UserError
from demega_jax.signal.resample import ratio_of, resampled

RATE, SECONDS = 1000, 8
WORDS = ["the", "Dog", "the", "cat", "the", "dog", "dog", "cat", "bird", "the"]


def write_run(root, run: int, rate: int = RATE, names=("a", "b"), head="kind\tsegment\ttimemeg\tword") -> None:
    """A session run of two sensors: a slow and a fast oscillation; a word every half second, in two columns."""
    name = f"sub-0_ses-1_task-Own_run-{run}"
    for kind in ("serialised", "events"):
        (root / "Own" / "derivatives" / kind).mkdir(parents=True, exist_ok=True)
    t = np.arange(SECONDS * rate) / rate
    x = np.stack([np.sin(2 * np.pi * 5 * t), np.sin(2 * np.pi * 5 * t) + np.sin(2 * np.pi * 200 * t)])
    with h5py.File(root / f"Own/derivatives/serialised/{name}_proc-none_meg.h5", "w") as file:
        file["data"] = x.astype(np.float32)
        file.attrs.update(sample_frequency=float(rate), sensor_names=list(names), sensor_types=["mag", "grad"])
    rows = [f"word\tx{i}\t{1 + i / 2}\t{word}" for i, word in enumerate(WORDS)] + ["phoneme\tah_B\t1.0\tn/a"]
    (root / f"Own/derivatives/events/{name}_events.tsv").write_text("\n".join([head, *rows]) + "\n")


@pytest.fixture
def tree(tmp_path):
    """A tree of three session runs."""
    for run in (1, 2, 3):
        write_run(tmp_path / "tree", run)
    return tmp_path / "tree"


def test_resampling_keeps_what_the_new_rate_holds_and_nothing_above(tree):
    """5 Hz stays as it is, sample for sample; 200 Hz, which 250 Hz cannot hold, does not come back at 50 Hz."""
    assert ratio_of(1000, 250) == Fraction(1, 4) and ratio_of(1024, 250) == Fraction(125, 512)
    assert ratio_of(1000, 250.0001) is None
    (recording, *_) = find_recordings(tree, rate=250.0)
    assert (recording.rate, recording.samples) == (250.0, 2000)
    assert (recording.acquisition.sampling_rate, recording.acquisition.sensor_types) == (250.0, ("mag", "grad"))
    x = recording.read()
    expected = np.sin(2 * np.pi * 5 * np.arange(2000) / 250)
    inside = slice(100, -100)
    np.testing.assert_allclose(x[0, inside], expected[inside], atol=2e-3)
    np.testing.assert_allclose(x[1, inside], expected[inside], atol=1e-2)
    out = np.empty((1, 2000), np.float32)
    np.testing.assert_array_equal(recording.read(slice(1, 2), out), x[1:])
    assert resampled(np.ones((1, 101), np.float32), Fraction(1, 4)).shape == (1, 26)


def test_runs_that_differ_are_named_with_the_way_out(tree):
    write_run(tree, 4, rate=500)
    with pytest.raises(UserError, match="run-4.*500 Hz.*1000 Hz.*0/1/Own/1.*--resample 500"):
        find_recordings(tree)
    assert {recording.samples for recording in find_recordings(tree, rate=250.0)} == {2000}
    write_run(tree, 4, names=("b", "a"))
    with pytest.raises(UserError, match="run-4.*sensor_names 'b' at sensor 0.*'a'.*0/1/Own/1"):
        find_recordings(tree)


def test_words_become_the_classes_of_windows(tree, tmp_path, capsys, own_cache):
    """The two most frequent words, in small letters; 3 x (4 + 3) windows, of the resampled and standardised sine."""
    out = tmp_path / "words"
    options = ["--events", "kind=word", "--label", "word", "--top", "2", "--resample", "250", "--no-shuffle"]
    assert main(["group", str(tree), str(out), "--level", "1", "--split-shares", "1,0,0", *options]) == 0
    assert "2 classes: dog, the" in capsys.readouterr().out
    found = read_grouped(grouped_path(out))
    told = found["attributes"]
    assert told["classes"].tolist() == ["dog", "the"] and told["sampling_rate"] == 250
    assert told["sensor_types"].tolist() == ["mag", "grad"] and "units" not in told
    np.testing.assert_array_equal(found["labels"], [0] * 9 + [1] * 12)
    onset = np.array([1 + i / 2 for i, word in enumerate(WORDS) if word.lower() == "dog"])
    t = onset[:, None] + np.arange(125) / 250
    np.testing.assert_allclose(found["data"][:3, 0], np.sqrt(2) * np.sin(2 * np.pi * 5 * t), atol=5e-3)


def test_what_is_not_there_is_one_line(tree, tmp_path, capsys):
    words = ("group", tree, tmp_path / "out", "--level", "1", "--split-shares", "1,0,0")
    for options, *facts in (
        (("--events", "word"), "--events", "kind=word"),
        (("--events", "kind=word", "--label", "wrd"), "no column wrd", "word?"),
        (("--events", "knd=word"), "no column knd", "kind?"),
        (("--events", "kind=sound"), "0 different labels", "kind=sound"),
        (("--resample", "-3"), "--resample", "-3"),
        (("--resample", "333.333"), "--resample", "333.333 Hz", "1000 Hz"),
    ):
        line = fails(capsys, *words, *options)
        assert all(fact in line for fact in facts), line


def test_events_of_bids_have_their_time_in_the_column_onset(tree):
    from demega_jax.data.recordings.events import EventChoice, read_events

    write_run(tree, 4, head="trial_type\tsegment\tonset\tword")
    path = next((tree / "Own/derivatives/events").glob("*run-4*"))
    found = read_events(path, EventChoice("trial_type", "word", "word"))
    assert found.symbol[:3] == ("the", "dog", "the") and found.onset[:3].tolist() == [1.0, 1.5, 2.0]
