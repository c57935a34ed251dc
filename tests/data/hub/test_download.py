"""`demega-jax download` against a hub on the loopback interface, by the hub's real client."""

import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import GOLDEN
from hub_server import LARGE, Dataset, Hub, commit_name, git_sha1, serve
from huggingface_hub import constants

from demega_jax.cli import main
from demega_jax.data.hub import transfer as hub_transfer
from demega_jax.data.hub.download import GROUPED_REPO, RECORDINGS_MIRROR, RECORDINGS_REPO
from demega_jax.data.simulate.grouped import simulate_grouped

SPLITS = ("train", "validation", "test")
TRAIN_10 = "data/grouped_10/train_grouped.h5"
OLD, NEW = commit_name(1), commit_name(2)
PROCESSING = "proc-bads+headpos+sss+notch+bp+ds_meg.h5"


def grouped_files() -> dict[str, bytes]:
    """Levels 5 and 10 as the original library wrote them, by their path in the dataset."""
    names = [f"grouped_{level}/{split}_grouped.h5" for level in (5, 10) for split in SPLITS]
    return {f"data/{name}": (GOLDEN / name).read_bytes() for name in names} | {"README.md": b"# A dataset\n"}


def recording(session: str, task: str, run: str, samples: int = 800) -> dict[str, bytes]:
    """A recording of three sensors and its events, by their paths in the dataset."""
    stem = f"sub-0_ses-{session}_task-{task}_run-{run}"
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["data"] = np.random.default_rng(samples).normal(0, 1e-12, (3, samples)).astype(np.float32)
        file["times"] = np.arange(samples) / 250
        file.attrs["sample_frequency"] = 250.0
    events = "kind\tsegment\ttimemeg\nphoneme\taa_B\t0.5\nword\tah\t0.5\nphoneme\tt_E\t0.7\n"
    return {
        f"{task}/derivatives/serialised/{stem}_{PROCESSING}": buffer.getvalue(),
        f"{task}/derivatives/events/{stem}_events.tsv": events.encode(),
    }


RUNS = (("1", "Sherlock1", "1"), ("2", "Sherlock1", "1"), ("11", "Sherlock1", "2"), ("12", "Sherlock1", "2"))


def recording_files() -> dict[str, bytes]:
    return {path: content for i, run in enumerate(RUNS) for path, content in recording(*run, 800 + i).items()}


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    datasets = {
        GROUPED_REPO: Dataset({NEW: grouped_files()}),
        RECORDINGS_REPO: Dataset({NEW: recording_files()}),
        RECORDINGS_MIRROR: Dataset({NEW: {}}),
    }
    with serve(datasets) as hub:
        # What a user sets by HF_ENDPOINT, which the client reads but once.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setattr(hub_transfer, "WAITS", (0.01, 0.01))
        yield hub


def download(*arguments: object) -> int:
    return main(["download", *map(str, arguments)])


def fails(capsys, *arguments: object) -> str:
    """The one line of a download that stops with exit status 2."""
    capsys.readouterr()
    assert download(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("warning: ")] == lines[-1:]
    assert lines[-1].startswith("error: ")
    return lines[-1]


def contents(out: Path) -> dict[str, bytes]:
    """All files below a folder but its record."""
    return {
        str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != "download.json"
    }


def test_grouped_files_arrive_and_are_not_fetched_again(hub, tmp_path, capsys):
    out = tmp_path / "out"
    assert download(out, "--level", 10, 5) == 0
    files = {name.removeprefix("data/"): content for name, content in grouped_files().items() if "grouped" in name}
    assert contents(out) == files
    printed = capsys.readouterr().out
    assert f"{GROUPED_REPO} at {NEW[:12]}" in printed and "6 files, 643.5 KiB: 643.5 KiB to fetch, " in printed
    record = json.loads((out / "download.json").read_text())
    assert (record["format"], record["version"]) == ("demega-jax download", 1)
    dataset = record["datasets"][GROUPED_REPO]
    assert dataset["revision"] == NEW and dataset["files"].keys() == files.keys()
    train = dataset["files"]["grouped_10/train_grouped.h5"]
    assert train["source"] == TRAIN_10 and train["size"] == len(files["grouped_10/train_grouped.h5"])
    assert train["sha256"] == hashlib.sha256(files["grouped_10/train_grouped.h5"]).hexdigest()
    # Each file was asked for once (and once more at the store that the hub sends the client to), at the commit.
    assert sorted(path for path, _ in hub.bytes_asked()) == sorted(f"data/{name}" for name in files)
    assert all(f"/resolve/{NEW}/" in path for _, path, _ in hub.requests if "/resolve/" in path)

    hub.requests.clear()
    assert download(out, "--level", 5, 10) == 0
    assert not hub.bytes_asked()
    assert "6 files, 643.5 KiB: 643.5 KiB are here, nothing to fetch" in capsys.readouterr().out
    assert main(["inspect", str(out)]) == 0


