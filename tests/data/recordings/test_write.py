"""Session runs that are written from Python: what the readers of recordings find is what was given."""

import contextlib
import errno

import h5py
import numpy as np
import pytest
from helpers.errors import refused

import demega_jax
from demega_jax.data.recordings import write
from demega_jax.data.recordings.events import EventChoice, read_events
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.write import BLOCK
from demega_jax.errors import UserError

X = np.random.default_rng(0).standard_normal((2, BLOCK + 5)) * 1e-12
EVENTS = {"kind": ["word", "sound"], "word": ["it\u2019s", None], "onset": [0.25, np.float64(1.5)]}
NAME = {"task": "story", "subject": "07", "session": "2", "run": "03"}


def test_a_session_run_is_read_as_it_was_written(tmp_path):
    places = [[0, 0, 0.1], [0, 0.1, 0]]
    sensors = {"sensor_names": ["A", "B"], "sensor_types": ["mag", "grad"], "sensor_positions": places}
    path = demega_jax.write_recording(tmp_path, X, EVENTS, sampling_rate=250, **NAME, **sensors)
    assert path == tmp_path / "story/derivatives/serialised/sub-07_ses-2_task-story_run-03_meg.h5"
    (found,) = find_recordings(tmp_path, choice=EventChoice("kind", "word", "word"))
    assert str(found.name) == "07/2/story/03" and (found.sensors, found.samples, found.rate) == (*X.shape, 250.0)
    assert (found.acquisition.sensor_names, found.acquisition.sensor_types) == (("A", "B"), ("mag", "grad"))
    np.testing.assert_allclose(found.acquisition.sensor_positions, places, rtol=1e-6)
    np.testing.assert_array_equal(found.read(), X.astype(np.float32))  # with the checksum of each sensor
    events = found.read_events()
    assert events.symbol == ("it's",) and events.onset.tolist() == [0.25]
    assert found.events.read_text() == "kind\tword\tonset\nword\tit\u2019s\t0.25\nsound\tn/a\t1.5\n"


def test_samples_of_a_file_and_events_of_a_file(tmp_path):
    table = tmp_path / "events.tsv"
    table.write_text("kind\tsegment\ttimemeg\nphoneme\tah_B\t0.5\n")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = X
        path = demega_jax.write_recording(tmp_path / "tree", file["x"], table, sampling_rate=1000, task="own")
    (found,) = find_recordings(tmp_path / "tree")
    assert (str(found.name), found.meg) == ("0/1/own/1", path)
    np.testing.assert_array_equal(found.read(), X.astype(np.float32))
    assert read_events(found.events).symbol == ("ah",)


def test_what_cannot_be_a_session_run_is_refused_and_nothing_is_written(tmp_path):
    bad = X.copy()
    bad[1, -1] = np.nan
    for change, where, *facts in (
        ({"data": X[0]}, "data", "[32773]", "[sensors, samples]"),
        ({"data": bad}, "data", "sensor 1"),
        ({"task": "my_task"}, "task", "'my_task'"),
        ({"task": ".."}, "task", "'..'"),
        ({"events": {"kind": ["word"]}}, "events", "kind of 1 value", "timemeg"),
        ({"events": {"kind": ["a", "b"], "onset": [1.0]}}, "events", "onset of 1 value"),
        ({"events": {"kind": ["a\tb"], "onset": [1.0]}}, "events", "tabs"),
        ({"events": tmp_path / "none.tsv"}, tmp_path / "none.tsv", "No such file"),
        ({"sampling_rate": 0}, "write_recording", "sampling_rate"),
        ({"sensor_types": ["mag"]}, "write_recording", "sensor_types", "2 sensors"),
    ):
        with refused(*facts, where=where):
            given = {"data": X, "events": EVENTS, "sampling_rate": 250} | NAME | change
            demega_jax.write_recording(tmp_path / "tree", **given)
    assert not list(tmp_path.rglob("*.*"))
    demega_jax.write_recording(tmp_path / "tree", X, EVENTS, sampling_rate=250, **NAME)
    with refused("file exists"):
        demega_jax.write_recording(tmp_path / "tree", X, EVENTS, sampling_rate=250, **NAME)


@pytest.mark.parametrize("nothing", [None, float("nan"), np.float32("nan")])
def test_what_is_no_label_is_written_as_none(tmp_path, nothing):
    """As pandas has it where there is no value; the text nan stays a label."""
    events = {"word": [nothing, "nan"], "onset": [0.5, 1.0]}
    path = demega_jax.write_recording(tmp_path, X, events, sampling_rate=250, task="own")
    (found,) = find_recordings(tmp_path)
    assert found.meg == path and found.events.read_text() == "word\tonset\nn/a\t0.5\nnan\t1.0\n"


def test_samples_that_do_not_get_their_name_leave_no_events(tmp_path, monkeypatch):
    """The disk is full when HDF5 closes the file, after the events were written."""
    real = write.atomic_h5

    @contextlib.contextmanager
    def full(path):
        with real(path) as opened:
            yield opened
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write, "atomic_h5", full)
    with pytest.raises((OSError, UserError)):
        demega_jax.write_recording(tmp_path, X, EVENTS, sampling_rate=250, **NAME)
    assert not list(tmp_path.rglob("*.*"))
    monkeypatch.setattr(write, "atomic_h5", real)
    demega_jax.write_recording(tmp_path, X, EVENTS, sampling_rate=250, **NAME)
