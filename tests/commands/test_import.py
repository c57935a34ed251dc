"""`demega-jax import`: what a file holds comes out as it is, and what it lacks is named."""

import h5py
import numpy as np
import pytest
from command_line import fails
from helpers.data import grouped_path, read_grouped

import demega_jax
from demega_jax.cli import main

NAMES = ["cat", "dog", "it's"]
LABELS = np.arange(60) % 3
X = np.random.default_rng(1).standard_normal((60, 3, 8)).astype(np.float32)
RUN = np.arange(60) // 6
SPLITS = ("train", "validation", "test")


def write_npz(path):
    """An .npz file with names of classes, and the run of each window."""
    np.savez(path, x=X, labels=LABELS, classes=NAMES, run=RUN, sampling_rate=500.0, sensor_types="eeg")
    return path


def write_h5(path):
    """The same in HDF5, under other names, with the labels as text."""
    with h5py.File(path, "w") as file:
        file["trials"], file["run"] = X, RUN
        file["word"] = [NAMES[i] for i in LABELS]
        file.attrs.update(sampling_rate=500.0, sensor_types=np.bytes_("eeg"))
    return path


@pytest.mark.parametrize(
    "write, name, options", [(write_npz, "w.npz", []), (write_h5, "w.h5", ["--windows", "trials", "--labels", "word"])]
)
def test_a_file_becomes_splits_of_whole_groups(tmp_path, write, name, options, capsys):
    file, out = write(tmp_path / name), tmp_path / "data"
    assert main(["import", str(file), str(out), "--groups", "run", "--unit", "fT", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "48 rows of 3 x 8, 3 classes" in lines[0] and "500 Hz, 3 eeg, in fT" in lines[3]
    place = {row.tobytes(): number for number, row in enumerate(X)}
    found = {split: read_grouped(grouped_path(out, 1, split)) for split in SPLITS}
    rows = {split: [place[row.tobytes()] for row in each["data"]] for split, each in found.items()}
    assert sorted(sum(rows.values(), [])) == list(range(60))
    assert [len(set(RUN[rows[split]])) for split in SPLITS] == [8, 1, 1]
    for split, each in found.items():
        np.testing.assert_array_equal(each["labels"], LABELS[rows[split]])
        assert each["attributes"]["sensor_types"].tolist() == ["eeg"] * 3
        assert each["attributes"]["classes"].tolist() == NAMES and each["attributes"]["sampling_rate"] == 500


def test_means_of_windows(tmp_path):
    """5 rows of 4 windows of each class; `--seed` is of their order."""
    file, out = write_npz(tmp_path / "w.npz"), tmp_path / "data"
    assert main(["import", str(file), str(out), "--split", "train", "--group", "4", "--seed", "1"]) == 0
    found = read_grouped(grouped_path(out, 4))
    members = np.stack(found["group_indices"])
    assert sorted(members.ravel()) == list(range(60)) and found["labels"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    np.testing.assert_allclose(found["data"], X[members].mean(axis=1), atol=1e-6)
    assert found["attributes"]["shuffle_seed"] == 1


def test_what_is_missing_or_contradicts_is_one_line(tmp_path, capsys):
    npz, out = write_npz(tmp_path / "w.npz"), tmp_path / "data"
    (tmp_path / "w.mat").write_bytes(b"MATLAB")
    cases = [
        ((npz, out, "--labels", "lable"), "no array lable", "labels"),
        ((npz, out, "--split", "train", "--split-shares", "1,0,0"), "--split-shares"),
        ((npz, out, "--split", "train", "--groups", "run"), "--groups"),
        ((npz, out, "--split-shares", "0.8,0.2"), "--split-shares", "three shares"),
        ((npz, out, "--classes", "cat,dog"), f"{npz}, labels", "label 2 in row 2"),
        ((npz, out, "--rate", "-5"), "--rate", "-5"),
        ((npz, out, "--keep-units"), "--keep-units", ".fif"),
        ((npz, out, "--group", "4", "--level", "2"), "--group", "level=2"),
        ((npz, out, "--drop-remaining"), "--drop-remaining", "group"),
        ((tmp_path / "w.mat", out), "ending", ".npz, .h5, .hdf5, .fif"),
    ]
    for words, *facts in cases:
        line = fails(capsys, "import", *words)
        assert all(fact in line for fact in facts), line
    assert not list(out.rglob("*.h5"))


def test_epochs_of_mne_carry_their_sensors_in_units_that_train(tmp_path):
    """Values, names, types, positions and events are those of MNE; bad channels and the trigger are left out."""
    mne = pytest.importorskip("mne", reason="MNE-Python is not installed (extra mne)")
    info = mne.create_info(["M1", "G1", "bad", "E1", "STI"], 500.0, ["mag", "grad", "grad", "eeg", "stim"])
    for number, channel in enumerate(info["chs"]):
        channel["loc"][:3] = [0.01 * (number + 1), 0.02, 0.03]
    x = np.random.default_rng(2).standard_normal((60, 5, 11)) * [[1e-13], [1e-11], [1e-11], [1e-5], [1]]
    events = np.stack([np.arange(60) * 100, np.zeros(60, int), LABELS * 3 + 1], axis=1)
    epochs = mne.EpochsArray(x, info, events, -0.02, dict(zip(NAMES, (1, 4, 7), strict=True)), verbose="error")
    epochs.info["bads"] = ["bad"]
    epochs.save(tmp_path / "x-epo.fif", verbose="error", fmt="double")
    out = tmp_path / "data"
    assert main(["import", str(tmp_path / "x-epo.fif"), str(out), "--split", "train"]) == 0
    found = read_grouped(grouped_path(out))
    factors = np.array([1e15, 1e13, 1e6])[:, None]
    np.testing.assert_allclose(found["data"], x[:, [0, 1, 3]] * factors, rtol=1e-5)
    np.testing.assert_array_equal(found["labels"], LABELS)
    told = found["attributes"]
    assert told["classes"].tolist() == NAMES and (told["sampling_rate"], told["tmin"]) == (500, -0.02)
    assert told["units"].tolist() == ["fT", "fT/cm", "uV"] and told["sensor_types"].tolist() == ["mag", "grad", "eeg"]
    assert told["sensor_names"].tolist() == ["M1", "G1", "E1"]
    np.testing.assert_allclose(told["sensor_positions"][:, 0], [0.01, 0.02, 0.04], rtol=1e-6)
    (means,) = demega_jax.from_epochs(epochs, tmp_path / "means", split="train", group=5)
    averaged = read_grouped(means)
    members = np.stack(averaged["group_indices"])
    assert averaged["labels"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_allclose(averaged["data"], found["data"][members].mean(axis=1), rtol=1e-4, atol=1e-2)
