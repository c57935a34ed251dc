"""Sweeps: the matrix against `evaluate`, shares and a stop on the way, and what is refused."""

import json
import signal

import numpy as np
import pytest
from helpers import ONE_SCHEDULE, TINY_MODEL
from helpers.data import simulate_grouped
from helpers.errors import fails_with, refused
from helpers.pages import Page
from helpers.runs import evaluate, run_command, train
from scipy import stats

from demega_jax.evaluation.sweep.cells import Cell, over_seeds
from demega_jax.evaluation.sweep.plan import Share

KEYS = [
    *TINY_MODEL,
    ONE_SCHEDULE,
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps=12",
    "train.eval_every=12",
    "train.log_every=4",
    "data.feed=resident",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[5, 20], groups=96, sensors=5, time_points=9, seed=1)
    return folder


def arguments(data, folder, *more) -> list:
    return ["sweep", "configs/tiny.yaml", "--data", data, "--run", folder, "--seeds", 2, "--devices", 1, *KEYS, *more]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A sweep that was done in one go."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    assert run_command(*arguments(data, folder)) == 0
    return folder


def matrix(folder) -> dict:
    return json.loads((folder / "matrix.json").read_text())


def without_times(cell: dict) -> dict:
    return {key: value for key, value in cell.items() if not key.endswith("_seconds")}


@pytest.mark.slow
def test_cells_are_what_evaluate_says(whole, data, tmp_path):
    cells = matrix(whole)["cells"]
    assert [(cell["trained"], cell["tested"]) for cell in cells] == [(5, 5), (5, 20), (20, 5), (20, 20)]
    for number, cell in enumerate(cells):
        seed = (0, 1, 1, 0)[number]  # both seeds of both models, and on both levels
        run = whole / f"level_{cell['trained']}" / "members" / str(seed)
        scores = evaluate(run, tmp_path / "s.json", "--data", data, "--level", cell["tested"])
        assert cell["macro_f1"][seed] == pytest.approx(scores["macro_f1"], abs=1e-9)
        assert cell["rows"] == scores["rows"]
        together = evaluate(
            whole / f"level_{cell['trained']}", tmp_path / "s.json", "--data", data, "--level", cell["tested"]
        )
        assert cell["ensemble"] == pytest.approx(together["macro_f1"], abs=1e-9)
        assert cell["mean"] == pytest.approx(np.mean(cell["macro_f1"]))
        assert cell["standard_deviation"] == pytest.approx(np.std(cell["macro_f1"], ddof=1))
        assert cell["step_seconds"] > 0 and cell["epoch_seconds"] >= cell["step_seconds"]


def test_the_page_holds_the_matrix_and_both_figures(whole):
    page = Page((whole / "report" / "index.html").read_text())
    cells = {(cell["trained"], cell["tested"]): cell for cell in matrix(whole)["cells"]}
    for trained in (5, 20):
        shown = [f"{cells[trained, at]['mean']:.3f} ± {cells[trained, at]['standard_deviation']:.3f}" for at in (5, 20)]
        assert [str(trained), *shown] in page.rows
        own = cells[trained, trained]
        assert any(row[:2] == [str(trained), f"{own['mean']:.4f}"] for row in page.rows)
        assert own["chance"] == 1 / 12
    assert len(page.addresses) == 2 and all(address.startswith("data:image/svg") for address in page.addresses)
    assert {file.name for file in (whole / "report").iterdir()} == {"index.html", "matrix.png", "levels.png"}


@pytest.mark.slow
@pytest.mark.long
def test_a_member_is_what_train_gives_with_its_seed(whole, data, tmp_path):
    alone = tmp_path / "alone"
    assert train(data, alone, *KEYS, "--level", 20, "train.seed=778") == 0
    one, other = (evaluate(run, tmp_path / "s.json") for run in (alone, whole / "level_20" / "members" / "1"))
    assert one["confusion"] == other["confusion"]


