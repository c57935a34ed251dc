"""Sharding that was killed, or whose files were altered, goes on and gives the same bytes."""

import shutil
import signal
import subprocess
import sys

import pytest
from helpers.data import is_sharded, write_shards
from helpers.runs import files_in, flip_bit, run_command
from helpers.shards import SMALL

KILLED = """
import os, signal, sys
from demega_jax.data import hdf5 as aside
from demega_jax.cli import main
checks = 0
def check(disk):
    global checks
    checks += 1
    if checks == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
aside.Disk.check = check
main(sys.argv[2:])
"""


@pytest.mark.parametrize("checks", [1, 8])  # in the first shard, and in the third: three or so come with each shard
def test_what_was_killed_goes_on_and_gives_the_same_bytes(source, shards, tmp_path, checks):
    out = tmp_path / "out"
    arguments = ["shard", str(source), str(out), "--shard-size", str(SMALL.shard_bytes), "--memory", str(SMALL.memory)]
    done = subprocess.run([sys.executable, "-c", KILLED, str(checks), *arguments], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    folder = out / "grouped_5"
    assert not is_sharded(folder) and len(list(folder.rglob("*.partial"))) == 1
    finished = {path: path.stat().st_ino for path in folder.rglob("*.h5")}
    assert len(finished) == (0 if checks == 1 else 2)
    assert run_command(*arguments, "--seed", 1) == 2  # not what was begun
    assert run_command(*arguments) == 0
    assert {path: path.stat().st_ino for path in finished} == finished
    assert files_in(folder) == files_in(shards)


def test_altered_shards_are_made_again(source, shards, tmp_path, capsys):
    folder = tmp_path / "out" / "grouped_5"
    shutil.copytree(shards, folder)
    kept = {path: path.stat().st_ino for path in folder.rglob("*.h5")}
    for name in ("train/shard-00001.h5", "test/shard-00000.h5"):
        kept.pop(folder / name)
    flip_bit(folder / "train" / "shard-00001.h5", -700)
    (folder / "test" / "shard-00000.h5").unlink()
    write_shards(source, tmp_path / "out", settings=SMALL)
    assert files_in(folder) == files_in(shards)
    assert {path: path.stat().st_ino for path in kept} == kept