def test_a_split_of_a_level(hub, tmp_path):
    assert download(tmp_path, "--level", 10, "--split", "test", "validation") == 0
    assert sorted(contents(tmp_path)) == ["grouped_10/test_grouped.h5", "grouped_10/validation_grouped.h5"]


def test_a_file_that_changed_since_is_read_again_and_not_fetched(hub, tmp_path, capsys):
    """Copied elsewhere, a file has another time: its bytes say that it is the hub's."""
    assert download(tmp_path, "--level", 10) == 0
    os.utime(tmp_path / "grouped_10" / "train_grouped.h5", (1, 1))
    hub.requests.clear()
    capsys.readouterr()
    assert download(tmp_path, "--level", 10) == 0
    assert "kept grouped_10/train_grouped.h5" in capsys.readouterr().out and not hub.bytes_asked()


@pytest.mark.parametrize("folder", ["data/grouped_10", "grouped_10"])
def test_files_of_other_tools_are_kept_where_they_are(hub, tmp_path, capsys, folder):
    place = tmp_path / folder
    place.mkdir(parents=True)
    (place / "train_grouped.h5").write_bytes(grouped_files()[TRAIN_10])
    assert download(tmp_path, "--level", 10) == 0
    assert sorted(contents(tmp_path)) == [f"{folder}/{split}_grouped.h5" for split in sorted(SPLITS)]
    assert TRAIN_10 not in dict(hub.bytes_asked()) and len(hub.bytes_asked()) == 2
    assert f"kept {folder}/train_grouped.h5" in capsys.readouterr().out


def test_splits_of_a_level_come_together_in_one_folder(hub, tmp_path, capsys):
    """One folder alone is read: what lies in the other place is moved, not fetched."""
    for name in ("grouped_10/test", "data/grouped_10/train"):
        path = tmp_path / f"{name}_grouped.h5"
        path.parent.mkdir(parents=True)
        path.write_bytes((GOLDEN / "grouped_10" / path.name).read_bytes())
    assert download(tmp_path, "--level", 10) == 0
    assert sorted(contents(tmp_path)) == [f"grouped_10/{split}_grouped.h5" for split in sorted(SPLITS)]
    assert [path for path, _ in hub.bytes_asked()] == ["data/grouped_10/validation_grouped.h5"]
    assert "moved data/grouped_10/train_grouped.h5" in capsys.readouterr().out


def test_recordings_arrive_in_the_order_of_runs(hub, tmp_path, capsys):
    assert download(tmp_path, "--recordings") == 0
    assert contents(tmp_path) == recording_files()
    record = json.loads((tmp_path / "download.json").read_text())["datasets"][RECORDINGS_REPO]
    small = next(entry for name, entry in record["files"].items() if name.endswith(".tsv"))
    assert small["sha256"] is None and small["git_sha1"] == git_sha1(recording_files()[small["source"]])
    sessions = [path.split("ses-")[1].split("_")[0] for path, _ in hub.bytes_asked()]
    assert sessions == ["1", "1", "2", "2", "11", "11", "12", "12"]
    assert not [path for _, path, _ in hub.requests if RECORDINGS_MIRROR in path]
    assert capsys.readouterr().err == ""
    hub.requests.clear()
    assert download(tmp_path, "--recordings") == 0
    assert not hub.bytes_asked()


def test_some_recordings(hub, tmp_path):
    assert download(tmp_path / "a", "--recordings", "--run", "2:Sherlock1:1", "12:Sherlock1:2") == 0
    assert contents(tmp_path / "a").keys() == {*recording(*RUNS[1]), *recording(*RUNS[3])}
    assert download(tmp_path / "b", "--recordings", "--split", "validation", "train") == 0
    assert contents(tmp_path / "b").keys() == recording_files().keys() - recording(*RUNS[3]).keys()


