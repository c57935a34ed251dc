"""Train, evaluate, predict, group and benchmark from Python: as the commands do, and without a trace in the process."""

import _thread
import importlib
import io
import json
import logging
import os
import signal
import sys
import threading
import warnings as python_warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import ONE_SCHEDULE, TINY_MODEL
from helpers.errors import refused
from helpers.recordings import write_marked
from helpers.runs import run_command, train_arguments
from rich.console import Console

import demega_jax
from demega_jax.api import training_run
from demega_jax.api.benchmark import BenchmarkResult
from demega_jax.api.in_thread import in_thread
from demega_jax.api.settings import settings_of
from demega_jax.api.shown import status_or_lines
from demega_jax.api.training_run import TrainResult
from demega_jax.config import Config
from demega_jax.config.load import load_config, override, parse_overrides
from demega_jax.data.simulate.grouped import simulate_grouped

MONITOR = "balanced_accuracy_at_10"
KEYS = [
    *TINY_MODEL,
    ONE_SCHEDULE,
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps=4",
    "train.eval_every=2",
    "train.log_every=2",
    f"train.monitor={MONITOR}",
    "train.matmul_precision=highest",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[100], groups=64, sensors=5, time_points=9, seed=1)
    return folder


def settings() -> dict[str, object]:
    """What a function could change in its process."""
    loggers = [logging.getLogger(name) for name in (None, "absl", "asyncio")]
    return {
        "jax": dict(jax.config.values),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "loggers": [(each.level, list(each.filters), list(each.handlers)) for each in loggers],
        "hook": sys.unraisablehook,
        "warnings": list(python_warnings.filters),
        "folder": os.getcwd(),
    }


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> TrainResult:
    """A run that was trained in a thread of its own, as some notebooks do."""
    run, before, results = tmp_path_factory.mktemp("runs") / "python", settings(), []

    def work() -> None:
        results.append(demega_jax.train("tiny", KEYS, data=data, run=run, devices=1, progress=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert settings() == before
    return results[0]


@pytest.mark.slow(seconds=12)
def test_it_trains_as_the_command_does(data, trained, tmp_path):
    """Line by line the same numbers, and the same best step."""
    assert run_command(*train_arguments(data, tmp_path / "run", *KEYS)) == 0
    theirs = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    timed = ("samples_per_second", "input_wait", "time")
    for ours, line in zip(trained.models[0].history(), theirs, strict=True):
        assert {k: v for k, v in ours.items() if k not in timed} == {k: v for k, v in line.items() if k not in timed}
    best = max((line for line in theirs if line["split"] == "validation"), key=lambda line: line[MONITOR])
    assert (trained.best.best_step, trained.best.best_score) == (best["step"], best[MONITOR])
    assert (trained.status, trained.chance) == (0, 1 / 8)  # the validation split has a row of each of 8 classes


@pytest.mark.slow(seconds=12)
def test_evaluate_and_predict_agree_with_the_command_and_with_the_model(data, trained, tmp_path, capsys):
    assert run_command("evaluate", trained.run, "--split", "test", "--json", tmp_path / "a.json") == 0
    capsys.readouterr()
    before = settings()
    found = demega_jax.evaluate(trained.run, split="test", progress=False)
    assert found.to_json() == json.loads((tmp_path / "a.json").read_text())
    x = np.random.default_rng(0).normal(size=(3, 5, 9)).astype(np.float32)
    predicted = demega_jax.predict(str(trained.run), x)
    assert settings() == before
    model = demega_jax.load(trained.run)
    assert predicted.probabilities == pytest.approx(model.predict(x), abs=1e-6)
    assert predicted.labels is None and predicted.classes == model.classes
    assert predicted.predicted == [model.classes[i] for i in model.predict(x).argmax(1)]
    rows = demega_jax.predict([trained.run], data, split="test")
    assert np.mean(rows.probabilities.argmax(1) == rows.labels) == pytest.approx(found.scores.accuracy)
    assert capsys.readouterr().out == ""


def test_progress_of_predictions(trained, capsys, monkeypatch):
    """In a notebook or a pipe as lines, here after each batch; a terminal is for `status_line`."""
    module = importlib.import_module("demega_jax.api.predict")
    monkeypatch.setattr(module, "LINE_SECONDS", 0)
    x = np.zeros((3, 5, 9), np.float32)
    demega_jax.predict(trained.run, x)
    assert capsys.readouterr().out == "3 of 3 rows\n"
    demega_jax.predict(trained.run, x, progress=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("progress", [True, False])
def test_progress_of_a_benchmark(capsys, monkeypatch, progress):
    def measured(asked, tell):
        tell("timing steps")
        return BenchmarkResult({"cases": []})

    module = importlib.import_module("demega_jax.api.benchmark")
    monkeypatch.setattr(module, "benchmark_as_asked", measured)
    monkeypatch.setattr(BenchmarkResult, "show", lambda self: None)
    demega_jax.benchmark(progress=progress)
    assert capsys.readouterr().out == ("timing steps\n" if progress else "")


def test_lines_of_progress_have_a_least_distance_in_time(capsys):
    times = iter([100.0, 105.0, 110.0, 112.0, 121.0])
    with status_or_lines(Console(file=io.StringIO()), 10, clock=lambda: next(times)) as tell:
        for text in "abcde":
            tell(text)
    assert capsys.readouterr().out.split() == ["c", "e"]


@pytest.mark.slow(seconds=12)
def test_a_run_goes_on(data, trained, tmp_path, capsys):
    run = tmp_path / "run"
    changes = dict(parse_overrides(KEYS)) | {"train.steps": 2}
    config = override(load_config(Path("configs/tiny.yaml")), changes, "test")
    demega_jax.train(config, data=data, run=run, devices=1)
    out = capsys.readouterr().out
    assert f"demega_jax.evaluate('{run}')" in out and "step 2/2" in out
    longer = demega_jax.train(changes={"train.steps": 4}, run=run, resume=True, devices=1, progress=False)
    assert capsys.readouterr().out == ""
    lines = [each.models[0].history()[-1] for each in (longer, trained)]
    assert lines[0]["step"] == 4 and lines[0]["loss"] == lines[1]["loss"]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"config": "tniy"}, ["tniy"]),
        ({"config": {"trian": {}}}, ["trian", "train"]),
        ({"config": "tiny", "changes": {"train.steps": "x"}}, ["train.steps"]),
        ({"config": "tiny", "changes": "data.path=x", "data": "."}, ["data.path"]),
        ({"config": "tiny", "level": [100, 100]}, ["100", "twice"]),
        ({"config": "tiny", "resume": True}, ["no run=", "resume"]),
    ],
)
def test_what_cannot_be_done(tmp_path, data, arguments, facts):
    before = settings()
    with refused(*facts):
        demega_jax.train(**({"data": data} | arguments), **({} if "resume" in arguments else {"run": tmp_path / "run"}))
    assert settings() == before and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: demega_jax.train("tiny", data=".", parallel="jti"), ["jti", "did you mean jit"]),
        (lambda: demega_jax.train("tiny", data=".", devices=0), ["devices: 0", "at least 1"]),
        (lambda: demega_jax.evaluate("nosuch", split="tset"), ["tset", "did you mean test"]),
        (lambda: demega_jax.evaluate("nosuch"), ["nosuch"]),
        (lambda: demega_jax.evaluate([]), ["runs"]),
        (lambda: demega_jax.predict("nosuch", "x.npy", ensemble="wieghted"), ["did you mean weighted"]),
        (lambda: demega_jax.predict("nosuch", "x.npy"), ["windows: x.npy"]),
        (lambda: demega_jax.group("r", "o", 5, memory="4Q"), ["memory: ", "4Q"]),
        (
            lambda: demega_jax.group("r", "o", 5, splits="s", split_shares=[1]),
            ["split_shares: ", "splits= or split_shares="],
        ),
        (lambda: demega_jax.benchmark(dump="d"), ["dump: given without target=", "target='h200'"]),
    ],
)
def test_words_that_are_not_known(call, facts):
    with refused(*facts):
        call()


