"""Recordings of another sampling rate, and windows of events that are not phonemes."""

import json
import re
from fractions import Fraction

import numpy as np
import pytest
from command_line import fails
from helpers import TINY_MODEL
from helpers.data import grouped_path, read_grouped
from helpers.recordings import WORDS, write_words, write_words_of
from helpers.runs import evaluate, train

from demega_jax.cli import main
from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.data.open import open_split, open_training
from demega_jax.data.recordings.class_map import read_class_map
from demega_jax.data.recordings.classes import event_choice
from demega_jax.data.recordings.events import EventChoice, read_events
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.symbols import label_symbols
from demega_jax.errors import UserError
from demega_jax.signal.resample import ratio_of, resampled
from demega_jax.training.run import RunFolder


@pytest.fixture
def tree(tmp_path):
    """A tree of three session runs."""
    return write_words(tmp_path / "tree")


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
    write_words_of(tree, 4, rate=500)
    with pytest.raises(UserError, match="run-4.*500 Hz.*1000 Hz.*0/1/Own/1.*--resample 500"):
        find_recordings(tree)
    assert {recording.samples for recording in find_recordings(tree, rate=250.0)} == {2000}
    write_words_of(tree, 4, names=("b", "a"))
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
        (("--events", "kind=word", "--label", "wrd"), "no column wrd", "kind, segment, timemeg, word", "word?"),
        (("--events", "knd=word"), "no column knd", "kind?"),
        (("--events", "all", "--label", "wrd"), "no column wrd", "word?"),
        (("--events", "all", "--top", "1"), "--top"),
        (("--events", "kind=wrd"), "no row with kind=wrd", "word, phoneme", "mean word?"),
        (("--resample", "-3"), "--resample", "-3"),
        (("--resample", "333.333"), "--resample", "333.333 Hz", "1000 Hz"),
    ):
        line = fails(capsys, *words, *options)
        assert all(fact in line for fact in facts), line


def test_own_recordings_without_splits_are_told_of_a_table(tree, tmp_path, capsys):
    line = fails(capsys, "group", tree, tmp_path / "out", "--level", "1", "--events", "kind=word")
    assert "a split for each session run" in line and "--splits TABLE" in line and "Sherlock" not in line
    with pytest.raises(UserError, match="no session run for test.*--splits TABLE.*columns run and split"):
        open_split(tree, "test", Config().data.model_copy(update={"level": 1}))


def test_events_of_bids_have_their_time_in_the_column_onset(tree):
    write_words_of(tree, 4, head="trial_type\tsegment\tonset\tword")
    path = next((tree / "Own/derivatives/events").glob("*run-4*"))
    found = read_events(path, EventChoice("trial_type", "word", "word"))
    assert found.symbol[:3] == ("the", "dog", "the") and found.onset[:3].tolist() == [1.0, 1.5, 2.0]
    # All rows: those of sounds too; without a label no time is needed.
    path.write_text(path.read_text() + "sound\tx\t7.5\tbeep\nsound\tx\tn/a\tn/a\n")
    found = read_events(path, event_choice("--", "all", "word", None, None))
    assert len(found.symbol) == len(WORDS) + 1 and found.symbol[-1] == "beep"
    path.write_text(path.read_text() + "sound\tx\tn/a\tbeep\n")
    with pytest.raises(UserError, match="time 'n/a' in line 15"):
        read_events(path, event_choice("--", "all", "word", None, None))


ANIMALS = "label\tclass\nDog\tAnimal\ncat\tAnimal\nbird\tfliers\nunicorn\tfliers\n"


def test_a_file_of_classes_puts_labels_together(tree, tmp_path, capsys, own_cache):
    """Dogs and cats are one class, in the order of time; `the` is left out, 4 times in each of three session runs."""
    path = tmp_path / "animals.tsv"
    path.write_text(ANIMALS)
    write_words_of(tree, 2)
    events = next((tree / "Own/derivatives/events").glob("*run-1*"))
    # A label that is the name of a class, and an event without a label.
    events.write_text(events.read_text() + "word\tx\t7.25\tanimal\nword\tx\t7.5\tn/a\n")
    words = ["--events", "kind=word", "--label", "word", "--classes-file", path, "--no-shuffle", "--tmax", 0.5]
    command = ["group", tree, tmp_path / "out", "--level", 1, "--split-shares", "1,0,0", *words]
    assert main([str(word) for word in command]) == 0
    said = capsys.readouterr()
    assert "2 classes: Animal, fliers" in said.out
    (warning,) = [line for line in said.err.splitlines() if "does not name" in line]
    assert (
        f"13 events have a label that {path} does not name, and no such event is used: the (12), animal (1)" in warning
    )
    found = read_grouped(grouped_path(tmp_path / "out"))
    assert found["attributes"]["classes"].tolist() == ["Animal", "fliers"]
    assert found["labels"].tolist() == [0] * 15 + [1] * 3
    onset = np.array([1 + i / 2 for i, word in enumerate(WORDS) if word.lower() in ("dog", "cat")])
    t = onset[:, None] + np.arange(500) / 1000
    np.testing.assert_allclose(found["data"][:5, 0], np.sqrt(2) * np.sin(2 * np.pi * 5 * t), atol=1e-3)


