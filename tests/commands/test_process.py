"""Commands as processes: exit statuses, readers that go, and interrupts. Real signals go to real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import SMALL

from demega_jax.commands.shared.process import Process, ending_at_once

COMMAND = [sys.executable, "-m", "demega_jax"]


def without_reader(words: list[str], cwd: Path) -> subprocess.CompletedProcess:
    """A command whose output nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [*COMMAND, *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            timeout=300,
            check=False,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "group --help",
        "simulate out --level 5 --groups 8 --sensors 3 --time-points 4",
        "shard {data} shards",
        "inspect {data}",
        "evaluate {run}",
        "group {data} out --level 5 --level 5",
        "train {root}/configs/tiny.yaml --data {data} --dry-run --devices 1",
    ],
)
@pytest.mark.slow
def test_a_reader_that_has_gone_ends_a_command_with_141(data, run, tmp_path, line):
    words = line.format(data=data, run=run, root=os.getcwd()).split()
    done = without_reader(words, tmp_path)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    if "--level 5 --level 5" in line:
        assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: --level")
    else:
        assert (done.returncode, lines) == (141, [])


@pytest.fixture
def training(data, tmp_path):
    """`start()` is a process that trains for long, once it has logged its first steps."""
    started: list[subprocess.Popen] = []

    def start(*more: str) -> subprocess.Popen:
        words = ["train", "configs/tiny.yaml", "--data", str(data), "--run", str(tmp_path / "a run"), *SMALL]
        words += ["train.steps=2000000", "train.eval_every=1000000", "train.log_every=20", *more]
        process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        for line in process.stdout:
            if " epoch " in line:  # of the log, after the time
                return process
        raise AssertionError(process.stderr.read())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def warnings_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if "interrupted" in line or "ended" in line]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
@pytest.mark.slow
def test_a_signal_is_answered_at_once_and_the_command_that_goes_on_can_be_pasted(training, tmp_path, number):
    process = training("--devices", "1", "--parallel", "pmap")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert len(warnings_of(err)) == 1 and "saving" in warnings_of(err)[0]
    go_on = out.splitlines()[-1].strip()
    assert go_on == f"demega-jax train --resume --run '{tmp_path}/a run' --parallel pmap --devices 1"
    done = subprocess.run(
        go_on.replace("demega-jax", " ".join(COMMAND)) + " train.steps=1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "going on after step" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(training):
    process = training("--devices", "1", "train.batch_size=120")
    process.send_signal(signal.SIGSTOP)  # both signals wait for it
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert len(warnings_of(err)) == 2


BUSY = """
import hashlib, os, signal, threading, time
from demega_jax.training.signals import Signals
with Signals().noted() as signals:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 5_000_000)
    print("done", signals.received, flush=True)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


@pytest.mark.slow
def test_a_signal_is_answered_while_compiled_code_holds_the_main_thread():
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("warning: interrupted")
    answered = time.perf_counter()
    assert process.stdout.readline() == f"done {signal.SIGINT.value}\n"
    assert time.perf_counter() - answered > 0.5
    assert process.wait() == 0


IMPORTING = """
import os, signal, sys
from demega_jax.commands.shared.process import Process, ending_at_once
with ending_at_once(Process((), True)):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10_000_000): pass
    except BaseException:
        print("raised")
print("went on")
"""


def test_ctrl_c_while_jax_is_imported_ends_at_once_without_an_exception():
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "warning: interrupted\n")


def test_a_process_of_another_program_keeps_its_handlers():
    before = signal.getsignal(signal.SIGINT)
    with ending_at_once(Process((), False)):
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0])
@pytest.mark.slow
def test_ctrl_c_at_any_time_of_the_start_leaves_no_traceback(data, tmp_path, seconds):
    words = ["train", "configs/tiny.yaml", "--data", str(data), "--run", str(tmp_path / "run"), "--devices", "1"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err, err


def test_a_failed_process_does_not_wait_for_a_thread_that_does_not_end():
    """As threads of orbax do not, after a save that failed."""
    script = (
        "import sys, threading, demega_jax.cli as cli; cli.LINGER = 0.2;"
        "threading.Thread(target=threading.Event().wait).start();"
        "sys.argv = ['demega-jax', 'evaluate', 'nowhere']; sys.exit(cli.main())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
