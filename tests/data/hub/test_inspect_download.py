"""`inspect` compares downloaded files with download.json: what was flipped, cut or replaced is named."""

import json
import os
from pathlib import Path

import pytest
from helpers.errors import assert_facts, has_fact
from helpers.hub import NEW, download
from helpers.runs import inspect

from demega_jax.data.hub.download import GROUPED_REPO, RECORDINGS_REPO


@pytest.fixture
def out(hub, tmp_path) -> Path:
    assert download(tmp_path / "out", "--level", 10) == 0
    return tmp_path / "out"


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_was_downloaded_is_verified_from_every_folder(out, capsys):
    os.utime(out / "grouped_10" / "train_grouped.h5", (1, 1))  # as a copy has
    for path, files in ((out, 3), (out / "grouped_10", 3), (out / "grouped_10" / "test_grouped.h5", 1)):
        status, printed, _ = inspect(capsys, path, "--json", out.parent / "found.json")
        assert status == 0
        assert_facts(" ".join(printed.split()), GROUPED_REPO, NEW[:12], "verified")
        (report,) = [
            r for r in json.loads((out.parent / "found.json").read_text())["reports"] if r["kind"] == "download"
        ]
        assert report["facts"]["files"] == files


@pytest.mark.parametrize("what", ["flipped", "longer", "replaced"])
def test_a_file_with_other_bytes_is_named(out, capsys, what):
    train, test = (out / "grouped_10" / f"{split}_grouped.h5" for split in ("train", "test"))
    if what == "flipped":
        flip(train, train.read_bytes().index(b"labels") + 6)  # in a name's padding, which HDF5 does not read
    elif what == "longer":
        train.write_bytes(train.read_bytes() + b"\0")
    else:
        test.replace(train)
    status, printed, err = inspect(capsys, out)
    assert status == 2 and has_fact(err + printed.replace("\n", ""), "train_grouped.h5")
    assert "do not agree" in printed


def test_recordings_are_verified_and_what_is_gone_is_noted(hub, tmp_path, capsys):
    assert download(tmp_path, "--recordings", "--run", "1:Sherlock1:1", "11:Sherlock1:2") == 0
    status, printed, _ = inspect(capsys, tmp_path)
    assert status == 0 and has_fact(printed, RECORDINGS_REPO) and "verified" in printed
    events = next(tmp_path.rglob("*ses-11_*_events.tsv"))
    flip(events, events.read_bytes().index(b"\t0.") + 1)
    status, _, err = inspect(capsys, tmp_path)
    assert status == 2 and has_fact(err, events)
    events.unlink()
    status, printed, _ = inspect(capsys, tmp_path)
    assert status == 0 and has_fact(" ".join(printed.split()), "1 of 4 downloaded files are not there any more")


def test_a_record_that_cannot_be_read_is_a_problem(out, capsys):
    (out / "download.json").write_text('{"version": 9}')
    status, _, err = inspect(capsys, out)
    assert status == 2 and has_fact(err, "format 9") and err.count("\n") == 1
    (out / "download.json").unlink()
    assert inspect(capsys, out)[0] == 0