def test_runs_that_are_missing_are_left_out_with_one_line(hub, tmp_path, capsys):
    lonely = "Sherlock4/derivatives/events/sub-0_ses-8_task-Sherlock4_run-1_events.tsv"
    hub.datasets[RECORDINGS_REPO].commits[NEW][lonely] = b"kind\tsegment\ttimemeg\n"
    del hub.datasets[RECORDINGS_MIRROR]
    assert download(tmp_path, "--recordings") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2 and "mirror cannot be asked" in warnings[0]
    assert "1 run is not on the hub whole, left out: 8:Sherlock4:1 (no recording)" in warnings[1]
    assert contents(tmp_path) == recording_files()
    error = fails(capsys, tmp_path, "--recordings", "--run", "9:Sherlock9:1")
    assert "9:Sherlock9:1 (no recording and events)" in error and "1:Sherlock1:1, 2:Sherlock1:1" in error


def test_the_mirror_gives_what_the_first_lacks(hub, tmp_path, capsys):
    first = hub.datasets[RECORDINGS_REPO].commits[NEW]
    gone = next(path for path in first if "ses-2_" in path and path.endswith(".h5"))
    hub.datasets[RECORDINGS_MIRROR].commits[NEW] = {gone: first.pop(gone)}
    assert download(tmp_path, "--recordings") == 0
    assert contents(tmp_path) == recording_files()
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{RECORDINGS_REPO} lacks 1 file; taken from {RECORDINGS_MIRROR}: 2:Sherlock1:1" in warning
    record = json.loads((tmp_path / "download.json").read_text())["datasets"]
    assert list(record[RECORDINGS_MIRROR]["files"]) == [gone] and len(record[RECORDINGS_REPO]["files"]) == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--level", 10, "--repo", "nobody/nothing"], "no such dataset, or one that this account may not see (401)"),
        (["--level", 10, "--revision", "v9"], "no revision v9"),
        (["--level", 7], "--level 7: not in wordcab/libribrain-meg-preprocessed; wanted a level that it has: 5, 10"),
        (["--level", 10, "--run", "1:Sherlock1:1"], "--run: given with --level"),
        (["--recordings", "--run", "Sherlock1"], "wanted SESSION:TASK:RUN"),
        (["--level", 10, "--repo", "nothing"], "wanted OWNER/NAME"),
        (["--level", 10, "--repo", "no body/nothing"], "wanted OWNER/NAME"),
        (["--recordings", "--run", "1:Sherlock1:1", "--split", "test"], "no run of pnpl/LibriBrain in test"),
        (["--recordings", "--repo", GROUPED_REPO], "wanted a dataset with recordings"),
    ],
)
def test_what_is_not_on_the_hub_is_one_line(hub, tmp_path, capsys, arguments, said):
    assert said in fails(capsys, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_split_or_a_file_that_is_missing(hub, tmp_path, capsys):
    dataset = hub.datasets[GROUPED_REPO]
    dataset.missing = {TRAIN_10}
    assert f"{TRAIN_10}: no such file at revision {NEW[:12]}" in fails(capsys, tmp_path, "--level", 10)
    del dataset.commits[NEW][TRAIN_10]
    error = fails(capsys, tmp_path, "--level", 10)
    assert "--split train: not in grouped_10" in error and "--split validation test" in error


@pytest.mark.parametrize("status", [401, 403])
def test_gated(hub, tmp_path, capsys, status):
    hub.datasets[GROUPED_REPO].gate = (status, "GatedRepo")
    error = fails(capsys, tmp_path, "--level", 10)
    assert f"gated ({status})" in error and f"accept them at {hub.url}/datasets/{GROUPED_REPO}" in error
    assert "hf auth login" in error and "HF_TOKEN" in error
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("status", [401, 403])
def test_access_refused(hub, tmp_path, capsys, status):
    hub.datasets[GROUPED_REPO].gate = (status, "")
    error = fails(capsys, tmp_path, "--level", 10)
    assert f"({status})" in error and "hf auth login" in error


def test_the_token_goes_to_the_hub_alone(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert download(tmp_path, "--level", 10, "--split", "test") == 0
    assert {token for _, token in hub.tokens} == {"Bearer hf_secret"}
    asked = [path for _, path, _ in hub.requests]
    assert [path for path, _ in hub.tokens] == [path for path in asked if not path.startswith("/store/")]
    assert any(path.startswith("/store/") for path in asked)


def test_a_hub_that_is_not_there(hub, tmp_path, capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        error = fails(capsys, tmp_path / "out", "--level", 10)
    assert "cannot be reached" in error and "check the network" in error
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "offline by HF_HUB_OFFLINE" in fails(capsys, tmp_path / "out", "--level", 10)
    assert not (tmp_path / "out").exists()


def test_a_connection_that_is_cut_is_gone_on_with(hub, tmp_path, capsys):
    size = len(grouped_files()[TRAIN_10])
    hub.cuts = [50_000, 60_001]
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    asked = [(path, sent) for method, path, sent in hub.requests if path.startswith("/store/")]
    assert [sent for _, sent in asked] == [None, f"bytes=50000-{size - 1}", f"bytes=110001-{size - 1}"]
    assert (tmp_path / "grouped_10" / "train_grouped.h5").read_bytes() == grouped_files()[TRAIN_10]
    assert "warning: the connection was cut 2 times; what had come was kept" in capsys.readouterr().err


def test_a_connection_that_stays_cut_is_gone_on_with_by_the_next_run(hub, tmp_path, capsys):
    content = grouped_files()[TRAIN_10]
    hub.cuts = [70_000, 0, 0]
    error = fails(capsys, tmp_path, "--level", 10, "--split", "train")
    assert f"stopped at 70000 of {len(content)} bytes" in error and "run the same command again" in error
    (partial,) = contents(tmp_path)
    assert partial.endswith(".partial") and contents(tmp_path)[partial] == content[:70_000]
    hub.requests.clear()
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert hub.bytes_asked() == [(TRAIN_10, f"bytes=70000-{len(content) - 1}")]
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": content}
    assert "68.4 KiB came before" in capsys.readouterr().out


def test_a_hub_in_trouble_is_asked_again(hub, tmp_path, capsys):
    hub.refusals = [503, 500]
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert "the connection was cut 2 times" in capsys.readouterr().err
    hub.refusals = [502, 503, 504]
    error = fails(capsys, tmp_path / "b", "--level", 10, "--split", "train")
    assert "stopped at 0 of 132672 bytes (the hub answers 504), and 2 more tries brought nothing" in error


def test_too_many_requests_wait_as_long_as_the_hub_asks(hub, tmp_path, monkeypatch):
    from huggingface_hub.utils import _http

    waits: list[float] = []
    monkeypatch.setattr(_http.time, "sleep", waits.append)
    hub.refusals = [429]
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert max(waits) == 4  # the 3 s that the server names, and the client's one for safety
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}


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
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }  # fmt: skip
    return [sys.executable, "-m", "demega_jax", "download", str(out), "--level", "10", "--split", "train"], environment


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_ended_is_gone_on_with(hub, tmp_path, sent):
    """In mid transfer: nothing has the final name, and the next run asks for the rest alone."""
    content, out = grouped_files()[TRAIN_10], tmp_path / "out"
    hub.slow = (4096, 0.05)
    words, environment = command(hub, out, tmp_path)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not any(p.stat().st_size > 10_000 for p in out.rglob("*.partial")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130), errors
    (partial,) = out.rglob("*.partial")
    there = partial.stat().st_size
    assert 10_000 < there < len(content) and partial.read_bytes() == content[:there]
    assert not list(out.rglob("*.h5"))
    if sent == signal.SIGINT:
        assert "run the same command again to go on" in errors and "Traceback" not in errors
    hub.slow = None
    hub.requests.clear()
    assert download(out, "--level", 10, "--split", "train") == 0
    assert hub.bytes_asked() == [(TRAIN_10, f"bytes={there}-{len(content) - 1}")]
    assert contents(out) == {"grouped_10/train_grouped.h5": content}


def test_two_at_once_do_not_write_one_file(hub, tmp_path, capsys):
    hub.slow = (4096, 0.05)
    words, environment = command(hub, tmp_path / "out", tmp_path)
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
        while not any(p.stat().st_size for p in (tmp_path / "out").rglob("*.partial")):
            assert process.poll() is None
            time.sleep(0.01)
        assert "another process is fetching" in fails(capsys, tmp_path / "out", "--level", 10, "--split", "train")
        assert process.wait(30) == 0
    assert contents(tmp_path / "out") == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}


