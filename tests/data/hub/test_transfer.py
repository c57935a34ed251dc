"""`demega-jax download`. Bytes on their way: cut, ended, altered, too many for the disk."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.errors import assert_facts, assert_warned, has_fact
from helpers.hub import NEW, TRAIN_10, contents, download, fails, grouped_files, recording_files
from helpers.hub_server import LARGE, Hub
from helpers.runs import process, run_with_full_disk

from demega_jax.data.hub import transfer as hub_transfer
from demega_jax.data.hub.download import GROUPED_REPO, RECORDINGS_REPO


def test_a_connection_that_is_cut_is_gone_on_with(hub, tmp_path, capsys):
    size = len(grouped_files()[TRAIN_10])
    hub.cuts = [50_000, 60_001]
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    asked = [(path, sent) for method, path, sent in hub.requests if path.startswith("/store/")]
    assert [sent for _, sent in asked] == [None, f"bytes=50000-{size - 1}", f"bytes=110001-{size - 1}"]
    assert (tmp_path / "grouped_10" / "train_grouped.h5").read_bytes() == grouped_files()[TRAIN_10]
    assert_warned(capsys.readouterr().err.splitlines(), "connection", "2 times")


def test_a_connection_that_stays_cut_is_gone_on_with_by_the_next_run(hub, tmp_path, capsys):
    content = grouped_files()[TRAIN_10]
    hub.cuts = [70_000, 0, 0]
    words = [tmp_path, "--level", 10, "--split", "train"]
    fails(capsys, words, "70000", f"{len(content)} bytes", "same command again")
    (partial,) = contents(tmp_path)
    assert partial.endswith(".partial") and contents(tmp_path)[partial] == content[:70_000]
    hub.requests.clear()
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert hub.bytes_asked() == [(TRAIN_10, f"bytes=70000-{len(content) - 1}")]
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": content}
    assert_facts(capsys.readouterr().out, "68.4 KiB")


def test_a_hub_in_trouble_is_asked_again(hub, tmp_path, capsys):
    hub.refusals = [503, 500]
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert_warned(capsys.readouterr().err.splitlines(), "connection", "2 times")
    hub.refusals = [502, 503, 504]
    words = [tmp_path / "b", "--level", 10, "--split", "train"]
    fails(capsys, words, "0", "132672 bytes", "504", "2 more tries")


def test_a_server_that_knows_no_ranges(hub, tmp_path):
    hub.cuts, hub.ranges = [50_000], False
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}


def test_large_files_are_asked_for_in_windows(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_transfer, "WINDOW", 50_000)
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}
    assert [sent for _, sent in hub.bytes_asked()] == ["bytes=0-49999", "bytes=50000-99999", "bytes=100000-132671"]


def command(hub: Hub, out: Path, tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """The command as a process of its own, and its environment."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return process("download", out, "--level", 10, "--split", "train"), environment


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_ended_is_gone_on_with(hub, tmp_path, sent):
    """In mid transfer: nothing has the final name, and the next run asks for the rest alone."""
    content, out = grouped_files()[TRAIN_10], tmp_path / "out"
    hub.slow = (4096, 0.05)
    words, environment = command(hub, out, tmp_path)
    running = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not any(p.stat().st_size > 10_000 for p in out.rglob("*.partial")):
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.01)
    running.send_signal(sent)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130), errors
    (partial,) = out.rglob("*.partial")
    there = partial.stat().st_size
    assert 10_000 < there < len(content) and partial.read_bytes() == content[:there]
    assert not list(out.rglob("*.h5"))
    if sent == signal.SIGINT:
        assert has_fact(errors, "same command again") and "Traceback" not in errors
    hub.slow = None
    hub.requests.clear()
    assert download(out, "--level", 10, "--split", "train") == 0
    assert hub.bytes_asked() == [(TRAIN_10, f"bytes={there}-{len(content) - 1}")]
    assert contents(out) == {"grouped_10/train_grouped.h5": content}


