"""BIDS trees that MNE-BIDS writes, as recording trees: samples, events and sensors, and what is refused."""

import datetime
import sys

import h5py
import numpy as np
import pytest
from helpers.data import grouped_path, read_grouped
from helpers.errors import assert_warned, fails_with, refused
from helpers.recordings import group
from helpers.runs import run_command

import demega_jax
from demega_jax.data.recordings.runs import find_recordings

RATE, SAMPLES, FIRST = 200.0, 2400, 300
ONSETS = np.arange(200, 2200, 200)  # samples after the first of the recording
NAMES = {"left": 1, "right": 2}
SENSORS = ["G1", "M1", "G2"]


@pytest.fixture
def bids(tmp_path):
    """(root, raw): a BIDS tree of three runs of one subject; samples are numbered from FIRST on, as after a late start.

    A gradiometer is bad in run 02. Each event is a step in the magnetometer, of 1 pT for `left` and 2 pT for `right`.
    """
    mne = pytest.importorskip("mne", reason="MNE-Python is not installed (extra bids)")
    mne_bids = pytest.importorskip("mne_bids", reason="MNE-BIDS is not installed (extra bids)")
    root, made = tmp_path / "bids", {}
    for run in ("01", "02", "03"):
        info = mne.create_info([*SENSORS, "E1", "STI"], RATE, ["grad", "mag", "grad", "eeg", "stim"])
        info["line_freq"] = 50
        for number, channel in enumerate(info["chs"]):
            channel["loc"][:3] = [0.01 * (number + 1), 0.02, 0.03]
        x = np.random.default_rng(int(run)).standard_normal((5, SAMPLES)) * [[1e-11], [0], [1e-11], [1e-5], [0]]
        codes = np.arange(len(ONSETS)) % 2 + 1
        for onset, code in zip(ONSETS, codes, strict=True):
            x[1, onset : onset + 20] = code * 1e-12
        raw = mne.io.RawArray(x, info, first_samp=FIRST, verbose="error")
        raw.set_meas_date(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        raw.info["bads"] = ["G2"] if run == "02" else []
        events = np.stack([ONSETS + FIRST, np.zeros_like(codes), codes], axis=1)
        path = mne_bids.BIDSPath(subject="01", task="press", run=run, datatype="meg", root=root)
        mne_bids.write_raw_bids(
            raw, path, events=events, event_id=NAMES, format="FIF", allow_preload=True, verbose="error"
        )
        made[run] = x
    return root, made


def test_samples_events_and_sensors_are_those_of_bids(bids, tmp_path, capsys):
    root, made = bids
    assert run_command("import-bids", root, tmp_path / "tree") == 0
    said = capsys.readouterr()
    assert "3 session runs" in said.out and "0.20 minutes, 200 Hz" in said.out
    assert_warned(said.err.splitlines(), "1 sensor is marked as bad", "3 session runs", "G2 (1)")
    found = find_recordings(tmp_path / "tree")
    assert [str(each.name) for each in found] == ["01/1/press/01", "01/1/press/02", "01/1/press/03"]
    for recording, x in zip(found, made.values(), strict=True):
        np.testing.assert_allclose(recording.read(), x[:3], rtol=1e-6, atol=1e-17)  # the file has single precision
        assert (recording.rate, recording.acquisition.sensor_types) == (RATE, ("grad", "mag", "grad"))
        assert recording.acquisition.sensor_names == tuple(SENSORS) and recording.checks is not None
        found_at = np.array(recording.acquisition.sensor_positions)
        np.testing.assert_allclose(found_at[:, 0], [0.01, 0.02, 0.03], rtol=1e-6)
        lines = recording.events.read_text(encoding="utf-8-sig").splitlines()
        head = lines[0].split("\t")
        at = [float(line.split("\t")[head.index("onset")]) for line in lines[1:]]
        np.testing.assert_allclose(at, ONSETS / RATE, atol=1e-9)  # from the first sample on, whatever its number


def test_group_makes_windows_of_the_trial_types(bids, tmp_path, capsys):
    """A window begins at its event: its first 20 samples of the magnetometer are the step, the next ones are not."""
    root, _ = bids
    demega_jax.from_bids(root, tmp_path / "tree")
    (tmp_path / "splits.tsv").write_text(
        "file\tsplit\nsub-01_task-press_run-01_meg.fif\ttrain\n01/1/press/02\tvalidation\n1:press:03\ttest\n"
    )
    options = ["--events", "all", "--label", "trial_type", "--level", 1, "--tmax", 0.2, "--no-shuffle"]
    assert group(tmp_path / "tree", tmp_path / "out", *options, "--splits", tmp_path / "splits.tsv") == 0
    found = read_grouped(grouped_path(tmp_path / "out"))
    assert found["attributes"]["classes"].tolist() == ["left", "right"]
    assert found["labels"].tolist() == [0] * 5 + [1] * 5 and found["data"].shape == (10, 3, 40)
    step = found["data"][:, 1]
    np.testing.assert_allclose(np.diff(step[:, :20], axis=1), 0, atol=1e-5)
    rise = step[:, 0] - step[:, 20]
    np.testing.assert_allclose(rise, rise[0] * np.repeat([1, 2], 5), rtol=1e-5)


def test_what_bids_lacks_is_one_line(bids, tmp_path, capsys):
    root, _ = bids
    out = tmp_path / "tree"
    fails_with(capsys, ["import-bids", root, out, "--subject", "1"], "--subject", "no subject 1", "01")
    fails_with(capsys, ["import-bids", root, out, "--task", "pres"], "--task", "did you mean press?")
    fails_with(capsys, ["import-bids", tmp_path / "none", out], "none")
    (tmp_path / "empty").mkdir()
    fails_with(capsys, ["import-bids", tmp_path / "empty", out], "no recording of MEG", "dataset_description.json")
    assert not out.exists()
    for path in root.rglob("*run-03_events.tsv"):
        path.unlink()
    assert run_command("import-bids", root, out) == 0
    said = capsys.readouterr()
    assert_warned(
        said.err.splitlines(), "1 recording is left out", "a table of events", "sub-01_task-press_run-03_meg.fif"
    )
    assert sorted(path.name[-13:] for path in out.rglob("*.h5")) == ["run-01_meg.h5", "run-02_meg.h5"]
    fails_with(capsys, ["import-bids", root, out], "sub-01_ses-1_task-press_run-01_meg.h5", "the file exists")
    (recording,) = root.rglob("*run-02_meg.fif")
    recording.write_bytes(b"no recording")
    line = fails_with(capsys, ["import-bids", root, tmp_path / "other"], recording, "cannot read it")
    assert "\n" not in line
    assert len(list((tmp_path / "other").rglob("*.h5"))) == 1  # run 01 is whole
    with h5py.File(next((tmp_path / "other").rglob("*.h5"))) as file:
        assert file["data"].shape == (3, SAMPLES)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mne", None)
    monkeypatch.setitem(sys.modules, "mne_bids", None)
    with refused("mne is not installed", ".[bids]"):
        demega_jax.from_bids(tmp_path, tmp_path / "tree")
