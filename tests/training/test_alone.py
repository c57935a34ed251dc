"""One process trains in a run folder; what a killed one left is removed; readers beside a living one see no damage."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading

import pytest
from helpers.errors import fails_with, refused, the_warning
from helpers.runs import files_in, inspect, run_command, train_arguments
from helpers.small_run import KEYS, meta_file

from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.files import is_held
from demega_jax.training.alone import UNFINISHED, alone_in, check_alone
from demega_jax.training.checkpoint import Checkpoints
from demega_jax.training.restore import create_members
from demega_jax.training.run import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from demega_jax.config import Config
from demega_jax.training.alone import alone_in
from demega_jax.training.run import RunFolder
with alone_in(RunFolder(Path(sys.argv[1])), Config()):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_one_line(run, data, tmp_path, capsys):
    with alone_in(RunFolder(run), Config()):
        before = files_in(run)
        for words in (
            ["train", "--resume", "--run", run],
            train_arguments(data, run, *KEYS),
            train_arguments(data, run, *KEYS, "--dry-run"),
        ):
            fails_with(capsys, words, run, "another process", "--run")
        assert files_in(run) == before
    check_alone(RunFolder(run))


def test_a_killed_process_leaves_no_lock(tmp_path):
    folder = RunFolder(tmp_path / "run")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder.path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with refused("another process", where=folder.path):
            check_alone(folder)
        with refused("another process", where=folder.path), alone_in(folder, Config()):
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert folder.lock.exists()
    check_alone(folder)
    folder.check_new()  # the lock alone is nothing that a new run would overwrite
    with alone_in(folder, Config()):
        folder.create(Config())


def test_a_member_is_held_with_its_run(tmp_path):
    folder, config = RunFolder(tmp_path), override(Config(), {"data.feed": "resident", "train.members": 2}, "")
    with alone_in(folder, config):
        folder.create(config)
        create_members(config, folder)
        with refused("another process", where=tmp_path / "members" / "1"):
            check_alone(RunFolder(tmp_path / "members" / "1"))
    with (
        alone_in(RunFolder(tmp_path / "members" / "1"), Config()),
        refused("another process"),
        alone_in(folder, config),
    ):
        pass


def test_a_start_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), alone_in(RunFolder(tmp_path / "a" / "run"), Config()):
        raise RuntimeError
    assert not (tmp_path / "a" / "run").exists()
    (tmp_path / "file").touch()
    with (
        refused("cannot be written", where=tmp_path / "file" / "run"),
        alone_in(RunFolder(tmp_path / "file/run"), Config()),
    ):
        pass


def leave_unfinished(run) -> list:
    """What killed saves leave: checkpoints and files under the names that they have while they are written."""
    left = [run / "checkpoints" / kind / f"9{UNFINISHED}-17" / "model" for kind in ("latest", "best")]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "d").write_bytes(b"half")
    aside = [run / ".config.yaml.abc.tmp", run / ".metrics.jsonl.abc.tmp"]
    for file in aside:
        file.write_text("half")
    return [folder.parent for folder in left] + aside


def test_unfinished_saves_are_removed_by_the_next_start(run):
    before = files_in(run)
    left = leave_unfinished(run)
    assert Checkpoints(run / "checkpoints").steps("latest") == [3, 6]  # they are no checkpoints
    with alone_in(RunFolder(run), Config()):
        assert not any(path.exists() for path in left)
    assert files_in(run) == before


def test_a_save_in_progress_has_the_name_that_is_removed(tmp_path):
    """The name is orbax's own."""
    from orbax.checkpoint._src.path import atomicity_types

    assert atomicity_types.TMP_DIR_SUFFIX == UNFINISHED


def test_a_file_system_without_locks(run, monkeypatch, warnings):
    left = leave_unfinished(run)

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with alone_in(RunFolder(run), Config()):
        the_warning(warnings, run / "checkpoints", "without locks")
        assert all(path.exists() for path in left)  # they may be those of a living process
    check_alone(RunFolder(run))


@pytest.mark.slow
def test_readers_beside_a_living_run(run, capsys):
    """A checkpoint that is half removed when it is read is gone a moment later: it is not damaged."""
    checkpoint = run / "checkpoints" / "latest" / "6"
    with alone_in(RunFolder(run), Config()):
        assert is_held(RunFolder(run).lock)
        meta_file(run, "latest", 6).unlink()
        threading.Timer(0.7, shutil.rmtree, [checkpoint]).start()
        status, _, err = inspect(capsys, run)
        assert (status, err) == (0, "")
        assert not checkpoint.exists()
        assert run_command("evaluate", run) == 0
        assert "damaged" not in capsys.readouterr().err


@pytest.mark.slow
def test_half_a_checkpoint_of_no_living_run_is_damaged(run, capsys):
    meta_file(run, "latest", 6).unlink()
    assert inspect(capsys, run)[0] == 2
    assert Checkpoints(run / "checkpoints").read_newest("latest")[1]["step"] == 3
    the_warning(capsys.readouterr().err.splitlines(), run / "checkpoints" / "latest" / "6", "damaged", "step 3")
