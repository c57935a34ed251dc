"""Small files: whole or not there, never written through a link; one writer; sizes are read as they are written."""

import os
import subprocess
import sys

import pytest
from helpers.errors import refused

from demega_jax.files import atomic_write, format_bytes, locked, parse_bytes, write_text


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "there" / "file.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_planted_link_is_replaced_and_its_target_untouched(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "file").symlink_to(target)
    write_text(tmp_path / "file", "new")
    assert target.read_text() == "precious" and not (tmp_path / "file").is_symlink()


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("a file where a folder is wanted")
    with refused("cannot be written", where=tmp_path / "file" / "below"):
        write_text(tmp_path / "file" / "below", "x")


def test_another_process_that_writes_is_named(tmp_path):
    path = tmp_path / "part"
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with refused("another process", where=path), path.open("ab", buffering=0) as file, locked(path, file):
            raise AssertionError("two writers")
        other.communicate("")
    with path.open("ab", buffering=0) as file, locked(path, file):
        assert path.exists()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (12, "12 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**19, "1.5 MiB"),
        (5 * 2**29, "2.50 GiB"),
        (2**41, "2.00 TiB"),
    ],
)
def test_a_size_is_read_as_it_is_written(count, text):
    assert format_bytes(count) == text and parse_bytes(text) == count
