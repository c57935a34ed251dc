"""Windows of the user as grouped files: what is in them by h5py alone, and what is refused."""

import re

import h5py
import numpy as np
import pytest
from helpers.data import grouped_path, open_grouped, read_grouped
from helpers.data import write_grouped as write_by_hand

import demega_jax
from demega_jax.config import AugmentConfig, Config, DataConfig
from demega_jax.config.load import override
from demega_jax.data.open import open_split, open_training
from demega_jax.data.shares import split_rows
from demega_jax.errors import UserError

CLASSES = ["yes", "no", "it's"]


def windows(rows: int = 90, sensors: int = 5, time_points: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Windows of ordinary size, and labels of three classes."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((rows, sensors, time_points)).astype(np.float32), np.arange(rows) % 3


def write(folder, x=None, labels=None, **options):
    """Write windows as train, unless the options say something else."""
    usual_x, usual_labels = windows()
    options = {"classes": CLASSES, "split": "train"} | options
    x = usual_x if x is None else x
    return demega_jax.write_grouped(folder, x, usual_labels if labels is None else labels, **options)


def test_rows_labels_and_attributes_are_as_given(tmp_path):
    x, labels = windows()
    positions = np.arange(15.0).reshape(5, 3) / 100
    (path,) = write(
        tmp_path,
        level=4,
        sampling_rate=500,
        tmin=-0.1,
        units="fT",
        sensor_types=["mag"] * 3 + ["grad"] * 2,
        sensor_names=list("abcde"),
        sensor_positions=positions,
    )
    found = read_grouped(path)
    np.testing.assert_array_equal(found["data"], x)
    np.testing.assert_array_equal(found["labels"], labels)
    np.testing.assert_array_equal(np.stack(found["group_indices"]), np.arange(360).reshape(90, 4))
    told = found["attributes"]
    assert (told["sampling_rate"], told["tmin"], told["grouped_samples"]) == (500, -0.1, 4)
    assert told["classes"].tolist() == CLASSES and told["units"].tolist() == ["fT"] * 5
    np.testing.assert_allclose(told["sensor_positions"], positions, rtol=1e-6)
    split = open_grouped(path)
    assert split.acquisition.magnetometers == (0, 1, 2) and split.checks is not None
    np.testing.assert_array_equal(split.reader().read(np.arange(90)), x)


def blocks(x: np.ndarray):
    """The windows in uneven blocks of float64, and one window alone."""
    yield x[:33].astype(np.float64)
    yield x[33]
    yield x[34:]


def test_blocks_datasets_and_arrays_give_the_same_files(tmp_path):
    x, labels = windows()
    names = np.array(["train", "test", "validation", "train"], object)[np.arange(90) % 4]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = x
        sources = {"array": x, "blocks": blocks(x), "dataset": file["x"]}
        for name, source in sources.items():
            paths = write(tmp_path / name, source, [CLASSES[i] for i in labels], split=names)
            assert [path.name.partition("_")[0] for path in paths] == ["train", "validation", "test"]
            for path, split in zip(paths, ("train", "validation", "test"), strict=True):
                found = read_grouped(path)
                np.testing.assert_array_equal(found["data"], x[names == split])
                np.testing.assert_array_equal(found["labels"], labels[names == split])


def test_whole_numbers_without_classes_are_names_and_a_second_split_keeps_them(tmp_path):
    x, labels = windows()
    write(tmp_path, labels=labels * 5 + 3, classes=None)
    (path,) = write(tmp_path, x[:2], [13, 8], classes=None, split="test")
    split = open_grouped(path)
    assert split.classes == ("3", "8", "13") and split.labels.tolist() == [2, 1]


def test_shares_are_those_of_every_class_and_of_whole_groups(tmp_path):
    labels = np.repeat([0, 1, 2, 3], [100, 50, 10, 1])
    found = split_rows(labels, {"train": 0.8, "validation": 0.1, "test": 0.1}, seed=1)
    counts = {
        name: np.bincount(labels[found == name], minlength=4).tolist() for name in ("train", "validation", "test")
    }
    assert counts == {"train": [80, 40, 8, 1], "validation": [10, 5, 1, 0], "test": [10, 5, 1, 0]}
    assert not np.array_equal(found, split_rows(labels, {"train": 0.8, "validation": 0.1, "test": 0.1}, seed=2))

    x, labels = windows()
    run = np.arange(90) // 10  # nine runs of ten rows
    marked = np.broadcast_to(run[:, None, None] + 1.0, x.shape)
    write(tmp_path, marked, labels, split=None, shares=(0.6, 0.2, 0.2), groups=run)
    runs = [
        set(read_grouped(grouped_path(tmp_path, 1, name))["data"][:, 0, 0]) for name in ("train", "validation", "test")
    ]
    assert set.union(*runs) == set(range(1, 10)) and sum(map(len, runs)) == 9
    assert [len(each) for each in runs] == [5, 2, 2]


X, Y = windows()
BAD = X.copy()
BAD[70, 2, 6] = np.nan
REFUSED = {
    "lengths": (dict(x=X[:40]), "40 windows and 90 labels"),
    "blocks too short": (dict(x=[X[:40], X[:40]]), "80 windows and 90 labels"),
    "blocks too long": (dict(x=[X, X[:1]]), "more than 90 windows"),
    "rank": (dict(x=X[0]), r"shape \[5, 7\]"),
    "blocks of another shape": (dict(x=[X[:40], X[40:, :4]]), r"shape \[50, 4, 7\] from row 40 on.*5 x 7"),
    "NaN": (dict(x=BAD), "nan in row 70, sensor 2, time point 6"),
    "too large": (dict(x=X.astype(np.float64) * 1e60), "inf in row 0"),
    "text": (dict(x=X.astype(str)), "values of type <U"),
    "complex": (dict(x=X * 1j), "complex64"),
    "a number": (dict(x=3.0), "a float"),
    "nothing": (dict(x=[]), "no window"),
    "label outside": (dict(labels=Y + 1), "label 3 in row 2.*0 to 2"),
    "unknown name": (dict(labels=["yes"] * 89 + ["maybe"]), "'maybe' in row 89.*yes, no, it's"),
    "labels of numbers": (dict(labels=Y * 0.5), "type float64"),
    "one class": (dict(labels=["yes"] * 90, classes=None), r"one class only \(yes\)"),
    "one class in train": (dict(labels=Y * 0), r"train has one class only \(yes\)"),
    "classes twice": (dict(classes=["a", "b", "a"]), "different names"),
    "no split": (dict(split=None), "neither split nor shares"),
    "two ways": (dict(shares=(0.8, 0.1, 0.1)), "both given"),
    "unknown split": (dict(split="trian"), "'trian'.*mean train"),
    "splits of another length": (dict(split=["train"] * 3), r"shape \[3\] for 90 labels"),
    "two shares": (dict(split=None, shares=(0.8, 0.2)), "three shares"),
    "groups alone": (dict(groups=Y), "given without shares"),
    "groups too few": (dict(split=None, shares=(0.8, 0.1, 0.1), groups=Y % 2), "2 groups for 3 splits"),
    "rate": (dict(sampling_rate=0), "sampling_rate=0"),
    "names": (dict(sensor_names=["a", "b"]), "sensor_names of 2 texts.*5 sensors"),
    "names twice": (dict(sensor_names=list("abcda")), "repeat a name"),
    "positions": (dict(sensor_positions=np.zeros((5, 2))), r"shape \[5, 2\]"),
    "level": (dict(level=0), "level: 0"),
}


@pytest.mark.parametrize("options, said", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        write(tmp_path / "data", **options)
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


DIFFERENT = {
    "shape": (dict(x=X[:, :4]), "4 sensors x 7 time points.*5 x 7"),
    "classes": (dict(classes=["yes", "so", "it's"]), "class 1 is 'so'.*'no'"),
    "fewer classes": (dict(classes=["yes", "no", "it's", "so"]), "4 classes.*3, as in"),
    "rate": (dict(sampling_rate=250.0), "250 Hz.*500 Hz"),
    "sensors": (dict(sensor_names=list("abdce")), "sensor_names 'd' at sensor 2.*'c'"),
    "units": (dict(units="T"), "units 'T' at sensor 0.*'fT'"),
    "events": (dict(event_rows="kind=word"), "windows of the events kind=word.*kind=phoneme, with labels"),
    "labels": (dict(event_rows="kind=phoneme", event_label="word"), "column word.*column segment"),
}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with a train split."""
    folder = tmp_path_factory.mktemp("there")
    events = {"event_rows": "kind=phoneme", "event_label": "segment"}
    write(folder, sampling_rate=500.0, sensor_names=list("abcde"), units="fT", **events)
    return folder


@pytest.mark.parametrize("options, said", DIFFERENT.values(), ids=DIFFERENT)
def test_splits_of_a_folder_must_agree(there, options, said):
    with pytest.raises(UserError, match=said) as error:
        write(there, **{"split": "test"} | options)
    assert str(grouped_path(there)) in str(error.value)


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("sampling_rate", -5.0, "sampling_rate=-5"),
        ("sensor_types", ["mag"] * 3, "sensor_types of 3 texts.*5 sensors"),
        ("sensor_positions", np.full((5, 3), np.nan), "not finite"),
        ("event_rows", 3, "event_rows with 1 values of type int64.*one text"),
        ("event_label", ["word", "segment"], "event_label with 2 values.*one text"),
    ],
)
def test_attributes_of_other_writers_are_checked(tmp_path, name, value, said):
    path = write_by_hand(tmp_path / "train_grouped.h5", X, Y, attributes={"classes": CLASSES, name: value})
    with pytest.raises(UserError, match=said) as error:
        open_grouped(path)
    assert str(path) in str(error.value)


def test_a_type_of_all_sensors_is_written_once(tmp_path):
    path = write_by_hand(tmp_path / "train_grouped.h5", X, Y, attributes={"classes": CLASSES, "sensor_types": "eeg"})
    assert open_grouped(path).acquisition.sensor_types == ("eeg",) * 5


def test_a_file_is_never_replaced(there):
    with pytest.raises(UserError, match=re.escape(f"{grouped_path(there)}: the file exists")):
        write(there, sampling_rate=500.0)


def test_windows_in_tesla_are_named(tmp_path, warnings):
    write(tmp_path, X * 1e-13)
    assert len(warnings) == 1 and "tesla" in warnings[0]


def test_training_and_scoring_compare_the_sampling_rates(there, tmp_path, warnings):
    """Training refuses splits that differ, which no writer of ours makes; scoring warns of other windows."""
    trained = DataConfig(augment=AugmentConfig(sample_rate=250.0))
    assert open_split(there, "train", trained).acquisition.sampling_rate == 500
    assert len(warnings) == 1 and "500 Hz" in warnings[0] and "250 Hz" in warnings[0]
    write(tmp_path, sampling_rate=500.0)
    write(tmp_path / "other", split="validation", sampling_rate=250.0)
    grouped_path(tmp_path / "other", 1, "validation").rename(grouped_path(tmp_path, 1, "validation"))
    config = override(Config(), {"data.path": str(tmp_path)}, "test")
    with pytest.raises(UserError, match="250 Hz.*500 Hz"):
        open_training(config)


def average(folder, x=X, labels=Y, **options):
    """The datasets of the splits that `write_grouped` writes of means of windows, by their names."""
    paths = write(folder, x, labels, **{"group": 4} | options)
    return {path.name.partition("_")[0]: read_grouped(path) for path in paths}


NAMES = np.array(["train", "test", "train"], object)[np.arange(90) // 4 % 3]  # four rows in turn


@pytest.mark.parametrize("drop", [False, True])
def test_windows_of_a_class_are_averaged_once_each(tmp_path, drop):
    """30 rows of test and 60 of train, in blocks: every row is the mean of K windows of its class and split."""
    sources = {"array": X, "blocks": blocks(X)}
    array, found = (average(tmp_path / name, x, split=NAMES, drop_remaining=drop) for name, x in sources.items())
    for split, file in found.items():
        x, y = X[NAMES == split], Y[NAMES == split]
        members, sizes = np.concatenate(file["group_indices"]), [len(each) for each in file["group_indices"]]
        assert len(set(members)) == len(members)
        counts = np.bincount(y)
        whole, rest = counts // 4, counts % 4
        expected = [[4] * n + ([r] if r and not drop else []) for n, r in zip(whole, rest, strict=True)]
        assert sizes == sum(expected, [])
        for row, label, each in zip(file["data"], file["labels"], file["group_indices"], strict=True):
            assert set(y[each]) == {label}
            np.testing.assert_allclose(row, x[each].astype(np.float64).mean(axis=0), atol=1e-6)
        np.testing.assert_array_equal(file["data"], array[split]["data"])
        assert file["attributes"]["grouped_samples"] == 4 and bool(file["attributes"]["shuffle"]) == (split == "train")
    one = np.flatnonzero(Y[NAMES == "test"] == 0)
    assert found["test"]["group_indices"][0].tolist() == one[:4].tolist()  # in the order of the rows


def test_train_is_shuffled_by_the_seed_as_group_does(tmp_path):
    """The order is that which numpy draws for (seed, K), class by class; another seed draws another."""
    order = np.random.Generator(np.random.Philox(key=[5, 4])).permutation(90)
    expected = [order[Y[order] == label] for label in range(3)]
    one, other = (average(tmp_path / str(seed), seed=seed)["train"] for seed in (5, 6))
    np.testing.assert_array_equal(np.concatenate(one["group_indices"]), np.concatenate(expected))
    assert one["attributes"]["shuffle_seed"] == 5 and not np.array_equal(one["data"], other["data"])
    assert open_grouped(grouped_path(tmp_path / "5", 4)).class_counts().tolist() == [8, 8, 8]


def test_a_class_with_few_windows_is_named_or_refused(tmp_path, warnings):
    """3 windows of the last class are one smaller group, or none; a split without any group is refused."""
    labels = np.repeat([0, 1, 2], [60, 27, 3])
    assert np.bincount(average(tmp_path / "kept", labels=labels)["train"]["labels"]).tolist() == [15, 7, 1]
    dropped = average(tmp_path / "dropped", labels=labels, drop_remaining=True)["train"]
    assert np.bincount(dropped["labels"]).tolist() == [15, 6]
    assert sum("1 of 3 classes have fewer than 4 windows (it's)" in line for line in warnings) == 2
    for options, said in (
        ({"group": 100, "drop_remaining": True}, "no group of 100 windows in train"),
        ({"labels": np.repeat([0, 1], [87, 3]), "drop_remaining": True}, "train has one class only"),
        ({"group": 0}, "group: 0"),
        ({"level": 2}, "means of means"),
        ({"group": None, "drop_remaining": True}, "without group"),
        ({"seed": -1}, "seed: -1"),
    ):
        with pytest.raises(UserError, match=said):
            average(tmp_path / "refused", **options)
    assert not list((tmp_path / "refused").rglob("*.h5"))
