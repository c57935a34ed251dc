"""Every command of the README runs, in its order: with small windows here, as it stands in `make test-long`."""

import re
import shlex
import subprocess
import sys

import pytest
from helpers import ROOT, TINY_MODEL

from demega_jax.cli import main

README = (ROOT / "README.md").read_text()
SMALL_DATA = ["--sensors", "5", "--time-points", "9"]
SMALL_MODEL = [
    *TINY_MODEL, "train.batch_size=16", "train.log_every=4",
]  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """The lines of the README's shell blocks, less the two make commands."""
    whole = (block.replace("\\\n", " ") for block in blocks("bash"))
    lines = [line for block in whole for line in block.splitlines() if line.strip()]
    split = [shlex.split(line, comments=True) for line in lines]
    assert [words for words in split if words[0] == "make"] == [["make", "demo"], ["make", "test"]]
    return [words for words in split if words[0] != "make"]


def small(words: list[str]) -> list[str]:
    """A command on small windows and with a small model; what the README says still comes last, and so wins."""
    if words[1] == "simulate":
        return [
            ("48" if before == "--groups" else word) for before, word in zip(words, words[1:], strict=False)
        ] + SMALL_DATA
    if words[1] == "train":
        overrides = [w for w in words[3:] if re.match(r"\w+\.\w+=", w) and not w.startswith("model.")]
        kept = [w for w in words[1:] if not re.match(r"\w+\.\w+=", w)]
        return [*kept, *([] if "--devices" in words else ["--devices", "1"]), *SMALL_MODEL, *overrides]
    if words[1] == "benchmark":
        return [*words[1:], "--devices", "1", "--steps", "3", *SMALL_MODEL, "model.sensors=5", "model.time_points=9"]
    return words[1:]


def test_every_command_with_small_windows(tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    for words in commands():
        if words[0] == "demega-jax":
            assert main(small(words)) == 0, words
    code = (
        blocks("python")[0].replace("306", "5").replace("125", "9").replace("runs/first", str(tmp_path / "runs/first"))
    )
    names: dict = {}
    exec(code, names)  # noqa: S102  (the README's own lines)
    assert names["probabilities"].shape == (4, 39)


@pytest.mark.long
def test_every_command_as_it_stands(tmp_path):
    for folder in ("configs", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for words in commands():
        if "--original" in words:
            continue  # needs a checkout of the published system and torch
        command = (
            [sys.executable, "-m", "demega_jax", *words[1:]]
            if words[0] == "demega-jax"
            else [sys.executable, *words[1:]]
        )
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
    done = subprocess.run([sys.executable, "-c", blocks("python")[0]], cwd=tmp_path, check=False)
    assert done.returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_demo_on_eight_devices_is_the_demo_on_one(tmp_path, parallel):
    """Full size: the first 20 losses within 1e-4, the final macro-F1 within 0.02."""
    import json

    def run(name: str, *more: str) -> list[dict]:
        arguments = [
            "train",
            "configs/demo.yaml",
            "--data",
            str(data),
            "--run",
            str(tmp_path / name),
            "train.log_every=1",
        ]
        command = [sys.executable, "-m", "demega_jax", *arguments, *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    data = tmp_path / "data"
    assert main(["simulate", str(data), "--level", "100", "--groups", "2000"]) == 0
    one, eight = run("one", "--devices", "1"), run("eight", "--devices", "8", "--parallel", parallel)
    for ours, theirs in list(zip(eight, one, strict=True))[:20]:
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    finals = [[m for m in metrics if m["split"] == "validation"][-1]["macro_f1"] for metrics in (one, eight)]
    assert finals[0] == pytest.approx(finals[1], abs=0.02)
