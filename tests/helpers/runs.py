"""Commands, within this process and as one of their own; a training run, and what it leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from demega_jax.cli import main
from demega_jax.training.checkpoint import Checkpoints

CONFIG = "configs/tiny.yaml"


def run_command(*arguments: object) -> int:
    """The exit status of `demega-jax` with these arguments, in this process."""
    return main([str(argument) for argument in arguments])


def train_arguments(data: Path, run: Path, *more: object, devices: int = 1, config: object = CONFIG) -> list[str]:
    """The command that trains on `data` into `run`; more: options and section.key=value."""
    return [str(word) for word in ("train", config, "--data", data, "--run", run, "--devices", devices, *more)]


def train(data: Path, run: Path, *more: object, devices: int = 1, config: object = CONFIG) -> int:
    """The exit status of that command."""
    return run_command(*train_arguments(data, run, *more, devices=devices, config=config))


def evaluate(run: Path, target: Path, *more: object) -> dict:
    """The scores that `evaluate --json` writes to `target`."""
    assert run_command("evaluate", run, "--json", target, *more) == 0
    return json.loads(target.read_text())


def lines_of(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl, or of that of a run."""
    return [json.loads(line) for line in (path / "metrics.jsonl" if path.is_dir() else path).read_text().splitlines()]


def split_lines(run: Path, split: str) -> dict[int, dict]:
    """{step: line} of one split."""
    return {line["step"]: line for line in lines_of(run) if line["split"] == split}


def losses(run: Path) -> list[float]:
    """The logged losses of training."""
    return [line["loss"] for line in lines_of(run) if line["split"] == "train"]


def newest_arrays(run: Path) -> dict[str, np.ndarray]:
    """Everything in the newest checkpoint, by name."""
    found = Checkpoints(run / "checkpoints").read_newest("latest", ("model", "training"))
    assert found is not None
    return found[0]


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path from there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def process(*arguments: object) -> list[str]:
    """The words of a command that is to be a process of its own."""
    return [sys.executable, "-m", "demega_jax", *map(str, arguments)]


def run_with_full_disk(room: int, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """A command in a process that can write files of `room` bytes at most, which stands in for a full disk."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}));"
        "from demega_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(words, env=env or dict(os.environ), capture_output=True, text=True, check=False)


def flip_bit(path: Path, place: int | None = None) -> None:
    """Turn one bit of a file over: of the byte at `place`, or in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)
