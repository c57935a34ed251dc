"""The folders that are written into, the cache, the data, and the hub."""

import errno
import fcntl
import os
import socket
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.data import grouped_path, write_grouped
from helpers.errors import assert_facts
from helpers.hub_server import Dataset, commit_name, serve
from helpers.recordings import GOLDEN_TREE
from helpers.runs import leave_on_disk
from huggingface_hub import constants

from demega_jax.benchmark.doctor import folders, hub
from demega_jax.benchmark.doctor.finding import Finding


def only(found) -> Finding:
    (finding,) = found
    return finding


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The working folder; temporary files go to another one."""
    for name in ("here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "here"


def test_folders_that_can_be_written(here):
    runs, temporary = folders.check_writing()
    assert (runs.grade, temporary.grade) == ("ok", "ok")
    assert_facts(runs.found, str(here))
    assert list(here.iterdir()) == list((here.parent / "temporary").iterdir()) == []


def test_a_full_disk(here, monkeypatch):
    leave_on_disk(monkeypatch, 2**20)
    runs, _ = folders.check_writing()
    assert runs.grade == "warning"
    assert_facts(runs.found, "1.0 MiB free")


def test_a_folder_that_cannot_be_written(here, monkeypatch):
    def refuse(*arguments, dir, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    runs, temporary = folders.check_writing()
    assert (runs.grade, temporary.grade) == ("warning", "warning")
    assert_facts(runs.found + temporary.way_out, "Read-only file system", "TMPDIR")


def test_a_file_system_without_locks(here, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    runs, temporary = folders.check_writing()
    assert (runs.grade, temporary.grade) == ("warning", "ok")
    assert_facts(runs.found, "without locks")


def test_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "program").write_bytes(bytes(3000))
    found = only(folders.check_cache())
    assert found.grade == "ok"
    assert_facts(found.found, "1 file", "2.9 KiB")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache" / "program" / "below"))
    assert only(folders.check_cache()).grade == "warning"  # a file is in the way
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert only(folders.check_cache()).grade == "note"


def test_data(here, tmp_path):
    assert only(folders.check_data(None)).grade == "note"
    write_grouped(
        grouped_path(here / "data", 5),
        np.ones((4, 3, 5), np.float32),
        np.arange(4),
        level=5,
        groups=[range(5 * row, 5 * row + 5) for row in range(4)],
    )
    found = only(folders.check_data(None))
    assert found.grade == "ok"
    assert_facts(found.found, "grouping level 5")
    assert_facts(only(folders.check_data(GOLDEN_TREE)).found, "recordings")
    (tmp_path / "empty").mkdir()
    assert_facts(only(folders.check_data(tmp_path / "empty")).found, "nothing")
    assert only(folders.check_data(tmp_path / "empty")).grade == "broken"
    assert only(folders.check_data(tmp_path / "none")).grade == "broken"


def test_the_hub_answers(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve({"anna/data": Dataset({commit_name(1): {"a": b"a"}})}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        found = only(hub.check_hub("anna/data", offline=False))
    assert found.grade == "ok"
    assert_facts(found.found, commit_name(1)[:12])


def test_the_hub_is_not_asked(monkeypatch):
    monkeypatch.setattr(hub, "_asked", None)
    assert_facts(only(hub.check_hub("anna/data", offline=True)).found, "--offline")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_facts(only(hub.check_hub("anna/data", offline=False)).found, "HF_HUB_OFFLINE")


def test_a_hub_that_does_not_answer_is_a_warning_within_seconds(monkeypatch):
    """A server that takes the connection and says nothing; one that is not there; and a name that is never found."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        found = only(hub.check_hub("anna/data", offline=False))
    assert found.grade == "warning" and time.monotonic() - began < 5
    assert found.grade == only(hub.check_hub("anna/data", offline=False)).grade == "warning"
    monkeypatch.setattr(hub, "_asked", lambda repo: time.sleep(60))
    found = only(hub.check_hub("anna/data", offline=False))
    assert found.grade == "warning"
    assert_facts(found.found, "no answer")
