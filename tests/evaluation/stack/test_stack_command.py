"""`stack`: its stages from files to a report, stops on the way, use by other commands, and what is refused."""

import dataclasses
import json
import signal

import numpy as np
import pytest
from helpers import TINY_MODEL
from helpers.data import simulate_grouped
from helpers.errors import fails_with, refused
from helpers.pages import Page
from helpers.runs import evaluate, run_command, train

import demega_jax
from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.evaluation.stack.stages import StackPlan

KEYS = [
    *TINY_MODEL,
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps=30",
    "train.eval_every=10",
    "optim.learning_rate=1e-2",
]
STACK = ["stack.folds=2", "stack.seeds=2", "stack.best=1", "stack.width=8", "stack.epochs=3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[5, 20], groups=400, sensors=5, time_points=9, seed=1)
    return folder


@pytest.fixture(scope="module")
def bases(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    assert train(data, folder / "five", *KEYS, "--level", 5) == 0
    assert train(data, folder / "twenty", *KEYS, "--level", 20, "data.feed=resident", "train.members=2") == 0
    return [folder / "five", folder / "twenty"]


def given(bases, folder, *more) -> list:
    return ["stack", *(word for base in bases for word in ("--base", base)), "--run", folder, *STACK, *more]


@pytest.fixture(scope="module")
def whole(bases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack") / "whole"
    assert run_command(*given(bases, folder, "--split", "test")) == 0
    return folder


@pytest.mark.long
def test_rows_and_base_models_are_what_evaluate_says(whole, bases, tmp_path):
    validation, test = json.loads((whole / "report.json").read_text())["splits"]
    assert (validation["split"], test["split"], test["level"]) == ("validation", "test", 20)
    for report in (validation, test):
        scores = evaluate(bases[0], tmp_path / "s.json", "--level", 20, "--split", report["split"])
        (base,) = [score for name, score in report["bases"].items() if name.startswith(str(bases[0]))]
        assert base["macro_f1"] == pytest.approx(scores["macro_f1"], abs=1e-9) and report["rows"] == scores["rows"]
    assert "cross-fitted in 2 folds" in validation["fitted"] and "not seen" in validation["note"]
    assert "cross-fitted" in (whole / "report.txt").read_text()


@pytest.mark.long
def test_the_page_holds_both_tables_and_figures_of_the_chosen_stack(whole):
    page = Page((whole / "report" / "index.html").read_text())
    for report in json.loads((whole / "report.json").read_text())["splits"]:
        for kind, score in report["stacks"].items():
            assert any(row[:2] == [f"stack: {kind}", f"{score['macro_f1']:.4f}"] for row in page.rows)
        for name, score in report["bases"].items():
            assert any(row[:2] == [name, f"{score['macro_f1']:.4f}"] for row in page.rows)
    chosen = report["stacks"][report["chosen"]]["macro_f1"]
    assert any(row[:2] == ["macro-F1", f"{chosen:.4f}"] for row in page.rows)
    written = {file.name for file in (whole / "report").iterdir()}
    assert {"index.html", "f1.png", "confusion.png", "reliability.png"} <= written


@pytest.mark.long
def test_features_are_the_mean_logits_of_each_base(whole, bases, data):
    split = demega_jax.open_levels(data, 20, "test")
    x = split.reader().read(np.arange(split.rows))
    wanted = [demega_jax.load(base).predict_logits(x) for base in bases]
    found = np.load(whole / "features" / "test.npz")
    np.testing.assert_allclose(found["logits"], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["labels"], split.labels)


@pytest.mark.long
def test_other_commands_use_a_stack(whole, data, tmp_path):
    scores = evaluate(whole, tmp_path / "s.json", "--data", data, "--split", "test")
    report = json.loads((whole / "report.json").read_text())["splits"][1]
    assert scores["macro_f1"] == report["stacks"][report["chosen"]]["macro_f1"]
    assert scores["ensemble"]["ensembles"]["stack"]["macro_f1"] == scores["macro_f1"]
    out = tmp_path / "p.npz"
    assert run_command("predict", whole, "--input", data, "--split", "test", "--output", out) == 0
    found = np.load(out)
    assert found["logits"].shape[0] == 3  # of the base model, and of both members of the other one
    right = (found["probabilities"].argmax(1) == found["labels"]).mean()
    assert right == pytest.approx(scores["accuracy"])
    holdout = data / "grouped_20" / "test_grouped.h5"
    assert run_command("submit", whole, "--holdout", holdout, "--output", tmp_path / "s.csv") == 0


@pytest.mark.long
def test_a_stopped_stack_goes_on_at_its_stage(data, tmp_path, monkeypatch, capsys):
    """A signal comes while the second base model trains. The first one is not trained again."""
    from demega_jax.evaluation.stack import stages

    fit, folder = stages.fit, tmp_path / "stack"
    arguments = [
        "stack",
        "configs/tiny.yaml",
        "--data",
        data,
        "--level",
        "5,20",
        "--run",
        folder,
        "--devices",
        1,
        *KEYS,
        *STACK,
    ]

    def signalled(config, *rest):
        if config.data.level == 20:
            signal.raise_signal(signal.SIGTERM)
        return fit(config, *rest)

    monkeypatch.setattr(stages, "fit", signalled)
    assert run_command(*arguments) == 143
    monkeypatch.undo()
    lines = (folder / "bases" / "level_5" / "metrics.jsonl").read_text()
    fails_with(capsys, arguments, "--resume")
    assert run_command(*arguments, "--resume") == 0
    assert (folder / "bases" / "level_5" / "metrics.jsonl").read_text() == lines
    assert (folder / "stack.json").is_file()
    report = (folder / "report.json").read_text()
    features = (folder / "features" / "validation.npz").stat().st_mtime_ns
    assert run_command(*arguments, "--resume") == 0
    assert (folder / "features" / "validation.npz").stat().st_mtime_ns == features
    assert (folder / "report.json").read_text() == report


def test_a_resumed_stack_is_of_the_same_settings(data, tmp_path, capsys):
    """Otherwise logits of other rows, or folds that overlap, would be used again without a word."""
    folder = tmp_path / "stack"
    words = ["stack", "configs/tiny.yaml", "--data", data, "--level", "5,20", "--run", folder, *KEYS, *STACK]
    plan = StackPlan(folder, Config(), (), (5, 20), in_sample=False)
    plan.begin_or_join(join=False)
    for change, facts in [
        ({"config": override(plan.config, {"stack.level": 5}, "test")}, ["stack.level", "None", "5"]),
        ({"config": override(plan.config, {"stack.folds": 3}, "test")}, ["stack.folds", "5", "3"]),
        ({"config": override(plan.config, {"data.path": "other"}, "test")}, ["data.path", "other"]),
        ({"levels": (5, 10)}, ["levels", "20"]),
        ({"given": (data,)}, ["bases", data]),
        ({"in_sample": True}, ["in_sample"]),
    ]:
        with refused(*facts, where=folder):
            dataclasses.replace(plan, **change).begin_or_join(join=True)
    plan.begin_or_join(join=True)
    fails_with(capsys, words, "--resume")
    fails_with(capsys, [*words, "--resume"], folder, "another stack")
    assert [path.name for path in folder.iterdir()] == ["plan.json"]


@pytest.mark.long
def test_in_sample_is_said_to_be_too_good(bases, tmp_path, capsys):
    assert run_command(*given(bases, tmp_path / "stack", "--in-sample")) == 0
    captured = capsys.readouterr()
    assert "too good" in captured.err and "in-sample" in captured.out


@pytest.mark.long
def test_what_is_refused(whole, bases, data, tmp_path, capsys):
    new = ["--run", tmp_path / "new"]
    for arguments, facts in [
        (["stack", *new], ["--base", "CONFIG"]),
        (["stack", "configs/tiny.yaml", "--base", bases[0], *new], ["--base", "CONFIG"]),
        (["stack", "--base", bases[0], *new], ["one base model"]),
        (["stack", "configs/tiny.yaml", "--data", data, "--level", 5, *new], ["--level", "two levels"]),
        (["stack", "--base", bases[0], "--base", bases[0], *new], ["twice"]),
        (given(bases, tmp_path / "new", "stack.best=3"), ["stack.best", "stack.seeds"]),
        (given(bases, tmp_path / "new", "--devices", 2), ["--devices", "--base", "leave out"]),
        (given(bases, whole), ["not empty", "--resume"]),
        (["evaluate", whole, bases[0]], ["stack", "alone"]),
        (["evaluate", whole, "--tta"], ["--tta", "stack"]),
    ]:
        fails_with(capsys, arguments, *facts)
    (whole / "stackers.npz").write_bytes(b"damaged")
    out = tmp_path / "p.csv"
    fails_with(capsys, ["predict", whole, "--input", data, "--output", out], "stackers.npz")
    assert not out.exists()
