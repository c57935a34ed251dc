"""`demega-jax evaluate`: scores against scikit-learn and against those of training, and what it refuses."""

import json

import h5py
import numpy as np
import pytest
from command_line import fails
from sklearn.metrics import balanced_accuracy_score, f1_score, top_k_accuracy_score

import demega_jax
from demega_jax.cli import main
from demega_jax.data.simulate.grouped import simulate_grouped


@pytest.mark.slow
def test_evaluate_against_scikit_learn(run, data, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(run), "--split", "test", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "macro-F1" in shown and "no brain data" in shown
    scores = json.loads(out.read_text())
    with h5py.File(data / "grouped_100" / "test_grouped.h5") as file:
        x, label = file["data"][:], file["labels"][:]
    model = demega_jax.load(run)
    probabilities = model.predict(x)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    predicted = probabilities.argmax(1)
    present = np.unique(label)
    assert scores["macro_f1"] == pytest.approx(f1_score(label, predicted, labels=present, average="macro"), abs=1e-12)
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, predicted), abs=1e-12)
    at_10 = [
        top_k_accuracy_score(label[label == one], probabilities[label == one], k=10, labels=range(39))
        for one in present
    ]
    assert scores["balanced_accuracy_at_10"] == pytest.approx(np.mean(at_10), abs=1e-12)
    assert scores["chance"] == pytest.approx(1 / len(present))
    assert (scores["level"], scores["version"]) == (100, demega_jax.__version__)
    assert scores["data"] == str(data / "grouped_100" / "test_grouped.h5") and scores["steps"] == list(model.steps)
    assert np.sum(scores["confusion"]) == len(label) == scores["rows"]

    with h5py.File(data / "grouped_100" / "train_grouped.h5") as file:
        counts = np.bincount(file["labels"][:], minlength=39)
    always, baseline = counts.argmax(), scores["baseline"]
    assert baseline["always"] == model.classes[always]
    wanted = f1_score(label, np.full(len(label), always), labels=present, average="macro")
    assert baseline["macro_f1"] == pytest.approx(wanted, abs=1e-12)
    ten = np.argsort(-counts, kind="stable")[:10]
    assert baseline["balanced_accuracy_at_10"] == pytest.approx(np.isin(present, ten).mean(), abs=1e-12)


def test_validation_in_training_is_what_evaluate_says(run, tmp_path):
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(run), "--json", str(out)]) == 0
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max((m for m in read if m["split"] == "validation"), key=lambda m: m["macro_f1"])
    scores = json.loads(out.read_text())
    for name in ("macro_f1", "balanced_accuracy", "balanced_accuracy_at_10", "accuracy"):
        assert scores[name] == pytest.approx(best[name], abs=1e-12)
    assert scores["loss"] == pytest.approx(best["loss"], rel=1e-5)


def test_evaluate_on_windows_of_another_shape(run, tmp_path, capsys):
    simulate_grouped(tmp_path, levels=[100], groups=48, sensors=5, time_points=12, seed=1)
    error = fails(capsys, "evaluate", run, "--data", tmp_path)
    assert "windows of 5 sensors x 12 time points" in error and "5 x 9" in error


def test_wrong_input_is_one_line(run, tmp_path, capsys):
    assert "no config.yaml" in fails(capsys, "evaluate", tmp_path)
    assert "nosuch: no such folder" in fails(capsys, "evaluate", tmp_path / "nosuch")
    assert "Did you mean " + str(run) in fails(capsys, "evaluate", run.parent / "rum")
    assert "no level 5" in fails(capsys, "evaluate", run, "--level", 5)
    assert "Did you mean test?" in fails(capsys, "evaluate", run, "--split", "tset")


def test_all_levels_and_ranges_are_those_of_the_data(run, tmp_path, capsys):
    for words in ("all", "50-100", "100"):
        out = tmp_path / f"{words}.json"
        assert main(["evaluate", str(run), "--level", words, "--json", str(out)]) == 0
    scores = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert len(scores) == 3 and scores[0] == scores[1] == scores[2]
    error = fails(capsys, "evaluate", run, "--level", "5-20")
    assert "--level" in error and "5-20" in error and "100" in error
