"""Grouped files say of which events they are, and from when on: recordings are read so, and other windows refused."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from helpers import TINY_MODEL
from helpers.data import ShardSettings, grouped_path, open_shards, read_grouped, write_shards
from helpers.errors import refused
from helpers.recordings import group, write_words
from helpers.training import experiment_of

from demega_jax.config import Config, DataConfig, RegroupConfig, WindowsConfig
from demega_jax.config.load import override, parse_overrides
from demega_jax.data.acquisition import Acquisition, check_same_acquisition, merged
from demega_jax.data.open import open_input, open_levels, open_split
from demega_jax.data.trained import trained_together

CLASSES, SHAPE = ("dog", "the"), (2, 50)


@pytest.fixture
def words(tmp_path, own_cache):
    """The recordings of words at 1000 Hz, and groups of 2 windows at 250 Hz, from 0.1 s before each word on."""
    tree = write_words(tmp_path / "tree")
    splits = tmp_path / "splits.csv"
    splits.write_text("run,split\n0/1/Own/1,train\n0/1/Own/2,validation\n0/1/Own/3,test\n")
    options = ["--events", "kind=word", "--label", "word", "--top", 2, "--resample", 250, "--tmin", -0.1, "--tmax", 0.1]
    assert group(tree, tmp_path / "out", "--level", 2, "--splits", splits, "--no-shuffle", *options) == 0
    return tree, tmp_path / "out"


STATED = {"sampling_rate": 250.0, "tmin": -0.1, "event_rows": "kind=word", "event_label": "word"}


def trained(words, **windows) -> DataConfig:
    """The data of a training run on the grouped files. windows: other values of `data.windows`."""
    splits = RegroupConfig(splits=str(words[0].parent / "splits.csv"))
    return DataConfig(level=2, regroup=splits, windows=WindowsConfig(**STATED | windows))


def test_training_takes_from_its_files_of_which_events_they_are(words):
    keys = parse_overrides([key for key in TINY_MODEL if "ipa" not in key] + ["train.batch_size=4", "train.epochs=1"])
    config = override(Config(), keys, "test")
    assert experiment_of(config, open_levels(words[1], 2, "train")).config.data.windows == WindowsConfig(**STATED)


def test_a_run_reads_recordings_as_its_grouped_files_were_made(words):
    tree, out = words
    data = trained(words)
    written = read_grouped(grouped_path(out, 2, "test"))
    told = written["attributes"]
    assert told["event_rows"].tolist() == ["kind=word"] and told["event_label"].tolist() == ["word"]
    assert told["tmin"] == -0.1 and "event_classes" not in told
    for found in (
        open_split(tree, "test", data, classes=CLASSES, expect_shape=SHAPE),
        open_input(out, "test", data, classes=CLASSES, expect_shape=SHAPE),
    ):
        np.testing.assert_array_equal(found.labels, written["labels"])
        np.testing.assert_array_equal(found.reader().read(np.arange(found.rows)), written["data"])


@pytest.mark.parametrize(
    ("other", "facts"),
    [
        ({"event_rows": "kind=phoneme"}, ("kind=word", "kind=phoneme", "column word")),
        ({"event_label": "segment"}, ("column word", "column segment")),
        ({"event_classes": "0badcafe"}, ("the table 0badcafe",)),
        ({"tmin": 0.0}, ("begin at -0.1 s", "0 s after the event")),
    ],
)
def test_windows_of_other_events_or_begin_are_refused_by_name(words, other, facts):
    _, out = words
    data = DataConfig(level=2, windows=WindowsConfig(**{"event_rows": "kind=word", "event_label": "word"} | other))
    path = grouped_path(out, 2, "test")
    with refused(*facts, "the data of the training run", where=path):
        open_split(out, "test", data, classes=CLASSES)
    with refused(*facts, where=path):
        open_input(path, "test", data, classes=CLASSES, expect_shape=SHAPE)
    with refused(*facts[:1], "as in one", where="other"):
        trained_together([("one", data), ("other", trained(words))])


def test_events_that_the_configuration_states_are_compared(words):
    data = trained(words)
    regroup = data.regroup.model_copy(update={"events": "all", "label": "word"})
    with refused("events all", "kind=word", where=words[0]):
        open_split(words[0], "test", data.model_copy(update={"regroup": regroup}), classes=CLASSES, expect_shape=SHAPE)


def test_classes_of_a_table_have_no_recordings(words):
    """A run holds the fingerprint of the table alone."""
    with refused("those of a table (0badcafe)", "group RECORDINGS", where=words[0]):
        open_split(words[0], "test", trained(words, event_classes="0badcafe"), classes=CLASSES, expect_shape=SHAPE)


def test_shards_keep_what_grouped_files_say(words, tmp_path):
    manifest = write_shards(words[1], tmp_path / "shards", levels=[2], settings=ShardSettings())[0]
    assert json.loads(manifest.read_text())["version"] == 3
    found = open_shards(manifest.parent, "test").acquisition
    assert (found.event_rows, found.event_label, found.tmin) == ("kind=word", "word", -0.1)


def test_what_a_configuration_says_otherwise_is_refused():
    stated = {"tmin": -0.1, "sensor_names": ("a",)}
    assert WindowsConfig(event_rows="all").for_data(stated) == WindowsConfig(event_rows="all", tmin=-0.1)
    with refused("says 0.0", "-0.1", where="data.windows.tmin"):
        WindowsConfig(tmin=0.0).for_data(stated)


def test_runs_are_compared_each_with_each_and_know_together_what_one_does():
    """A run of older files knows nothing of its windows; what the others know holds for it, too, in any order."""
    unknown, here, there = DataConfig(), DataConfig(windows=WindowsConfig(tmin=0.0)), trained_from(-0.1)
    runs = [("old", unknown), ("here", here), ("there", there)]
    for order in itertools.permutations(runs):
        with refused("windows that begin at", "s after the event"):
            trained_together(order)
    for order in ([runs[0], runs[2]], [runs[2], runs[0]]):
        assert trained_together(order) == there.windows


def trained_from(tmin: float) -> DataConfig:
    return DataConfig(windows=WindowsConfig(tmin=tmin, event_rows="kind=word", event_label="word"))


def test_files_together_say_what_any_of_them_says():
    words = Acquisition(event_rows="kind=word", event_label="word", tmin=-0.1)
    rate = Acquisition(sampling_rate=250.0, event_classes="0badcafe")
    for order in ([Acquisition(), words, rate], [rate, words, Acquisition()]):
        assert merged(order) == dataclasses.replace(words, sampling_rate=250.0)


def test_a_table_of_classes_is_not_taken_for_unknown():
    """The events of a run without a table are not those of files with one."""
    windows = trained_from(-0.1).windows
    stated = {"event_rows": "kind=word", "event_label": "word", "tmin": -0.1}
    assert windows.for_data(stated) == windows
    with refused("says None", "0badcafe", where="data.windows.event_classes"):
        windows.for_data(stated | {"event_classes": "0badcafe"})
    assert WindowsConfig().for_data(stated | {"event_classes": "0badcafe"}).event_classes == "0badcafe"
    windows.for_data(stated | {"tmin": float(np.float32(-0.1))})  # a number that was kept in single precision
    with refused("says -0.1", "-0.2", where="data.windows.tmin"):
        windows.for_data(stated | {"tmin": -0.2})


def test_a_begin_in_single_precision_is_the_same():
    kept = Acquisition(tmin=float(np.float32(-0.2)), sampling_rate=float(np.float32(600.615)))
    check_same_acquisition("one", kept, Acquisition(tmin=-0.2, sampling_rate=600.615), "other")
    with refused("windows that begin at -0.2 s"):
        check_same_acquisition("one", kept, Acquisition(tmin=-0.199), "other")