def test_bytes_that_are_not_those_listed_are_refused(hub, tmp_path, capsys):
    hub.datasets[GROUPED_REPO].checksums[TRAIN_10] = "0" * 64
    error = fails(capsys, tmp_path, "--level", 10, "--split", "train")
    assert "checksum" in error and f"with {'0' * 16}, as the hub lists" in error
    assert not contents(tmp_path)


def test_a_small_file_is_checked_too(hub, tmp_path, capsys, monkeypatch):
    path = next(path for path in recording_files() if path.endswith("ses-1_task-Sherlock1_run-1_events.tsv"))
    content = hub.datasets[RECORDINGS_REPO].commits[NEW][path]
    assert len(content) < LARGE
    monkeypatch.setattr("hub_server.git_sha1", lambda content: "0" * 40)
    assert "0000000000000000" in fails(capsys, tmp_path, "--recordings", "--run", "1:Sherlock1:1")
    assert not contents(tmp_path)


@pytest.mark.parametrize("wrong", [-5, 5])
def test_a_size_that_is_not_the_one_listed_is_refused(hub, tmp_path, capsys, wrong):
    hub.datasets[GROUPED_REPO].sizes[TRAIN_10] = len(grouped_files()[TRAIN_10]) + wrong
    fails(capsys, tmp_path, "--level", 10, "--split", "train")
    assert not list(tmp_path.rglob("*.h5"))


