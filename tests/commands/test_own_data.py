"""Data of another kind than the published ones, from arrays to a report: nothing is taken for granted of them."""

import csv
import html
import json
import re

import numpy as np
import pytest
from helpers import ROOT, TINY_MODEL
from helpers.data import read_grouped

import demega_jax
from demega_jax.cli import main
from demega_jax.training.run import RunFolder

CLASSES = ["cat", "dog", "it's", "left", "right", "up", "down"]
SENSORS, TIME_POINTS, RATE = 157, 300, 500.0
TYPES = ["mag"] * 150 + ["grad"] * 7
# The model without the width of its IPA head, which the data decide.
MODEL = [key for key in TINY_MODEL if "ipa_width" not in key]
KEYS = [
    *MODEL,
    "model.pool=mean",
    "train.batch_size=16",
    "train.steps=6",
    "train.epochs=null",
    "train.eval_every=3",
    "train.log_every=3",
    "data.augment.amplitude=0.5",
    "data.augment.time_shift=0.5",
]


def write_data(folder):
    """Windows with a pattern of their own for each class."""
    rng = np.random.default_rng(0)
    labels = np.arange(70) % 7
    patterns = rng.standard_normal((7, SENSORS, TIME_POINTS), np.float32)
    x = rng.standard_normal((70, SENSORS, TIME_POINTS), np.float32) + patterns[labels]
    return demega_jax.write_grouped(
        folder,
        x,
        labels,
        classes=CLASSES,
        shares=(0.6, 0.2, 0.2),
        sampling_rate=RATE,
        units="fT",
        sensor_types=TYPES,
        tmin=-0.1,
    )


@pytest.mark.slow(seconds=50)
@pytest.mark.long
def test_every_command_takes_other_sensors_rates_windows_and_classes(tmp_path, capsys):
    data, run, shards = tmp_path / "data", tmp_path / "run", tmp_path / "shards"
    write_data(data)
    assert main(["inspect", str(data)]) == 0
    told = capsys.readouterr().out
    assert "500 Hz" in told and "150 mag + 7 grad" in told and "not sound" not in told
    assert main(["train", str(ROOT / "configs" / "tiny.yaml"), "--data", str(data), "--run", str(run), *KEYS]) == 0
    assert len(re.findall("7 classes are not all phonemes", capsys.readouterr().out)) == 1
    config = RunFolder(run).read_config()
    assert (config.model.ipa_width, config.loss.ipa_weight) == (0, 0.0)
    assert (config.data.augment.sample_rate, config.data.augment.magnetometers) == (RATE, tuple(range(150)))
    assert main(["evaluate", str(run), "--split", "test", "--json", str(tmp_path / "test.json")]) == 0
    scores = json.loads((tmp_path / "test.json").read_text())
    assert scores["chance"] == pytest.approx(1 / 7) and scores["rows"] == 14
    assert main(["report", str(run), "--split", "test", "--saliency"]) == 0
    page = (run / "report" / "index.html").read_text()
    assert "157 sensors x 300 time points" in page and html.escape("it's") in page
    assert "IPA" not in page.split("<pre")[0]
    assert main(["shard", str(data), str(shards)]) == 0
    for name, source in (("grouped", data), ("shards", shards)):
        output = tmp_path / f"{name}.csv"
        assert main(["predict", str(run), "--input", str(source), "--split", "test", "--output", str(output)]) == 0
        header, *rows = csv.reader(output.open())
        assert len(rows) == 14 and len(header) >= len(CLASSES)
    assert main(["evaluate", str(run), "--data", str(shards), "--split", "test"]) == 0
    found = demega_jax.open_levels(shards, 1, "train").acquisition
    assert (found.sampling_rate, found.tmin, found.sensor_types) == (RATE, -0.1, tuple(TYPES))


def test_the_own_data_and_recordings_of_the_how_to_page_run_as_they_stand(tmp_path, monkeypatch, capsys):
    """Its blocks of Python, and the commands between them but for those that train, or need files of MNE."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "howto.md").read_text()
    own, recordings = page.partition("## Use recordings of your own")[::2]
    for part in (own, recordings.partition("\n## ")[0]):
        (code,) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
        exec(compile(code, "docs/howto.md", "exec"), {})
        for words in re.findall(r"^    demega-jax (.*)$", part, re.MULTILINE):
            if words.split()[0] in ("import", "inspect", "group") and ".fif" not in words:
                assert main(words.split()) == 0, words
    rows = {path: len(read_grouped(path)["data"]) for path in sorted(tmp_path.glob("own/*/*.h5"))}
    # Of each run 20 windows of both classes: 8, 1 and 1 runs, and means of 5 of one class.
    assert list(rows.values()) == [40, 320, 40, 8, 64, 8]
    for path, count in rows.items():
        assert len(read_grouped(tmp_path / "imported" / path.relative_to(tmp_path / "own"))["data"]) == count
    words = [read_grouped(path) for path in sorted(tmp_path.glob("words/*/*.h5"))]
    assert [len(each["data"]) for each in words] == [115] * 3 and words[0]["data"].shape[1:] == (20, 250)
    assert "not sound" not in capsys.readouterr().out


def test_the_example_of_the_format_page_writes_what_it_says(tmp_path, monkeypatch):
    """157 sensors, 250 time points, 50 classes, 500 Hz."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "format.md").read_text(), re.DOTALL)
    exec(compile(code, "docs/format.md", "exec"), {})
    splits = ("train", "validation", "test")
    found = [read_grouped(tmp_path / "data" / "grouped_1" / f"{split}_grouped.h5") for split in splits]
    assert sum(len(each["data"]) for each in found) == 200 and found[0]["data"].shape[1:] == (157, 250)
    means = read_grouped(tmp_path / "means" / "grouped_4" / "train_grouped.h5")
    assert len(means["data"]) == 50 and [sorted(each % 50) for each in means["group_indices"]][7] == [7] * 4
    told = found[0]["attributes"]
    assert len(told["classes"]) == 50 and told["sampling_rate"] == 500 and len(told["sensor_types"]) == 157