def test_two_at_once_do_not_write_one_file(hub, tmp_path, capsys):
    hub.slow = (4096, 0.05)
    words, environment = command(hub, tmp_path / "out", tmp_path)
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as running:
        while not any(p.stat().st_size for p in (tmp_path / "out").rglob("*.partial")):
            assert running.poll() is None
            time.sleep(0.01)
        fails(capsys, [tmp_path / "out", "--level", 10, "--split", "train"], "another process")
        assert running.wait(30) == 0
    assert contents(tmp_path / "out") == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}


def test_bytes_that_are_not_those_listed_are_refused(hub, tmp_path, capsys):
    hub.datasets[GROUPED_REPO].checksums[TRAIN_10] = "0" * 64
    fails(capsys, [tmp_path, "--level", 10, "--split", "train"], "checksum", "0" * 16)
    assert not contents(tmp_path)


def test_a_small_file_is_checked_too(hub, tmp_path, capsys, monkeypatch):
    path = next(path for path in recording_files() if path.endswith("ses-1_task-Sherlock1_run-1_events.tsv"))
    content = hub.datasets[RECORDINGS_REPO].commits[NEW][path]
    assert len(content) < LARGE
    monkeypatch.setattr("helpers.hub_server.git_sha1", lambda content: "0" * 40)
    fails(capsys, [tmp_path, "--recordings", "--run", "1:Sherlock1:1"], "0000000000000000")
    assert not contents(tmp_path)


@pytest.mark.parametrize("wrong", [-5, 5])
def test_a_size_that_is_not_the_one_listed_is_refused(hub, tmp_path, capsys, wrong):
    hub.datasets[GROUPED_REPO].sizes[TRAIN_10] = len(grouped_files()[TRAIN_10]) + wrong
    fails(capsys, [tmp_path, "--level", 10, "--split", "train"])
    assert not list(tmp_path.rglob("*.h5"))


def test_what_came_before_and_is_wrong_is_fetched_anew(hub, tmp_path, capsys):
    hub.cuts = [70_000, 0, 0]
    fails(capsys, [tmp_path, "--level", 10, "--split", "train"])
    (partial,) = tmp_path.rglob("*.partial")
    partial.write_bytes(b"x" + partial.read_bytes()[1:])
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert_warned(capsys.readouterr().err.splitlines(), "fetched again")
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}


@pytest.mark.parametrize(
    ("there", "said"),
    [(b"", "continued"), (b"half", "continued"), (b"x" * 132_672, "replaced"), (b"x" * 200_000, "replaced")],
    ids=["empty", "half", "as-long", "longer"],
)
def test_a_file_of_another_size_is_gone_on_with_or_replaced(hub, tmp_path, capsys, there, said):
    content = grouped_files()[TRAIN_10]
    if there == b"half":
        there = content[:66_000]
    path = tmp_path / "grouped_10" / "train_grouped.h5"
    path.parent.mkdir()
    path.write_bytes(there)
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert_warned(capsys.readouterr().err.splitlines(), path, f"{len(there)} bytes", len(content), "not readable", said)
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": content}
    wanted = f"bytes=66000-{len(content) - 1}" if len(there) == 66_000 else None
    assert hub.bytes_asked() == [(TRAIN_10, wanted)]


def test_a_disk_that_is_full(hub, tmp_path):
    """A limit on the size of files stands in for it."""
    words, environment = command(hub, tmp_path / "out", tmp_path)
    done = run_with_full_disk(60_000, *words[3:], env=environment)
    assert done.returncode == 2, done.stderr
    assert_facts(done.stderr.splitlines()[-1], "cannot be written", "File too large")
    assert not list(tmp_path.rglob("*.h5"))
    hub.requests.clear()
    assert download(tmp_path / "out", "--level", 10, "--split", "train") == 0
    assert hub.bytes_asked() == [(TRAIN_10, f"bytes=60000-{len(grouped_files()[TRAIN_10]) - 1}")]
