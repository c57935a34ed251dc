"""What killed commands leave behind: the next one goes on, removes it, or says what to do."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.data import grouped_path
from helpers.errors import fails_with, refused
from helpers.recordings import GOLDEN_TREE
from helpers.runs import process, run_command

from demega_jax.interop.run_writer import aside_of
from demega_jax.names import SPLITS


def killed_when(process_words: list[str], done: Path) -> None:
    """Run a command and kill it as soon as a file is there."""
    running = subprocess.Popen(process_words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not done.exists():
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL


def content(folder: Path) -> dict[str, np.ndarray]:
    """The windows of every file below a folder, by its path from there."""
    found = {}
    for path in sorted(folder.rglob("*_grouped.h5")):
        with h5py.File(path) as file:
            found[str(path.relative_to(folder))] = file["data"][:]
    return found


def test_a_killed_simulate_goes_on(tmp_path, capsys):
    words = ["--level", "2,3", "--groups", "4000", "--sensors", "6", "--time-points", "20", "--seed", "4"]
    killed_when(process("simulate", tmp_path / "a", *words), grouped_path(tmp_path / "a", 2, "train"))
    kept = grouped_path(tmp_path / "a", 2, "train").stat()
    assert len(content(tmp_path / "a")) < 6
    assert run_command("simulate", tmp_path / "a", *words) == 0
    assert "there already" in capsys.readouterr().out
    assert grouped_path(tmp_path / "a", 2, "train").stat().st_mtime_ns == kept.st_mtime_ns
    assert run_command("simulate", tmp_path / "b", *words) == 0
    one, other = content(tmp_path / "a"), content(tmp_path / "b")
    assert one.keys() == other.keys() and len(one) == 6
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not list(tmp_path.rglob("*.partial"))
    fails_with(capsys, ["simulate", tmp_path / "a", *words], "the file exists")  # all of them, so nothing is left to do


@pytest.mark.parametrize("other", [["--seed", "5"], ["--sensors", "7"], ["--groups", "90"]])
def test_what_another_simulate_left_is_not_taken(tmp_path, capsys, other):
    words = ["--level", "2", "--groups", "80", "--sensors", "6", "--time-points", "20"]
    assert run_command("simulate", tmp_path, *words) == 0
    grouped_path(tmp_path, 2, "test").unlink()
    kept = {word: value for word, value in zip(words[::2], words[1::2], strict=True) if word != other[0]}
    line = [*(part for pair in kept.items() for part in pair), *other]
    fails_with(capsys, ["simulate", tmp_path, *line], "exists", "another", grouped_path(tmp_path, 2, "train"))
    assert not grouped_path(tmp_path, 2, "test").exists()


def test_half_a_level_of_group_is_told_so(tmp_path, capsys):
    words = ["group", GOLDEN_TREE, tmp_path / "out", "--level", "2", "--tmax", "0.2"]
    assert run_command(*words) == 0
    fails_with(capsys, words, "holds files already", "another OUT")
    there = sorted(path.name for path in (tmp_path / "out" / "grouped_2").iterdir())
    assert there == sorted(f"{split}_grouped.h5" for split in SPLITS)
    grouped_path(tmp_path / "out", 2, "test").unlink()
    fails_with(capsys, words, "no test_grouped.h5", "stopped", "remove", "again")


WRITING = """
import sys, time
from pathlib import Path
from demega_jax.interop.run_writer import aside_of
with aside_of(Path(sys.argv[1])) as aside:
    (aside / "file").write_text("x")
    Path(sys.argv[2]).touch()
    time.sleep(600)
"""


@pytest.mark.slow
def test_what_a_killed_pull_or_import_was_writing_is_removed(tmp_path):
    run, ready = tmp_path / "runs" / "run[1]", tmp_path / "ready"
    killed_when([sys.executable, "-c", WRITING, str(run), str(ready)], ready)
    ready.unlink()
    assert len(list((tmp_path / "runs").iterdir())) == 1
    (tmp_path / "runs" / ".run[1].mine.tmp").mkdir()  # without our lock
    living = subprocess.Popen([sys.executable, "-c", WRITING, str(run), str(ready)])
    try:
        while not ready.exists():
            assert living.poll() is None
            time.sleep(0.01)
        with aside_of(run) as aside:
            (aside / "whole").write_text("x")
        assert [path.name for path in run.iterdir()] == ["whole"]
        assert len(list((tmp_path / "runs").iterdir())) == 3  # the run, what is being written, and what is not ours
    finally:
        living.kill()
        living.wait()
    with refused("b"), aside_of(tmp_path / "runs" / "other"):
        from demega_jax.errors import UserError

        raise UserError("a", "b", "c", "d")
    with aside_of(tmp_path / "runs" / "run[1]2"):
        pass
    assert len(list((tmp_path / "runs").iterdir())) == 4  # another name removes nothing
