"""Real signals to real processes at known moments: one line, 130 or 143, and nothing half written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
SAID = {signal.SIGINT: "warning: interrupted", signal.SIGTERM: "warning: ended by SIGTERM"}
# `-X importtime` tells on stderr of each module that was imported: the moments at which signals are sent.
START = [sys.executable, "-X", "importtime", "-m", "demega_jax"]


def signalled_after(module: str, number: int, words: list[str], cwd: Path) -> tuple[int, list[str]]:
    """(exit status, our lines) of a command that gets a signal when it has imported a module."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*START, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env, cwd=cwd
    )
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("import time:") and line.rpartition("|")[2].strip() == module:
            process.send_signal(number)
        elif not line.startswith("import time:"):
            lines.append(line.rstrip())
    return process.wait(timeout=120), lines


TRAIN = ["train", str(ROOT / "configs/tiny.yaml"), "--run", "run", "--devices", "1"]


@BOTH
@pytest.mark.parametrize("module", ["demega_jax.errors", "typer", "demega_jax.names", "numpy", "jax._src.core"])
def test_at_any_moment_of_the_start(data, tmp_path, number, module):
    """jax is imported in the last one."""
    status, lines = signalled_after(module, number, [*TRAIN, "--data", str(data)], tmp_path)
    assert (status, lines) == (128 + number, [SAID[number]])
    assert not list(tmp_path.iterdir())


def partial_files(folder: Path, *, least: int = 0) -> list[str]:
    """Names of half-written files that have at least so many bytes."""
    found = [path for path in folder.rglob("*") if path.name.endswith((".partial", ".tmp"))]
    return [path.name for path in found if path.stat().st_size >= least]


@BOTH
def test_what_is_half_written_is_removed(tmp_path, number):
    words = ["simulate", str(tmp_path / "out"), "--level", "5", "--groups", "200000", "--sensors", "50"]
    process = subprocess.Popen(START[:1] + START[3:] + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not partial_files(tmp_path, least=1):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()) == (128 + number, [SAID[number]])
    assert not partial_files(tmp_path)


IGNORING = """
import signal, sys
from demega_jax.commands.shared.interrupts import answer_signals, end_in_order
mine = lambda number, frame: None
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, mine)
answer_signals()
assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN and signal.getsignal(signal.SIGTERM) is mine
signal.signal(signal.SIGTERM, signal.SIG_DFL)
answer_signals()
assert signal.getsignal(signal.SIGTERM) is end_in_order
"""


def test_what_a_process_ignores_or_answers_itself_stays_so():
    """As a command of a shell that runs in the background."""
    subprocess.run([sys.executable, "-c", IGNORING], check=True, cwd=ROOT)


DROPPING = """
import os, signal, time
from demega_jax.commands.shared.interrupts import answer_signals
answer_signals()
class Removed:
    def __del__(self):
        os.kill(os.getpid(), {number})
        time.sleep(0.1)
one = Removed()
del one
time.sleep(20)
"""


@BOTH
def test_a_signal_is_answered_that_python_drops_as_it_removes_an_object(number):
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", DROPPING.format(number=int(number))], capture_output=True, text=True)
    assert ended.returncode == (-2 if number == signal.SIGINT else 143)
    assert SAID[number] in ended.stderr and "ignored" not in ended.stderr
    assert time.monotonic() - begun < 15
