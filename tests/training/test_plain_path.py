"""Checkpoints below folders whose names mean something to patterns are those that were saved."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.errors import refused

from demega_jax.training.checkpoint import Checkpoints
from demega_jax.training.plain_path import PlainPath

NAMES = ["a[b]c", "a[1-3]", "back\\slash", "a*", "a?", "a**[!x]\\[[]"]


def save(folder: Path, step: int) -> None:
    checkpoints = Checkpoints(folder)
    state = {"params": {"x": np.full(3, step, np.float32)}, "buffers": {}, "step": np.int32(step)}
    checkpoints.save("latest", state, {})
    checkpoints.close()


def newest(folder: Path) -> np.ndarray:
    checkpoints = Checkpoints(folder)
    found = checkpoints.read_newest("latest")
    checkpoints.close()
    return found[0]["params.x"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_read(tmp_path, name):
    folder = tmp_path / name / "checkpoints"
    for step in (1, 2, 3):
        save(folder, step)
    assert newest(folder).tolist() == [3, 3, 3]
    assert sorted(path.name for path in (folder / "latest").iterdir()) == ["2", "3"]
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing is written beside it
    (tmp_path / name).rename(tmp_path / "plain")  # and nothing in it knows the name
    assert newest(tmp_path / "plain" / "checkpoints").tolist() == [3, 3, 3]
    (tmp_path / "plain").rename(tmp_path / f"{name}2")
    assert newest(tmp_path / f"{name}2" / "checkpoints").tolist() == [3, 3, 3]


def test_a_folder_whose_pattern_another_folder_meets_is_kept_apart(tmp_path):
    for name, step in (("ab", 5), ("a*", 7), ("a?", 9)):
        save(tmp_path / name, step)
    assert [newest(tmp_path / name)[0] for name in ("ab", "a*", "a?")] == [5, 7, 9]


def test_a_damaged_checkpoint_is_told_by_its_own_path(tmp_path, capsys):
    save(tmp_path / "a[b]", 1)
    for path in (tmp_path / "a[b]" / "latest" / "1" / "model").rglob("*"):
        if path.is_file():
            path.unlink()
    with refused("damaged", where=tmp_path / "a[b]" / "latest"):
        newest(tmp_path / "a[b]")
    err = capsys.readouterr().err
    assert "a[b]" in err and "/demega-jax-" not in err


def test_no_link_is_left(tmp_path, monkeypatch):
    (tmp_path / "aside").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "aside"))
    save(tmp_path / "a[b]", 1)
    assert newest(tmp_path / "a[b]").tolist() == [1, 1, 1]
    assert not list((tmp_path / "aside").iterdir())
    assert PlainPath(tmp_path / "plain").open() == tmp_path / "plain"


def test_a_path_that_cannot_be_saved_to_is_refused(tmp_path, monkeypatch):
    (tmp_path / "t[mp]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t[mp]"))
    with refused("[", "TMPDIR", where=tmp_path / "a[b]"):
        save(tmp_path / "a[b]", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with refused("no link", where=tmp_path / "a[b]"):
        Checkpoints(tmp_path / "a[b]").check_path()
    assert not (tmp_path / "a[b]").exists()
