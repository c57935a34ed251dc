"""`demega-jax download`. What arrives, what is kept, and what is not fetched again."""

import hashlib
import io
import json
import os

import pytest
from helpers import GOLDEN
from helpers.data import simulate_grouped
from helpers.errors import assert_facts
from helpers.hub import NEW, SPLITS, TRAIN_10, contents, download, fails, grouped_files, recording_files
from helpers.hub_server import git_sha1
from helpers.runs import run_command
from rich.console import Console

from demega_jax.commands.download import Transfer
from demega_jax.data.hub.download import GROUPED_REPO, RECORDINGS_MIRROR, RECORDINGS_REPO


def test_grouped_files_arrive_and_are_not_fetched_again(hub, tmp_path, capsys):
    out = tmp_path / "out"
    assert download(out, "--level", 10, 5) == 0
    files = {name.removeprefix("data/"): content for name, content in grouped_files().items() if "grouped" in name}
    assert contents(out) == files
    printed = capsys.readouterr().out
    assert_facts(printed, GROUPED_REPO, NEW[:12], "6 files", "643.5 KiB")
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
    assert_facts(capsys.readouterr().out, "6 files", "643.5 KiB", "nothing to fetch")
    assert run_command("inspect", out) == 0


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
    assert_facts(capsys.readouterr().out, "kept", "grouped_10/train_grouped.h5")
    assert not hub.bytes_asked()


@pytest.mark.parametrize("folder", ["data/grouped_10", "grouped_10"])
def test_files_of_other_tools_are_kept_where_they_are(hub, tmp_path, capsys, folder):
    place = tmp_path / folder
    place.mkdir(parents=True)
    (place / "train_grouped.h5").write_bytes(grouped_files()[TRAIN_10])
    assert download(tmp_path, "--level", 10) == 0
    assert sorted(contents(tmp_path)) == [f"{folder}/{split}_grouped.h5" for split in sorted(SPLITS)]
    assert TRAIN_10 not in dict(hub.bytes_asked()) and len(hub.bytes_asked()) == 2
    assert_facts(capsys.readouterr().out, "kept", f"{folder}/train_grouped.h5")


def test_splits_of_a_level_come_together_in_one_folder(hub, tmp_path, capsys):
    """One folder alone is read: what lies in the other place is moved, not fetched."""
    for name in ("grouped_10/test", "data/grouped_10/train"):
        path = tmp_path / f"{name}_grouped.h5"
        path.parent.mkdir(parents=True)
        path.write_bytes((GOLDEN / "grouped_10" / path.name).read_bytes())
    assert download(tmp_path, "--level", 10) == 0
    assert sorted(contents(tmp_path)) == [f"grouped_10/{split}_grouped.h5" for split in sorted(SPLITS)]
    assert [path for path, _ in hub.bytes_asked()] == ["data/grouped_10/validation_grouped.h5"]
    assert_facts(capsys.readouterr().out, "moved", "data/grouped_10/train_grouped.h5")


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


def test_a_sound_file_of_the_user_is_left_alone(hub, tmp_path, capsys):
    simulate_grouped(tmp_path, levels=[10], groups=48, sensors=3, time_points=9)
    before = contents(tmp_path)
    fails(capsys, [tmp_path, "--level", 10], "sound file")
    assert contents(tmp_path) == before and not hub.bytes_asked()


def test_space_is_checked_before_anything_is_fetched(hub, tmp_path, capsys):
    hub.datasets[GROUPED_REPO].sizes[TRAIN_10] = 2**60
    fails(capsys, [tmp_path / "out", "--level", 10], f"{2**20:.2f} TiB", "needed", "free")
    assert not hub.bytes_asked() and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(hub, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    fails(capsys, [tmp_path / "file", "--level", 10], "cannot be")
    fails(capsys, [tmp_path / "file" / "out", "--level", 10], "cannot be")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "grouped_10").write_text("")
    fails(capsys, [tmp_path / "out", "--level", 10], "cannot be written")


def test_a_file_that_is_damaged_on_the_hub(hub, tmp_path, capsys):
    """The bytes are the hub's, and yet no grouped file: the last check says so."""
    hub.datasets[GROUPED_REPO].commits[NEW][TRAIN_10] = grouped_files()[TRAIN_10][:100_000]
    words = [tmp_path, "--level", 10, "--split", "train"]
    fails(capsys, words, "grouped_10/train_grouped.h5", "truncated")


def test_nothing_but_lines_where_there_is_no_terminal(hub, tmp_path, capsys):
    assert download(tmp_path, "--level", 10) == 0
    output = capsys.readouterr().out
    assert "\r" not in output and "\x1b" not in output
    assert [line.split()[0] for line in output.splitlines()[2:-1]] == ["fetched"] * 3


def test_a_bar_on_a_terminal(hub, tmp_path, monkeypatch):
    screen = io.StringIO()
    show = Transfer(Console(file=screen, force_terminal=True, width=100))
    show.begin("grouped_10/train_grouped.h5", 2**20)
    show.at(2**19)
    show.end()
    show.line("done")
    shown = screen.getvalue()
    assert "grouped_10/train_grouped.h5" in shown and "512.0 KiB of 1.0 MiB" in shown and shown.endswith("done\n")
