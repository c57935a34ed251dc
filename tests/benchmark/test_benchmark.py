"""`demega-jax benchmark`: its figures agree with each other, and what it refuses is told in one line."""

import json
import math

import jax
import numpy as np
import pytest
from helpers import TINY_MODEL

from demega_jax.benchmark.cases import all_cases
from demega_jax.cli import main

TINY = [*TINY_MODEL, "model.sensors=5", "model.time_points=9", "model.input_norm=zscore"]  # compiles sooner
ROWS = 16

pytestmark = pytest.mark.usefixtures("small_peaks")


def check_case(case: dict, batch: int) -> None:
    """Figures that follow from each other do."""
    step, epoch, least, said = case["step_seconds"], case["epoch"], case["least_bytes"], case["compiled"]
    assert step["median"] == np.median(step["all"]) and step["min"] <= step["median"] <= step["p95"] <= step["max"]
    assert case["samples_per_second"] * step["median"] == pytest.approx(batch)
    assert epoch["groups"] == round(1.6e6 / case["level"]) and epoch["about"] and case["data"] == "simulated"
    assert epoch["steps"] == math.ceil(epoch["groups"] / batch)
    assert epoch["seconds"] == pytest.approx(epoch["steps"] * step["median"])
    assert case["flops_per_second"] == pytest.approx(case["flops"] / step["median"])
    assert case["share_of_peak"] == pytest.approx(case["flops_per_second"] / case["peak_flops_per_second"])
    assert least["total"] == least["input"] + least["state"]
    # The compiled step does the products that were counted (a few of them simplified), and more; it moves at least
    # what the step reads and writes.
    assert said["flops"] > 0.9 * case["flops"] and said["bytes_accessed"] > least["state"]
    assert said["temporary_bytes"] > 0
    assert case["bytes_per_second"] == pytest.approx(said["bytes_accessed"] / step["median"])
    assert case["share_of_copy"] == pytest.approx(case["bytes_per_second"] / case["copy_bytes_per_second"])
    assert case["over_floor"] == pytest.approx(step["median"] / case["floor_seconds"])
    assert 0 <= case["input_wait_seconds"] <= case["host_seconds"]
    assert case["compile_seconds"] > 0 and case["peak_memory_bytes"] > 0 and case["step_memory_bytes"] > 0


@pytest.mark.slow
def test_a_run_writes_figures_that_agree_and_a_picture(tmp_path, capsys):
    options = ["--level", "5", "--devices", "1", "2", "--batch-size", str(ROWS), "--steps", "4"]
    files = [tmp_path / "new" / "figures.json", tmp_path / "figures.png"]
    words = ["benchmark", *options, "--stages", "--json", str(files[0]), "--plot", str(files[1]), *TINY]
    assert main(words) == 0
    result = json.loads(files[0].read_text())
    assert result["format"] == 2 and result["command"].startswith("demega-jax benchmark --level 5 --devices 1 2")
    assert result["data"] == "simulated" and result["window"] == [5, 9]
    assert result["versions"]["jax"] == jax.__version__ and result["hardware"]["platform"] == "cpu"
    one, two = result["cases"]
    for case in (one, two):
        check_case(case, ROWS)
        assert len(case["step_seconds"]["all"]) == 4 and case["feed"] == "resident"
        assert case["least_bytes"]["input"] == ROWS * (5 * 9 * 4 + 4 + 1)  # windows, label, valid
        assert case["least_bytes"]["state"] == case["devices"] * one["least_bytes"]["state"]
        assert case["peak_flops_per_second"] == one["peak_flops_per_second"]  # virtual devices share the machine
    assert (one["devices"], two["devices"], one["scaling_efficiency"]) == (1, 2, 1.0)
    assert two["scaling_efficiency"] == pytest.approx(two["samples_per_second"] / 2 / one["samples_per_second"])
    stages = {stage["stage"]: stage["times"] for stage in result["stages"]}
    assert list(stages) == [
        "normalise",
        "stem",
        "attention",
        "convolution and feed-forward",
        "head",
        "losses",
        "optimiser",
    ]
    assert sum(stage["share"] for stage in result["stages"]) == pytest.approx(1)
    assert files[1].read_bytes().startswith(b"\x89PNG") and files[1].stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "SIMULATED data" in shown and "The sum is not the step" in shown and "scaling" in shown
    tables = shown.partition("figures " + str(files[0]))[0].splitlines()[3:]  # less the title, which is not wrapped
    assert max(map(len, tables)) <= 80 and "…" not in shown