def test_an_interrupt_asks_the_work_to_stop(warnings):
    """As Ctrl-C, and "interrupt" in a notebook, which raise KeyboardInterrupt in the main thread."""
    handlers = settings()["signals"]

    def work(signals) -> int:
        with signals.noted():
            assert settings()["signals"] == handlers
            _thread.interrupt_main()
            while not signals.stops_after(1, 2):
                pass
            return signals.received

    assert in_thread(work) == signal.SIGINT
    assert len(warnings) == 1 and "saving" in warnings[0]


def test_what_the_work_raises():
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda signals: 1 // 0)


def test_settings_last_as_long_as_their_block(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    before = settings()
    config = override(Config(), {"train.deterministic": True, "train.matmul_precision": "high"}, "test")
    with settings_of(config, remember=False):
        assert jax.config.jax_default_matmul_precision == "high"
        assert os.environ["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"
    assert settings() == before


def test_group(tmp_path):
    write_marked(tmp_path / "tree")
    files = demega_jax.group(
        tmp_path / "tree", tmp_path / "out", [2, 3], split_shares=[1, 0, 0], shuffle=False, progress=False
    )
    assert [file.level for file in files] == [2, 3] and all(file.path.is_file() for file in files)
    for file in files:
        assert demega_jax.open_levels(tmp_path / "out", file.level, "train").rows == file.rows


def test_a_model_without_a_validation_has_no_score():
    assert training_run._score(training_run.Trained(Path("run"), None, None, "macro_f1")) == "no validation so far"
    assert "0.5000 at step 3" in training_run._score(training_run.Trained(Path("run"), 3, 0.5, "macro_f1"))


def test_the_room_of_benchmarks_is_called_as_the_function():
    import demega_jax.benchmark.tables as tables

    with refused("h200", where="target"):
        demega_jax.benchmark(target="h20")  # type: ignore[operator]
    assert demega_jax.benchmark.tables is tables