@pytest.mark.slow
@pytest.mark.long
def test_shares_of_two_processes_are_the_whole(whole, data, tmp_path, capsys):
    folder = tmp_path / "shared"
    for share in ("2/2", "1/2"):
        assert run_command(*arguments(data, folder, "--cells", share)) == 0
        shown = capsys.readouterr().out
        assert ("2 of 4 cells" in shown) == (share == "2/2")
    pairs = zip(matrix(folder)["cells"], matrix(whole)["cells"], strict=True)
    assert all(without_times(one) == without_times(other) for one, other in pairs)


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_cell_by_cell(whole, data, tmp_path, capsys, monkeypatch):
    """A signal comes while the models of the first level are tested: its first cell is kept, the others follow."""
    from demega_jax.evaluation.sweep import run as module

    folder, score_cell = tmp_path / "stopped", module.score_cell

    def signalled(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return score_cell(*arguments)

    monkeypatch.setattr(module, "score_cell", signalled)
    assert run_command(*arguments(data, folder)) == 143
    assert [path.name for path in (folder / "cells").iterdir()] == ["trained_5_tested_5_validation.json"]
    kept = (folder / "cells" / "trained_5_tested_5_validation.json").stat().st_mtime_ns
    monkeypatch.undo()
    fails_with(capsys, arguments(data, folder), "--resume")
    assert run_command(*arguments(data, folder, "--resume")) == 0
    assert (folder / "cells" / "trained_5_tested_5_validation.json").stat().st_mtime_ns == kept
    pairs = zip(matrix(folder)["cells"], matrix(whole)["cells"], strict=True)
    assert all(without_times(one) == without_times(other) for one, other in pairs)


@pytest.mark.slow
def test_another_sweep_in_the_folder_is_refused(whole, data, capsys):
    fails_with(capsys, arguments(data, whole, "--resume", "train.seed=3"), "seed", "777", "3")
    fails_with(capsys, arguments(data, whole, "--resume", "--level", "5"), "levels", "20")
    damaged = whole / "cells" / "trained_5_tested_5_validation.json"
    before = damaged.read_text()
    damaged.write_text("{}")
    fails_with(capsys, arguments(data, whole, "--resume"), damaged.name, "damaged")
    damaged.write_text(before)


@pytest.mark.slow
def test_a_dry_run_says_time_and_memory_and_writes_nothing(data, tmp_path, capsys):
    assert run_command(*arguments(data, tmp_path / "none", "--dry-run", "--level", "20")) == 0
    shown = capsys.readouterr().out
    assert "level 20: 2 seeds, 12 steps" in shown and "iB on each device" in shown
    assert not (tmp_path / "none").exists()


def test_what_is_refused(data, tmp_path, capsys):
    folder = tmp_path / "none"
    fails_with(capsys, arguments(data, folder, "train.members=3"), "train.members", "--seeds")
    fails_with(capsys, arguments(data, folder, "data.level=5"), "data.level", "--level")
    fails_with(capsys, arguments(data, folder, "--level", "7"), "7", "5, 20")
    fails_with(capsys, arguments(data, folder, "--cells", "3/2"), "--cells", "3/2")
    fails_with(capsys, arguments(data, folder, "--cells", "1/3"), "--cells", "2 levels")
    assert not folder.exists()


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_shares_hold_every_level_once(of):
    levels = tuple(range(5, 40, 5))
    found = [level for number in range(1, of + 1) for level in Share(number, of).levels(levels)]
    assert sorted(found) == list(levels)


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "a/b", "1/2/3", "-1/2"])
def test_shares_that_are_none(text):
    with refused("--cells"):
        Share.parse(text, 5)


def test_interval_over_seeds_is_students():
    scores = [0.41, 0.44, 0.40, 0.47]
    low, high = stats.t.interval(0.95, 3, np.mean(scores), stats.sem(scores))
    found = over_seeds(scores)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_a_cell_is_read_as_it_was_written(tmp_path):
    cell = Cell(5, 20, "test", 10, (0.1, 0.3), 0.25, 0.05, 0.35, None, 2.0)
    cell.write(tmp_path / "cell.json")
    assert Cell.read(tmp_path / "cell.json") == cell