@pytest.mark.long
def test_the_other_feeds_and_half_precision(tmp_path):
    file = tmp_path / "figures.json"
    words = [
        "benchmark",
        "--level",
        "5",
        "60",
        "--feed",
        "stream",
        "regroup",
        "--precision",
        "bfloat16",
        "--devices",
        "1",
    ]
    dispatch = ["--batch-size", str(ROWS), "--steps", "3", "--json", str(file)]
    assert main([*words, *dispatch, *TINY]) == 0
    result = json.loads(file.read_text())
    for case in result["cases"]:
        check_case(case, ROWS)
        assert case["precision"] == "bfloat16"
    assert list(result["machine"]["matrix_flops_per_second"]) == ["bfloat16"] and result["stages"] is None
    read = {case["level"]: case["least_bytes"]["input"] for case in result["cases"] if case["feed"] == "regroup"}
    assert read == {level: ROWS * level * (5 * 9 * 4) for level in (5, 60)}  # K windows a row


@pytest.mark.long
def test_members_do_the_work_of_as_many(tmp_path, capsys):
    cases = {}
    for count in (1, 2):
        file = tmp_path / f"{count}.json"
        words = ["benchmark", "--level", "5", "--devices", "1", "--batch-size", str(ROWS), "--steps", "3", "--stages"]
        assert (
            main(
                [*words, "--json", str(file), "--plot", str(file.with_suffix(".png")), *TINY, f"train.members={count}"]
            )
            == 0
        )
        result = json.loads(file.read_text())
        cases[count] = result["cases"][0]
        assert len(result["stages"]) == 7  # of one model
    assert f"batch {ROWS} of 5 x 9 for each of 2 members" in capsys.readouterr().out
    one, two = cases[1], cases[2]
    assert (one["members"], two["members"]) == (1, 2)
    assert two["flops"] == 2 * one["flops"] and two["least_bytes"]["total"] == 2 * one["least_bytes"]["total"]
    assert two["compiled"]["bytes_accessed"] > 1.5 * one["compiled"]["bytes_accessed"]
    assert two["samples_per_second"] == 2 * ROWS / two["step_seconds"]["median"]


@pytest.mark.slow
def test_levels_of_several_options_and_steps_per_dispatch(tmp_path):
    file = tmp_path / "figures.json"
    words = ["benchmark", "--level", "5", "--level", "100", "--devices", "1", "--batch-size", str(ROWS)]
    assert main([*words, "--steps", "6", "--json", str(file), *TINY, "train.steps_per_dispatch=2"]) == 0
    cases = json.loads(file.read_text())["cases"]
    assert [case["level"] for case in cases] == [5, 100]
    for case in cases:
        check_case(case, ROWS)
        assert case["steps_per_dispatch"] == 2 and len(case["step_seconds"]["all"]) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--level", "five"], "--level: 'five'"),
        (["--level", "0"], "--level: '0'"),
        (["--feed", "steam"], "--feed: 'steam'. Expected: stream, resident or regroup"),
        (["--precision", "float64"], "--precision: 'float64'"),
        (["--devices", "1", "99"], "--devices: 99"),
        (["--devices", "3"], "train.batch_size: 16 rows do not divide over 3 devices"),
        (["--steps", "0"], "--steps: '0'"),
        (["--batch-size", "-4"], "--batch-size: '-4'"),
        (["--feed", "stream", "train.members=2"], "train.members=2 needs a feed on the devices"),
        (["--feed", "stream", "train.steps_per_dispatch=2"], "train.steps_per_dispatch=2 needs a feed on the devices"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["model.widht=8"], "unknown key model.widht"),
        (["--json", "there/is/no"], "there/is/no"),
        (["--plot", "."], "a folder"),
        (["--json", "one", "--plot", "one"], "two different files"),
        (["--plot", "one.jpg"], "one.jpg, an ending that is not known"),
    ],
)
def test_refusals_are_one_line_before_anything_is_measured(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("a file")
    monkeypatch.setattr("demega_jax.benchmark.run._measure", None)
    batch = [] if "--batch-size" in words else ["--batch-size", "16"]
    assert main(["benchmark", *batch, *words, *([] if "--devices" in words else ["--devices", "1"]), *TINY]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and told in lines[0], lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_every_combination_once():
    cases = all_cases([5, 5, 20], ["resident"], [1, 2], ["float32"])
    assert [(case.level, case.devices) for case in cases] == [(5, 1), (5, 2), (20, 1), (20, 2)]
    assert str(cases[1]) == "level 5, resident, 2 devices, float32"
