"""Pseudo-labels: which windows are used with which class, and files that do not fit."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from helpers.data import open_split, simulate_grouped, write_grouped
from helpers.errors import refused
from helpers.feeds import stream_feed
from helpers.runs import losses, run_command, train

from demega_jax.config import DataConfig
from demega_jax.data.pseudo import read_predictions, with_pseudo_labels
from demega_jax.evaluation.submission import write_submission
from demega_jax.phonemes import PHONEMES

V = len(PHONEMES)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[10], groups=93, sensors=5, time_points=9, seed=1)
    return folder


@pytest.fixture
def holdout(tmp_path):
    """Thirty windows, and a submission for them whose largest probabilities are 0.2 to 0.8."""
    x = np.random.default_rng(0).standard_normal((30, 5, 9)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    labels, top = np.arange(30) % 7, np.linspace(0.2, 0.8, 30)
    p = np.repeat(((1 - top) / (V - 1))[:, None], V, axis=1)
    p[np.arange(30), labels] = top
    write_submission(tmp_path / "p.csv", p)
    return tmp_path, x, labels, top


def config(folder, **more) -> DataConfig:
    pseudo = {"windows": str(folder / "x.npy"), "predictions": str(folder / "p.csv"), **more}
    return DataConfig.model_validate({"pseudo": pseudo})


def test_windows_above_the_threshold_follow_those_of_train(data, holdout, warnings):
    folder, x, labels, top = holdout
    before = open_split(data, 10)
    after = with_pseudo_labels(before, config(folder, threshold=0.5))
    chosen = np.flatnonzero(top >= 0.5)
    assert 0 < len(chosen) < 30 and after.rows == before.rows + len(chosen)
    np.testing.assert_array_equal(after.labels, [*before.labels, *labels[chosen]])
    rows = after.reader().read(np.arange(before.rows, after.rows))
    np.testing.assert_array_equal(rows, x[chosen])
    said = after.describe()
    count = int((labels[chosen] == 3).sum())
    assert f"{len(chosen)} of 30 pseudo-labelled windows" in said and f"{PHONEMES[3]} {count}" in said
    assert any("32 of 39 classes" in line for line in warnings)


def test_windows_of_other_events_are_refused(data, holdout):
    folder = holdout[0]
    path = write_grouped(
        folder / "h.h5",
        holdout[1],
        np.zeros(30, int),
        attributes={"classes": list(PHONEMES), "event_rows": "kind=word"},
    )
    train = open_split(data, 10)
    words = replace(train, acquisition=replace(train.acquisition, event_rows="kind=phoneme"))
    with refused("kind=word", "kind=phoneme", where=path):
        with_pseudo_labels(words, config(folder, windows=str(path)))


def test_soft_labels_are_targets_of_these_rows_only(data, holdout):
    folder, _, _, top = holdout
    before = open_split(data, 10)
    after = with_pseudo_labels(before, config(folder, threshold=0.5, soft=True))
    batch = stream_feed(after, batch_size=after.rows, place=lambda batch: batch)
    target = np.zeros((after.rows, V), np.float32)
    target[before.rows :] = read_predictions(folder / "p.csv", PHONEMES)[top >= 0.5]
    np.testing.assert_allclose(after.row_arrays["target"], target, atol=1e-6)
    order = [np.abs(target - row).sum(axis=1).argmin() for row in next(batch)["target"]]
    assert sum(row >= before.rows for row in order) == np.count_nonzero(top >= 0.5)
    assert after.describe().endswith(", soft")


@pytest.mark.long
@pytest.mark.parametrize("feed", ["stream", "resident"])
def test_training_with_soft_labels(data, holdout, tmp_path, feed):
    folder, *_ = holdout
    keys = [
        "model.width=8",
        "model.layers=1",
        "model.heads=2",
        "train.batch_size=16",
        "train.steps=9",
        f"data.pseudo.windows={folder / 'x.npy'}",
        f"data.pseudo.predictions={folder / 'p.csv'}",
        "data.pseudo.threshold=0.2",
        "data.pseudo.soft=true",
        f"data.feed={feed}",
    ]
    assert train(data, tmp_path / "run", *keys) == 0
    assert all(np.isfinite(loss) for loss in losses(tmp_path / "run"))


@pytest.mark.long
def test_training_uses_them_and_validation_does_not(data, holdout, tmp_path, capsys):
    folder, *_ = holdout
    keys = [
        "model.width=8",
        "model.layers=1",
        "model.heads=2",
        "train.batch_size=16",
        "train.epochs=1",
        f"data.pseudo.windows={folder / 'x.npy'}",
        f"data.pseudo.predictions={folder / 'p.csv'}",
        "data.pseudo.threshold=0.2",
    ]
    assert train(data, tmp_path / "run", *keys) == 0
    shown = capsys.readouterr().out
    rows, validation = open_split(data, 10).rows + 30, open_split(data, 10, "validation").rows
    assert f"train      {rows} rows" in shown and "30 of 30 pseudo-labelled" in shown
    assert f"validation {validation} rows" in shown
    assert run_command("evaluate", tmp_path / "run") == 0


def test_csv_of_predict_and_of_submit_say_the_same(tmp_path):
    p = np.random.default_rng(1).dirichlet(np.ones(V), 5)
    write_submission(tmp_path / "submission.csv", p)
    with (tmp_path / "predict.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        order = np.random.default_rng(2).permutation(V)
        writer.writerow(["row", "predicted", *(f"p_{PHONEMES[i]}" for i in order)])
        writer.writerows([row, "aa", *p[row, order]] for row in range(5))
    for name in ("submission.csv", "predict.csv"):
        np.testing.assert_allclose(read_predictions(tmp_path / name, PHONEMES), p, rtol=1e-6)


@pytest.mark.parametrize(
    ("edit", "facts"),
    [
        (lambda lines: [lines[0].replace("phoneme_7", "phoneme_6"), *lines[1:]], ["phoneme_6"]),
        (lambda lines: [lines[0].replace("segment_idx", "id"), *lines[1:]], ["id"]),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], ["row '1'", "line 2"]),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], ["row '1'", "line 4"]),
        (lambda lines: [*lines[:2], lines[2].replace(",", ";", 3), *lines[3:]], ["line 3"]),
        (lambda lines: [*lines[:2], "1," + ",".join(["nan"] * V), *lines[3:]], ["line 3"]),
        (lambda lines: [*lines[:2], "1," + ",".join(["1"] * V), *lines[3:]], ["line 3"]),
        (lambda lines: lines[:-1], ["29 rows", "30 windows"]),
        (lambda lines: [], ["first column"]),
    ],
)
def test_files_that_do_not_fit(data, holdout, edit, facts):
    folder, *_ = holdout
    path = folder / "p.csv"
    path.write_text("\n".join(edit(path.read_text().splitlines())))
    with refused(*facts):
        with_pseudo_labels(open_split(data, 10), config(folder))


def test_settings_that_do_not_fit(data, holdout, tmp_path):
    folder, *_ = holdout
    with refused("data.pseudo.threshold", "0.9", "0.800"):
        with_pseudo_labels(open_split(data, 10), config(folder, threshold=0.9))
    with refused("none.npy", "no such file"):
        with_pseudo_labels(open_split(data, 10), config(folder, windows=str(tmp_path / "none.npy")))
    np.save(tmp_path / "other.npy", np.zeros((30, 4, 9), np.float32))
    with refused("4 sensors", "5 x 9"):
        with_pseudo_labels(open_split(data, 10), config(folder, windows=str(tmp_path / "other.npy")))
    with refused("data.pseudo.predictions"):
        DataConfig.model_validate({"pseudo": {"windows": "x.npy"}})
    with refused("data.feed"):
        DataConfig.model_validate({"feed": "regroup", "pseudo": {"windows": "x", "predictions": "y"}})