def test_phonemes_too_have_the_classes_of_a_file(tmp_path):
    """Stress digits do not count; silence is a class if the file names it, and sounds are not taken for phonemes."""
    (tmp_path / "map.csv").write_text("class,label\nvowel,AH\nvowel, iy\nsilence,sil\n")
    table = ["kind\tsegment\ttimemeg", "phoneme\tah1_B\t1", "phoneme\tsil\t2", "phoneme\tt_E\t3", "phoneme\tspn\t4"]
    (tmp_path / "events.tsv").write_text("\n".join([*table, "phoneme\tiy_I\t5"]) + "\n")
    choice = EventChoice(class_map=read_class_map(tmp_path / "map.csv"))
    events = read_events(tmp_path / "events.tsv", choice)
    assert events.symbol == ("ah1", "sil", "t", "iy") and events.onset.tolist() == [1, 2, 3, 5]
    labels, unknown = label_symbols(events.symbol, choice.class_map.classes, choice)
    assert labels.tolist() == [0, 1, -1, 0] and unknown == {"t": 1}
    assert read_events(tmp_path / "events.tsv").symbol == ("ah1", "t", "iy")
    assert label_symbols(["b1", "b"], ("b",), EventChoice("kind", "sound"))[0].tolist() == [-1, 0]


def test_every_form_of_an_apostrophe_is_the_same(tmp_path):
    """In events, in the file of classes and in the classes of a model; a class is written as the file writes it."""
    (tmp_path / "map.tsv").write_text("label\tclass\nit\u2019s\tit\u2019s\ndon't\tdo\n")
    rows = [f"word\t{word}\t{time}" for time, word in enumerate(("It's", "don\u2018t", "it\u2019s", "its"))]
    (tmp_path / "events.tsv").write_text("\n".join(["kind\tsegment\ttimemeg", *rows]) + "\n")
    choice = EventChoice("kind", "word", "segment", read_class_map(tmp_path / "map.tsv"))
    symbols = read_events(tmp_path / "events.tsv", choice).symbol
    assert symbols == ("it's", "don't", "it's", "its") and choice.class_map.classes == ("it\u2019s", "do")
    assert label_symbols(symbols, ("it\u2019s", "do"), choice)[0].tolist() == [0, 1, 0, -1]
    assert label_symbols(symbols, ("its", "it\u2019s"), EventChoice("kind", "word"))[0].tolist() == [1, -1, 1, 0]


def test_a_file_of_classes_that_is_not_sound_is_one_line(tree, tmp_path, capsys):
    path = tmp_path / "classes.tsv"
    words = ["group", tree, tmp_path / "out", "--level", 1, "--split-shares", "1,0,0"]
    words += ["--events", "kind=word", "--label", "word", "--classes-file", path]
    for text, *facts in (
        (ANIMALS + "DOG\tpet\n", "label dog is of class Animal in line 2, and of class pet in line 6"),
        (ANIMALS.replace("class", "group"), "no column class", "label, group"),
        ("label\tclass\n", "no row below its head"),
        ("", "no head in its first line"),
        ("label\tclass\ndog\tA\ncat\tA\n", "one class only (A)"),
        (
            ANIMALS + "yeti\tghost\nnessie\tghost\n",
            "no event of class ghost (yeti nessie) in 3 session runs of train",
            "the (12)",
        ),
        (ANIMALS + "yeti\n", "no class in line 6"),
        (ANIMALS + "yeti\tit's\nape\tit\u2019s\n", "apostrophe"),
        (ANIMALS + "it's\tyes\nit\u2019s\tno\n", "label it's is of class yes in line 6, and of class no in line 7"),
    ):
        path.write_text(text)
        line = fails(capsys, *words)
        assert all(fact in line for fact in (str(path), *facts)), line
    assert "--top" in fails(capsys, *words, "--top", 2)
    path.unlink()
    assert str(path) in fails(capsys, *words)
    assert not (tmp_path / "out").exists()


def regrouped(tree, tmp_path, **more) -> Config:
    """A configuration that trains on own events with the regroup feed."""
    (tmp_path / "splits.csv").write_text("run,split\n0/1/Own/1,train\n0/1/Own/2,validation\n0/1/Own/3,test\n")
    (tmp_path / "animals.tsv").write_text(ANIMALS)
    keys = {"splits": str(tmp_path / "splits.csv"), "classes_file": str(tmp_path / "animals.tsv")}
    keys |= {"events": "kind=word", "label": "word", "resample": 250.0, "tmax": 0.1} | more
    regroup = {f"data.regroup.{key}": value for key, value in keys.items()}
    return override(Config(), regroup | {"data.path": str(tree), "data.feed": "regroup", "data.level": 2}, "test")


