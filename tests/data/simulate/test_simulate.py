"""Simulated grouped files, against the model's own definition, scipy's Gaussian and scikit-learn's scores."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.errors import assert_facts, refused, the_warning
from helpers.runs import run_with_full_disk
from scipy.stats import multivariate_normal
from sklearn.metrics import f1_score

from demega_jax.data.simulate.generative import (
    MEDIAN_DISTANCE,
    MatchedFilter,
    autocovariance,
    between,
    generative_model,
    lead_field,
    pair_distances,
)
from demega_jax.data.simulate.grouped import draw_blocks, simulate_grouped, split_labels
from demega_jax.metrics import macro_f1
from demega_jax.names import SPLITS
from demega_jax.phonemes import PHONEMES, class_frequencies, feature_table

SHAPE = {"sensors": 5, "time_points": 6}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[int, str], Path]:
    """Two levels of 320 train groups of 5 sensors and 6 time points."""
    out = tmp_path_factory.mktemp("simulated")
    paths = simulate_grouped(out, levels=[5, 100], groups=320, seed=3, **SHAPE)
    return dict(zip([(level, split) for level in (5, 100) for split in SPLITS], paths, strict=True))


def whitened(model):
    return between(np.linalg.inv(model.spatial), model.templates, np.linalg.inv(model.temporal))


def test_noise_has_the_kronecker_covariance_and_its_mean_is_the_mixed_template():
    model = generative_model(("aa", "b"), sensors=3, time_points=4, seed=0)
    rows, level = 40_000, 5
    x, sessions = model.draw(np.ones(rows, int), level, np.random.default_rng(1))
    gain, offset = sessions @ model.session_gain / level, sessions @ model.session_offset / level
    deviation = np.sqrt(sessions @ model.session_gain**2) / level
    mean = gain[:, None, None] * model.templates[1] + offset[:, :, None]
    noise = ((x - mean) / deviation[:, None, None]).reshape(rows, -1)
    expected = np.kron(model.spatial @ model.spatial.T, model.temporal @ model.temporal.T)
    # A mean of `rows` unit normals has standard error 0.005, a covariance at most sqrt(2) of that: 5 of them.
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=5 / np.sqrt(rows))
    np.testing.assert_allclose(noise.T @ noise / rows, expected, atol=5 * np.sqrt(2 / rows))


def test_noise_of_a_sensor_has_variance_one_and_falls_with_frequency():
    model = generative_model(**SHAPE, seed=0)
    np.testing.assert_allclose(np.diag(model.spatial @ model.spatial.T), 1)
    lags = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    np.testing.assert_allclose(model.temporal @ model.temporal.T, autocovariance(6)[lags], atol=1e-12)
    frequency = np.arange(1, 126, 0.25)  # the spectrum by its definition, summed as cosines
    by_hand = np.array([(np.cos(2 * np.pi * frequency * lag / 250) / frequency).mean() for lag in range(6)])
    flat = np.arange(0, 1, 0.25)
    by_hand += np.array([np.cos(2 * np.pi * flat * lag / 250).sum() for lag in range(6)]) / len(frequency)
    np.testing.assert_allclose(autocovariance(6), by_hand / by_hand[0], atol=0.02)


def test_noise_falls_with_the_root_of_the_level():
    model = generative_model(**SHAPE, seed=0)
    labels = np.zeros(4000, int)
    spread = {}
    for level in (1, 100):
        x, sessions = model.draw(labels, level, np.random.default_rng(level))
        gain, offset, _ = model.mix(sessions)
        spread[level] = (x - gain[:, None, None] * model.templates[0] - offset[:, :, None]).std()
    assert spread[1] == pytest.approx(1, abs=0.02)
    assert spread[100] == pytest.approx(spread[1] / 10, rel=0.02)


def test_sessions_differ_in_gain_and_offset():
    model = generative_model(**SHAPE, seed=0)
    one_session = np.eye(len(model.session_share), dtype=int) * 4
    gain, offset, deviation = model.mix(one_session)
    np.testing.assert_allclose(gain, model.session_gain)
    np.testing.assert_allclose(offset, model.session_offset)
    np.testing.assert_allclose(deviation, model.session_gain / 2)
    assert model.session_share @ model.session_gain**2 == pytest.approx(1)
    assert np.ptp(gain) > 0.1 and np.ptp(offset, axis=0).min() > 0.1


@pytest.mark.parametrize("sensors, time_points", [(5, 6), (12, 25), (31, 40)])
def test_phonemes_that_share_features_have_closer_templates(sensors, time_points):
    model = generative_model(sensors=sensors, time_points=time_points, seed=2)
    distance = pair_distances(whitened(model))
    table = feature_table()
    different = np.array([np.abs(table[i] - table[j]).sum() for i, j in zip(*np.triu_indices(39, 1), strict=True)])
    assert np.corrcoef(distance, np.sqrt(different))[0, 1] > 0.6
    assert distance[different == 0].max() < distance[different >= 3].min()
    assert np.median(distance) == pytest.approx(MEDIAN_DISTANCE, rel=1e-4)


def test_pair_distances_and_products_match_plain_numpy():
    rng = np.random.default_rng(0)
    x, left, right = rng.standard_normal((4, 3, 5)), rng.standard_normal((3, 3)), rng.standard_normal((5, 5))
    np.testing.assert_allclose(between(left, x, right), np.stack([left @ one @ right.T for one in x]))
    expected = [np.sqrt(((x[i] - x[j]) ** 2).sum()) for i, j in zip(*np.triu_indices(4, 1), strict=True)]
    np.testing.assert_allclose(pair_distances(x), expected)


def test_lead_field_is_that_of_a_sphere():
    radial = np.array([[0.0, 0.03, 0.05]])
    np.testing.assert_allclose(lead_field(9, radial, radial), 0, atol=1e-9)  # radial sources are silent outside
    near, far = (lead_field(306, np.array([[0, 0, z]]), np.array([[1.0, 0, 0]])) for z in (0.08, 0.02))
    assert np.abs(near).max() > 10 * np.abs(far).max()
    assert lead_field(7, radial, radial).shape == (7, 1)


def test_matched_filter_is_the_gaussian_posterior():
    model = generative_model(("aa", "b", "s", "m"), sensors=3, time_points=4, seed=5)
    labels = np.repeat(np.arange(4), 3)
    x, sessions = model.draw(labels, 7, np.random.default_rng(0))
    got = MatchedFilter(model).log_posterior(x, sessions)
    noise = np.kron(model.spatial @ model.spatial.T, model.temporal @ model.temporal.T)
    for row in range(len(labels)):
        gain = (sessions[row] * model.session_gain).sum() / 7
        offset = (sessions[row][:, None] * model.session_offset).sum(axis=0) / 7
        variance = (sessions[row] * model.session_gain**2).sum() / 49
        density = [
            multivariate_normal.logpdf(x[row].ravel(), (gain * template + offset[:, None]).ravel(), variance * noise)
            for template in model.templates
        ]
        expected = np.array(density) + np.log(class_frequencies(model.classes))
        np.testing.assert_allclose(got[row] - got[row, 0], expected - expected[0], atol=1e-3)


@pytest.mark.parametrize("level, split", [(5, "train"), (100, "train"), (100, "validation"), (5, "test")])
def test_stored_reference_is_the_macro_f1_of_the_best_classifier(files, level, split):
    model = generative_model(**SHAPE, seed=3)
    with h5py.File(files[level, split]) as file:
        x, labels, stored = file["data"][:], file["labels"][:], file.attrs["reference_macro_f1"]
    blocks = draw_blocks(model, labels, level=level, split=split, seed=3)
    sessions = np.concatenate([counts for _, _, counts in blocks])
    predictions = MatchedFilter(model).predict(x, sessions)
    assert stored == pytest.approx(f1_score(labels, predictions, average="macro", labels=np.unique(labels)), abs=1e-12)


def test_macro_f1_is_over_the_classes_present():
    labels, predictions = np.array([0, 0, 2, 2, 3]), np.array([0, 1, 2, 0, 1])
    expected = f1_score(labels, predictions, average="macro", labels=[0, 2, 3], zero_division=0)
    assert macro_f1(labels, predictions) == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("sensors, time_points", [(12, 25), (30, 50)])
@pytest.mark.slow
def test_task_is_as_hard_as_meant_at_any_shape(tmp_path, sensors, time_points, seed):
    simulate_grouped(tmp_path, levels=[5, 100], groups=780, sensors=sensors, time_points=time_points, seed=seed)
    score = {}
    for level in (5, 100):
        with h5py.File(tmp_path / f"grouped_{level}" / "train_grouped.h5") as file:
            score[level] = file.attrs["reference_macro_f1"]
    assert 0.3 < score[5] < 0.6 and 0.9 < score[100] < 0.985


@pytest.mark.parametrize("rows", [1, 10, 39, 40, 312, 5000])
def test_labels_are_sorted_and_follow_the_frequencies(rows):
    labels = split_labels(PHONEMES, rows)
    counts = np.bincount(labels, minlength=39)
    assert labels.dtype == np.int64 and len(labels) == rows and (np.diff(labels) >= 0).all()
    assert rows < 39 or counts.min() >= 1
    if rows == 5000:  # every class is due a row or more: each count is its share, rounded down or up
        assert (np.abs(counts - class_frequencies() * rows) < 1).all()


def test_largest_remainder_by_hand():
    classes = ("x", "y", "z")  # no phonemes: shares 6/11, 3/11, 2/11
    np.testing.assert_array_equal(np.bincount(split_labels(classes, 10)), [5, 3, 2])  # 5.45, 2.73, 1.82
    np.testing.assert_array_equal(
        np.bincount(split_labels(classes, 3)), [1, 1, 1]
    )  # 1.64, .82, .55 -> 2, 1, 0 -> 1, 1, 1
    np.testing.assert_array_equal(np.bincount(split_labels(classes, 1), minlength=3), [1, 0, 0])


@pytest.mark.parametrize("level", [5, 100])
@pytest.mark.parametrize("split, rows", [("train", 320), ("validation", 40), ("test", 40)])
def test_files_have_the_format_of_the_hub(files, level, split, rows):
    path = files[level, split]
    assert path.parts[-2:] == (f"grouped_{level}", f"{split}_grouped.h5")
    with h5py.File(path) as file:
        data, labels, windows = file["data"], file["labels"], file["group_indices"]
        assert data.dtype == np.float32 and data.shape == (rows, 5, 6)
        assert data.chunks == (32, 5, 6) and data.compression is None
        assert labels.dtype == np.int64 and labels.shape == (rows,)
        assert h5py.check_vlen_dtype(windows.dtype) == np.int32 and windows.shape == (rows,)
        np.testing.assert_array_equal(np.concatenate(windows[:]), np.arange(rows * level))
        assert {len(window) for window in windows[:]} == {level}
        assert np.abs(data[:]).max() < 10
        attributes = dict(file.attrs)
    assert [name.decode() for name in attributes.pop("classes")] == list(PHONEMES)
    assert 0 < attributes.pop("reference_macro_f1") <= 1 and attributes.pop("created_time") > 1.7e9
    assert attributes == {
        "n_groups": rows,
        "n_channels": 5,
        "n_timepoints": 6,
        "grouped_samples": level,
        "seed": 3,
        "average_grouped_samples": True,
        "drop_remaining": False,
        "simulated": True,
        "shuffle": split == "train",
        "shuffle_seed": 3 if split == "train" else -1,
    }


def read(path: Path) -> tuple[bytes, bytes]:
    with h5py.File(path) as file:
        return file["data"][:].tobytes(), file["labels"][:].tobytes()


def test_a_seed_gives_the_same_bytes_and_another_does_not(files, tmp_path):
    again = simulate_grouped(tmp_path / "again", levels=[5], groups=320, seed=3, **SHAPE)
    other = simulate_grouped(tmp_path / "other", levels=[5], groups=320, seed=4, **SHAPE)
    for split, path, different in zip(SPLITS, again, other, strict=True):
        assert read(path) == read(files[5, split])
        assert read(path)[0] != read(different)[0] and read(path)[1] == read(different)[1]


def test_noise_differs_between_splits_levels_and_blocks():
    model = generative_model(**SHAPE, seed=0)
    labels = np.zeros(96, int)
    drawn = []
    for level, split in [(5, "train"), (5, "validation"), (5, "test"), (10, "train")]:
        drawn += [x for _, x, _ in draw_blocks(model, labels, level=level, split=split, seed=0)]
    noise = np.stack([x - x.mean(axis=0) for x in drawn]).reshape(len(drawn), -1)
    correlation = np.corrcoef(noise) - np.eye(len(drawn))
    assert np.abs(correlation).max() < 5 / np.sqrt(32)  # at least 32 independent rows in each


def test_model_does_not_depend_on_how_much_is_drawn_and_classes_need_not_be_phonemes():
    first, second = (generative_model(("cat", "dog", "cow"), **SHAPE, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.templates, second.templates)
    np.testing.assert_allclose(first.prior, np.array([6, 3, 2]) / 11)


def test_few_groups_warn_once_with_counts(tmp_path, warnings):
    simulate_grouped(tmp_path / "few", levels=[2, 3], groups=20, **SHAPE)
    missing = [39 - len(np.unique(split_labels(PHONEMES, rows))) for rows in (20, 2, 2)]
    counts = (f"{split} {count}" for split, count in zip(SPLITS, missing, strict=True))
    the_warning(warnings, *counts, "--groups 312")
    simulate_grouped(tmp_path / "enough", levels=[2], groups=312, **SHAPE)
    assert len(warnings) == 1


def test_progress_names_each_file(tmp_path):
    lines: list[str] = []
    paths = simulate_grouped(tmp_path, levels=[4], groups=3, classes=("aa", "b"), progress=lines.append, **SHAPE)
    assert len(lines) == 3 and all(str(path) in line for path, line in zip(paths, lines, strict=True))


@pytest.mark.parametrize(
    "change, facts",
    [
        ({"groups": 0}, ["--groups", "0", "1"]),
        ({"levels": [5, 0]}, ["--level", "0", "1"]),
        ({"levels": []}, ["--level"]),
        ({"levels": [5, 5]}, ["--level", "different"]),
        ({"sensors": 0}, ["--sensors", "0", "1"]),
        ({"time_points": 1}, ["--time-points", "1", "2"]),
        ({"seed": -1}, ["--seed", "-1", "0"]),
        ({"classes": ("aa",)}, ["classes"]),
        ({"classes": ("aa", "aa")}, ["classes", "different"]),
        ({"groups": 2**31, "levels": [1]}, ["--groups", "int32"]),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_written(tmp_path, change, facts):
    arguments = {"levels": [5], "groups": 8, **SHAPE} | change
    with refused(*facts):
        simulate_grouped(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_existing_file_is_refused_before_anything_is_written(tmp_path):
    present = tmp_path / "grouped_9" / "test_grouped.h5"
    present.parent.mkdir()
    present.write_bytes(b"mine")
    with refused("exists", where=present):
        simulate_grouped(tmp_path, levels=[2, 9], groups=8, **SHAPE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [present] and present.read_bytes() == b"mine"


@pytest.mark.parametrize("room", [500, 200_000, 1_290_000])  # in the header, in the data, in the last metadata
def test_full_disk_leaves_no_file(tmp_path, room):
    words = ["--level", 2, "--groups", 1000, "--sensors", 12, "--time-points", 25]
    done = run_with_full_disk(room, "simulate", tmp_path / "out", *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()  # and nothing that HDF5 prints when it lets go of a file it could not write
    assert_facts(line, "error", "train_grouped.h5", "cannot be written", "File too large")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_file_in_place_of_the_folder_is_an_error_of_the_user(tmp_path):
    (tmp_path / "out").write_text("a file")
    with refused("cannot be written"):
        simulate_grouped(tmp_path / "out", levels=[2], groups=8, **SHAPE)
