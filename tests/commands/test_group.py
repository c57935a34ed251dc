"""`demega-jax group`: which session runs go where. What it writes is tested in tests/data/recordings."""

import pytest
from command_line import fails

from demega_jax.cli import main
from demega_jax.data.simulate.recordings import simulate_recordings

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
        (["--split-shares", "1,0,0"], ["train"]), (["--run", "1:Sherlock1:1"], ["train"]),
    ],
)  # fmt: skip
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
