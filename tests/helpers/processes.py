"""Commands in several real processes, which meet over the loopback."""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

from helpers import ROOT, TINY_MODEL

CONFIG = ROOT / "configs" / "tiny.yaml"
STEPS = 6
KEYS = [
    *TINY_MODEL,
    "train.batch_size=16",
    "train.epochs=null",
    f"train.steps={STEPS}",
    "train.save_every=3",
    "train.eval_every=3",
    "train.log_every=1",
    "model.dropout=0.5",
]
SLURM_STEP = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_NODES": "1",
}  # of two tasks, as `srun --ntasks 2` starts them
SECONDS = 540  # most that a test waits for processes to end


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of stderr but for warnings."""
        return [line for line in self.err.splitlines() if not line.startswith("warning:")]


def free_port() -> int:
    """A port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(
    count: int,
    *words: object,
    command: str = "train",
    folders: list[Path] | None = None,
    env: dict[str, str] | None = None,
) -> list[subprocess.Popen]:
    """Start a command in so many processes.

    folders: where each of them runs.  env: instead of options that join them, as `SLURM_STEP` of two tasks.
    """
    port, started = free_port(), []
    for number in range(count):
        join = ["--coordinator", f"127.0.0.1:{port}", "--processes", count, "--process-id", number]
        line = [sys.executable, "-m", "demega_jax", command, *map(str, words), *map(str, [] if env else join)]
        environment = dict(os.environ, PYTHONPATH=str(ROOT), **(env or {}))
        if env:
            environment |= {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}
        started.append(
            subprocess.Popen(
                line,
                cwd=folders[number] if folders else ROOT,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    return started


def ends(started: list[subprocess.Popen]) -> list[Ended]:
    """Wait until all of them have ended."""
    try:
        found = [(one, *one.communicate(timeout=SECONDS)) for one in started]
    finally:
        for one in started:
            one.kill()
    return [Ended(one.returncode, out, err) for one, out, err in found]


def together(count: int, *words: object, **options: object) -> list[Ended]:
    """Run a command in so many processes, to the end. options: of `start`."""
    return ends(start(count, *words, **options))