def test_what_came_before_and_is_wrong_is_fetched_anew(hub, tmp_path, capsys):
    hub.cuts = [70_000, 0, 0]
    fails(capsys, tmp_path, "--level", 10, "--split", "train")
    (partial,) = tmp_path.rglob("*.partial")
    partial.write_bytes(b"x" + partial.read_bytes()[1:])
    assert download(tmp_path, "--level", 10, "--split", "train") == 0
    assert "not what the hub has; fetched anew" in capsys.readouterr().err
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": grouped_files()[TRAIN_10]}


@pytest.mark.parametrize(
    ("there", "said"),
    [(b"", "gone on with"), (b"half", "gone on with"), (b"x" * 132_672, "replaced"), (b"x" * 200_000, "replaced")],
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
    assert f"{path}: {len(there)} bytes of {len(content)}, and not readable: {said}" in capsys.readouterr().err
    assert contents(tmp_path) == {"grouped_10/train_grouped.h5": content}
    wanted = f"bytes=66000-{len(content) - 1}" if len(there) == 66_000 else None
    assert hub.bytes_asked() == [(TRAIN_10, wanted)]


def test_a_sound_file_of_the_user_is_left_alone(hub, tmp_path, capsys):
    simulate_grouped(tmp_path, levels=[10], groups=48, sensors=3, time_points=9)
    before = contents(tmp_path)
    assert "a sound file, but not that of" in fails(capsys, tmp_path, "--level", 10)
    assert contents(tmp_path) == before and not hub.bytes_asked()


def test_space_is_checked_before_anything_is_fetched(hub, tmp_path, capsys):
    hub.datasets[GROUPED_REPO].sizes[TRAIN_10] = 2**60
    error = fails(capsys, tmp_path / "out", "--level", 10)
    assert f"{2**30:.1f} GiB are needed and " in error and "GiB are free" in error
    assert not hub.bytes_asked() and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(hub, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "cannot be" in fails(capsys, tmp_path / "file", "--level", 10)
    assert "cannot be" in fails(capsys, tmp_path / "file" / "out", "--level", 10)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "grouped_10").write_text("")
    assert "cannot be written" in fails(capsys, tmp_path / "out", "--level", 10)


def test_a_disk_that_is_full(hub, tmp_path):
    """A limit on the size of files stands in for it."""
    words, environment = command(hub, tmp_path / "out", tmp_path)
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "from demega_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", script, *words[3:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "cannot be written (File too large)" in done.stderr.splitlines()[-1], done.stderr
    assert not list(tmp_path.rglob("*.h5"))
    hub.requests.clear()
    assert download(tmp_path / "out", "--level", 10, "--split", "train") == 0
    assert hub.bytes_asked() == [(TRAIN_10, f"bytes=60000-{len(grouped_files()[TRAIN_10]) - 1}")]


@pytest.fixture
def moved_on(hub, tmp_path) -> Path:
    """Level 10 of the old commit in a folder; since then the hub has another train file of that level."""
    old = grouped_files()
    hub.datasets[GROUPED_REPO].commits = {OLD: old}
    assert download(tmp_path / "out", "--level", 10) == 0
    new = old | {TRAIN_10: old["data/grouped_5/train_grouped.h5"]}
    hub.datasets[GROUPED_REPO].commits = {OLD: old, NEW: new}
    hub.requests.clear()
    return tmp_path / "out"


def test_a_folder_keeps_its_revision(hub, moved_on, capsys):
    assert download(moved_on, "--level", 10, 5) == 0
    assert f"is at {NEW[:12]} now; going on with {OLD[:12]}" in capsys.readouterr().err
    assert sorted({path.split("/")[5] for _, path, _ in hub.requests if "/resolve/" in path}) == [OLD]
    assert json.loads((moved_on / "download.json").read_text())["datasets"][GROUPED_REPO]["revision"] == OLD


def test_another_revision_does_not_mix_with_what_is_there(hub, moved_on, capsys):
    for level in (5, 10):
        error = fails(capsys, moved_on, "--level", level, "--revision", "main")
        assert f"{NEW[:12]}, but {moved_on} holds 1 file of {OLD[:12]}, different in both" in error and OLD in error
    assert not hub.bytes_asked()
    (moved_on / "grouped_10" / "train_grouped.h5").unlink()
    assert download(moved_on, "--level", 10, "--revision", NEW) == 0
    assert [path for path, _ in hub.bytes_asked()] == [TRAIN_10]
    assert json.loads((moved_on / "download.json").read_text())["datasets"][GROUPED_REPO]["revision"] == NEW


def test_records_that_cannot_be_read(hub, tmp_path, capsys):
    for text, said in (("{", "damaged"), ("[]", "damaged"), ('{"version": 9}', "format 9; wanted format 1 or older")):
        (tmp_path / "download.json").write_text(text)
        assert said in fails(capsys, tmp_path, "--level", 10)


def test_a_file_that_is_damaged_on_the_hub(hub, tmp_path, capsys):
    """The bytes are the hub's, and yet no grouped file: the last check says so."""
    hub.datasets[GROUPED_REPO].commits[NEW][TRAIN_10] = grouped_files()[TRAIN_10][:100_000]
    error = fails(capsys, tmp_path, "--level", 10, "--split", "train")
    assert "grouped_10/train_grouped.h5" in error and "truncated" in error


def test_a_page_instead_of_the_hub(hub, tmp_path, capsys, monkeypatch):
    """What a network answers that wants a log-in first."""
    import hub_server

    def page(self, *arguments):
        self._send(200, b"<html>Log in</html>", {"Content-Type": "text/html"})

    monkeypatch.setattr(hub_server._Handler, "_describe", page)
    assert "the answer is not the hub's" in fails(capsys, tmp_path, "--level", 10)


def test_nothing_but_lines_where_there_is_no_terminal(hub, tmp_path, capsys):
    assert download(tmp_path, "--level", 10) == 0
    output = capsys.readouterr().out
    assert "\r" not in output and "\x1b" not in output
    assert [line.split()[0] for line in output.splitlines()[2:-1]] == ["fetched"] * 3


def test_a_bar_on_a_terminal(hub, tmp_path, monkeypatch):
    from rich.console import Console

    from demega_jax.commands.download import Transfer

    screen = io.StringIO()
    show = Transfer(Console(file=screen, force_terminal=True, width=100))
    show.begin("grouped_10/train_grouped.h5", 2**20)
    show.at(2**19)
    show.end()
    show.line("done")
    shown = screen.getvalue()
    assert "grouped_10/train_grouped.h5" in shown and "512.0 KiB of 1.0 MiB" in shown and shown.endswith("done\n")


def test_the_server_serves_what_it_lists():
    """The server itself, that no test passes by its mistakes."""
    import urllib.request

    with serve({"a/b": Dataset({NEW: {"x": bytes(range(200)) * 50}})}) as hub:
        for sent, wanted in ((None, (0, 10_000)), ("bytes=7-11", (7, 12)), ("bytes=9999-", (9999, 10_000))):
            request = urllib.request.Request(f"{hub.url}/datasets/a/b/resolve/{NEW}/x", headers={"Range": sent or ""})
            with contextlib.closing(urllib.request.urlopen(request)) as answer:
                assert answer.read() == (bytes(range(200)) * 50)[slice(*wanted)]
