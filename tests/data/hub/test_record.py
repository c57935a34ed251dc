"""`demega-jax download`. The record in a folder: its revision, and what another one would mix."""

import json
from pathlib import Path

import pytest
from helpers.errors import assert_facts
from helpers.hub import NEW, OLD, TRAIN_10, download, fails, grouped_files

from demega_jax.data.hub.download import GROUPED_REPO


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
    assert_facts(capsys.readouterr().err, NEW[:12], OLD[:12])
    assert sorted({path.split("/")[5] for _, path, _ in hub.requests if "/resolve/" in path}) == [OLD]
    assert json.loads((moved_on / "download.json").read_text())["datasets"][GROUPED_REPO]["revision"] == OLD


def test_another_revision_does_not_mix_with_what_is_there(hub, moved_on, capsys):
    for level in (5, 10):
        fails(capsys, [moved_on, "--level", level, "--revision", "main"], NEW[:12], moved_on, "1 file", OLD[:12], OLD)
    assert not hub.bytes_asked()
    (moved_on / "grouped_10" / "train_grouped.h5").unlink()
    assert download(moved_on, "--level", 10, "--revision", NEW) == 0
    assert [path for path, _ in hub.bytes_asked()] == [TRAIN_10]
    assert json.loads((moved_on / "download.json").read_text())["datasets"][GROUPED_REPO]["revision"] == NEW


def test_records_that_cannot_be_read(hub, tmp_path, capsys):
    for text, facts in (("{", ["damaged"]), ("[]", ["damaged"]), ('{"version": 9}', ["format 9", "format 1"])):
        (tmp_path / "download.json").write_text(text)
        fails(capsys, [tmp_path, "--level", 10], *facts)
