"""Files whose names begin with a dot, as operating systems leave them, are in nobody's way."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.data import simulate_grouped
from helpers.errors import fails_with
from helpers.recordings import GOLDEN_TREE
from helpers.runs import inspect, run_command

from demega_jax.config import Config
from demega_jax.data.hub.choice import grouped_folder
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.files import check_new_folder, visible
from demega_jax.training.checkpoint import Checkpoints
from demega_jax.training.run import RunFolder


def litter(folder: Path) -> None:
    """In the folder and all below it: what macOS leaves beside each file and in each folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for inside in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in [".DS_Store", *(f"._{path.name}" for path in inside.iterdir())]:
            (inside / name).write_bytes(b"\0\5\26\7")


@pytest.fixture
def grouped(tmp_path, own_cache) -> Path:
    simulate_grouped(tmp_path / "grouped", levels=[2], groups=320, sensors=3, time_points=5)
    litter(tmp_path / "grouped")
    return tmp_path / "grouped"


def test_grouped_files_and_shards(grouped, tmp_path, capsys):
    litter(tmp_path / "shards" / "grouped_2" / "train")
    assert run_command("shard", grouped, tmp_path / "shards") == 0
    litter(tmp_path / "shards")
    status, out, err = inspect(capsys, grouped, tmp_path / "shards", grouped / "grouped_2")
    assert status == 0 and "._" not in out + err
    (grouped / "grouped_2" / "test_grouped.h5").unlink()
    capsys.readouterr()
    assert "._" not in fails_with(capsys, ["shard", grouped, tmp_path / "out", "--split", "test"], "test_grouped.h5")


def test_recordings(tmp_path, own_cache, capsys):
    tree = Path(shutil.copytree(GOLDEN_TREE, tmp_path / "tree"))
    names = [recording.name for recording in find_recordings(tree)]
    shutil.copytree(tree / "Sherlock1", tree / ".Trash")  # all names a second time
    litter(tree)
    assert [recording.name for recording in find_recordings(tree)] == names
    assert inspect(capsys, tree)[0] == 0
    litter(tmp_path / "out" / "grouped_5")
    assert run_command("group", tree, tmp_path / "out", "--level", 5) == 0
    shutil.rmtree(tree / "Sherlock1")
    litter(tree)
    (other := tmp_path / "other").mkdir()
    (other / ".Trash" / "derivatives").mkdir(parents=True)
    assert run_command("simulate", other, "--recordings", "--minutes", 1, "--sensors", 6) == 0


def test_new_folders_and_folders_of_downloads(tmp_path):
    litter(tmp_path / "new")
    check_new_folder(tmp_path / "new", "")
    RunFolder(tmp_path / "new").create(Config())
    litter(tmp_path / "grouped_5")
    (tmp_path / "grouped_5" / "._train_grouped.h5").touch()
    (tmp_path / "data" / "grouped_5").mkdir(parents=True)
    (tmp_path / "data" / "grouped_5" / "train_grouped.h5").touch()
    assert grouped_folder(tmp_path, 5) == Path("data/grouped_5")


def test_checkpoints(tmp_path):
    for step in (1, 2):
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save("latest", {"params": {"x": np.full(2, step)}, "step": np.int32(step)}, {})
        checkpoints.close()
        litter(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps("latest") == [1, 2]
    found = checkpoints.read_newest("latest")
    checkpoints.close()
    assert found is not None and found[0]["params.x"].tolist() == [2, 2]


def test_visible_files_are_those_without_a_dot_in_front(tmp_path):
    for name in ("a", ".b", "c.d", ".e/f", "g/.h", "g/i"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(path.name for path in visible(tmp_path)) == ["a", "c.d", "g"]
    assert [path.name for path in visible(tmp_path, "*/*")] == ["i"]
    (hidden := tmp_path / ".hidden").mkdir()
    (hidden / "a").touch()
    assert [path.name for path in visible(hidden)] == ["a"]  # a folder that is named may be hidden itself
