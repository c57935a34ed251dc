"""The mark `simulated` goes from recordings to every file that is made of them, so that `push` can say it."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.data import ShardSettings, grouped_path, open_grouped, open_shards, write_grouped, write_shards
from helpers.recordings import GOLDEN_TREE, group, recorded_tree
from helpers.runs import run_command

from demega_jax.data.open import open_levels

SPLITS = ("train", "validation", "test")


@pytest.fixture
def marked(tmp_path, own_cache) -> Path:
    """Six short session runs that say that they are simulated."""
    tree = Path(shutil.copytree(GOLDEN_TREE, tmp_path / "tree"))
    for path in tree.rglob("*_meg.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["simulated"] = True
    return tree


def test_groups_and_shards_of_simulated_recordings_say_so(marked, tmp_path):
    assert group(marked, tmp_path / "out", "--level", 1, 5) == 0
    for split in SPLITS:
        with h5py.File(grouped_path(tmp_path / "out", 5, split)) as file:
            assert file.attrs["simulated"]
    assert open_levels(tmp_path / "out", [1, 5], "train").simulated
    manifest = write_shards(tmp_path / "out", tmp_path / "shards", levels=[5], settings=ShardSettings())[0]
    content = json.loads(manifest.read_text())
    assert content["version"] == 3 and all(content["splits"][split]["simulated"] for split in SPLITS)
    assert all(open_shards(manifest.parent, split).simulated for split in SPLITS)


def test_what_is_partly_measured_is_not_called_simulated(marked, tmp_path):
    with h5py.File(next(marked.rglob("*ses-10_*_meg.h5")), "r+") as file:  # the last session run of train
        del file.attrs["simulated"]
    assert group(marked, tmp_path / "out", "--level", 5) == 0
    found = {split: open_grouped(grouped_path(tmp_path / "out", 5, split)).simulated for split in SPLITS}
    assert found == {"train": False, "validation": True, "test": True}
    tree = recorded_tree(marked)
    assert not tree.averages("train", None).simulated and tree.averages("test", None).simulated


@pytest.mark.parametrize("mark", [True, False])
def test_imported_windows_and_their_means_keep_the_mark(tmp_path, mark):
    """And the events that they follow."""
    x, labels = np.random.default_rng(0).standard_normal((8, 2, 3), np.float32), np.arange(8) % 2
    known = {"classes": ["a", "b"], "simulated": mark, "event_rows": "kind=word"}
    np.savez(tmp_path / "w.npz", x=x, labels=labels, **known)
    hdf5 = write_grouped(tmp_path / "w.h5", x, labels, attributes=known)
    for file in (tmp_path / "w.npz", hdf5):
        out = tmp_path / file.suffix
        assert run_command("import", file, out, "--split", "train", "--group", 2) == 0
        found = open_grouped(grouped_path(out, 2))
        assert (found.simulated, found.acquisition.event_rows) == (mark, "kind=word")
