"""`demega-jax group`: which session runs go where. What it writes is tested in tests/data/recordings."""

import h5py
import numpy as np
import pytest
from command_line import fails

from demega_jax.cli import main
from demega_jax.data.simulate.recordings import simulate_recordings
from demega_jax.signal.denoise import denoise

WINDOW = ["--tmax", "0.05"]


@pytest.fixture
def tree(tmp_path):
    """Recordings of three session runs, none of them of the published validation or test split."""
    simulate_recordings(tmp_path / "tree", minutes=5, runs=5, sensors=3, seed=1, time_points=12)
    for name in ("ses-11", "ses-12"):
        for path in (tmp_path / "tree").rglob(f"*{name}_*"):
            path.unlink()
    return tmp_path / "tree"


def splits_of(out) -> list[str]:
    return sorted(path.name.removesuffix("_grouped.h5") for path in out.glob("grouped_5/*.h5"))


def test_no_published_split_is_refused_with_the_way_out(tree, tmp_path, capsys):
    error = fails(capsys, "group", tree, tmp_path / "out", "--level", 5, *WINDOW)
    assert all(fact in error for fact in (str(tree), "3 session runs", "validation", "test", "--split-shares"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--split-shares", "0.4,0.3,0.3"], ["test", "train", "validation"]),
        (["--split-shares", "0.4", "0.3", "0.3"], ["test", "train", "validation"]),
        (["--split-shares", "1,0,0"], ["train"]),
        (["--run", "1:Sherlock1:1"], ["train"]),
    ],
)
def test_splits_that_are_asked_for_are_made(tree, tmp_path, words, written):
    assert main(["group", str(tree), str(tmp_path / "out"), "--level", "5", *WINDOW, *words]) == 0
    assert splits_of(tmp_path / "out") == written


def test_one_published_split_is_enough(tmp_path, capsys):
    simulate_recordings(tmp_path / "tree", minutes=5, runs=5, sensors=3, seed=1, time_points=12)
    for path in (tmp_path / "tree").rglob("*ses-12_*"):
        path.unlink()
    assert main(["group", str(tmp_path / "tree"), str(tmp_path / "out"), "--level", "5", *WINDOW]) == 0
    assert splits_of(tmp_path / "out") == ["train", "validation"]
    assert "warning: no session run for test" in capsys.readouterr().err


def test_levels_add_up(tree, tmp_path):
    words = ["--level", "5", "--level", "7", "--level=10-15", "--run", "1:Sherlock1:1"]
    assert main(["group", str(tree), str(tmp_path / "out"), *words, *WINDOW]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"grouped_{k}" for k in (10, 15, 5, 7)]


def test_averages_are_denoised_before_they_are_written(tree, tmp_path):
    for name, more in (("plain", ()), ("clean", ("--denoise",))):
        words = ["group", str(tree), str(tmp_path / name), "--level", "5", "--tmax", "0.2", "--split-shares", "1,0,0"]
        assert main([*words, *more]) == 0
    plain, clean = (h5py.File(tmp_path / name / "grouped_5" / "train_grouped.h5") for name in ("plain", "clean"))
    x = plain["data"][:]
    np.testing.assert_allclose(clean["data"][:], denoise(x), rtol=1e-5, atol=1e-6)
    assert np.abs(denoise(x) - x).max() > 0.05
    assert clean.attrs["denoised"] and "denoised" not in plain.attrs
    np.testing.assert_array_equal(clean["labels"][:], plain["labels"][:])