def of_animals(folder) -> list[object]:
    """The options of `group` for the events of `regrouped`."""
    return ["--events", "kind=word", "--label", "word", "--classes-file", folder / "animals.tsv", "--resample", 250]


def test_the_regroup_feed_takes_the_same_events_as_group(tree, tmp_path, own_cache):
    """The rows of validation are those of `group`; an epoch of train has its 6 windows in 3 + 1 groups of 2."""
    config = regrouped(tree, tmp_path)
    found = open_training(config)
    options = of_animals(tmp_path)
    options += ["--splits", tmp_path / "splits.csv", "--tmax", 0.1, "--level", 2, "--no-shuffle"]
    assert main(["group", str(tree), str(tmp_path / "out"), *map(str, options)]) == 0
    for split, rows in (("validation", found.validation), ("test", open_split(tree, "test", config.data))):
        written = read_grouped(grouped_path(tmp_path / "out", 2, split))
        assert rows.classes == tuple(written["attributes"]["classes"]) == ("Animal", "fliers")
        np.testing.assert_array_equal(rows.labels, written["labels"])
        np.testing.assert_array_equal(rows.reader().read(np.arange(rows.rows)), written["data"])
        assert (rows.acquisition.sampling_rate, rows.window) == (250, (2, 25))
    plan = found.plan
    assert plan.rows.labels.tolist() == [0, 0, 0, 1] and plan.windows.recordings[0].samples == 2000
    at = [i for i, word in enumerate(WORDS) if word.lower() in ("dog", "cat", "bird")]
    assert plan.windows.start.tolist() == [int((1 + i / 2) * 250) for i in at]


def test_the_regroup_feed_takes_the_most_frequent_labels_of_train(tree, tmp_path):
    plan = open_training(regrouped(tree, tmp_path, classes_file=None, top=2)).plan
    assert plan.rows.classes == ("dog", "the") and plan.rows.labels.tolist() == [0, 0, 1, 1]


def test_what_the_regroup_feed_cannot_take_is_one_line(tree, tmp_path):
    for more, keys, fact in (
        ({"top": 2}, {}, "data.regroup.top"),
        ({"events": "word"}, {}, "data.regroup.events"),
        ({"classes_file": str(tmp_path / "none.tsv")}, {}, "none.tsv"),
        ({"resample": 333.333}, {}, "data.regroup.resample"),
        ({}, {"model.classes": ("Animal", "birds")}, "Animal, birds, as in model.classes"),
        ({}, {"data.feed": "stream"}, "data.feed=regroup"),
    ):
        with pytest.raises(UserError, match=re.escape(fact)):
            open_training(override(regrouped(tree, tmp_path, **more), keys, "test"))


def test_inspect_counts_the_same_events(tree, tmp_path, capsys):
    """10 words in each of 3 session runs; the last one begins at 5.5 s of 8 s."""
    path, report = tmp_path / "animals.tsv", tmp_path / "report.json"
    path.write_text(ANIMALS)
    words = ["--events", "kind=word", "--label", "word"]
    assert main(["inspect", str(tree), *words, "--classes-file", str(path), "--json", str(report)]) == 0
    (found,) = json.loads(report.read_text())["reports"]
    train = found["facts"]["splits"]["train"]
    assert found["facts"]["classes"] == ["Animal", "fliers"] and train["counts"] == [15, 3]
    assert (train["runs"], train["phonemes"], train["windows"]) == (3, 18, 18)
    assert any("12 events" in note and "the (12)" in note for note in found["notes"])
    line = fails(capsys, "inspect", tree, *words[:2], "--label", "wrd")
    assert "no column wrd" in line and "word?" in line


@pytest.mark.long
def test_training_and_scoring_on_own_events(tree, tmp_path, own_cache):
    """`evaluate` on recordings gives the scores that it gives on the files of `group`; the classes go with the run."""
    config, run = regrouped(tree, tmp_path), tmp_path / "run"
    keys = config.data.regroup.model_dump(exclude_defaults=True)
    words = [f"data.regroup.{key}={value}" for key, value in keys.items()]
    words += [key for key in TINY_MODEL if "ipa_width" not in key]
    words += ["train.batch_size=8", "train.epochs=null", "train.steps=2", "train.eval_every=2", "train.log_every=2"]
    assert train(tree, run, "--level", 2, "data.feed=regroup", *words) == 0
    options = of_animals(tmp_path)
    options += ["--splits", tmp_path / "splits.csv", "--tmax", 0.1, "--level", 2]
    assert main(["group", str(tree), str(tmp_path / "out"), *map(str, options)]) == 0
    direct = evaluate(run, tmp_path / "direct.json", "--split", "test")
    files = evaluate(run, tmp_path / "files.json", "--split", "test", "--data", tmp_path / "out")
    assert direct["confusion"] == files["confusion"] and direct["rows"] == 4
    assert RunFolder(run).read_config().model.classes == ("Animal", "fliers")
