"""`evaluate` in two real processes: the numbers of one, printed and written once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL
from helpers.data import simulate_grouped
from helpers.processes import SECONDS, SLURM_STEP, Ended, start, together
from helpers.runs import evaluate, train


def evaluated(run: Path, *words: object, **options: object) -> list[Ended]:
    return together(2, run, *words, command="evaluate", **options)


def assert_same_scores(ours: Path, theirs: dict) -> None:
    """The counts agree, and so do the losses beyond rounding."""
    scores = json.loads(ours.read_text())
    assert scores.keys() == theirs.keys() and scores["confusion"] == theirs["confusion"]
    for name in ("macro_f1", "balanced_accuracy", "balanced_accuracy_at_10", "accuracy", "loss"):
        assert (scores[name] is None) == (theirs[name] is None)
        if theirs[name] is not None:
            np.testing.assert_allclose(scores[name], theirs[name], rtol=2e-5, err_msg=name)


def assert_one_speaks(leader: Ended, follower: Ended) -> None:
    assert (leader.status, follower.status) == (0, 0), leader.err + follower.err
    assert leader.out.count("macro-F1") >= 1 and leader.errors == []
    assert follower.out == follower.err == ""


@pytest.mark.slow(seconds=20)
def test_tasks_of_slurm_evaluate_together(run, tmp_path):
    """Rows do not fill the last batch, which the two share."""
    alone = evaluate(run, tmp_path / "alone.json", "--split", "test")
    words = ("--split", "test", "--json", tmp_path / "two.json")
    assert_one_speaks(*evaluated(run, *words, env=SLURM_STEP))
    assert_same_scores(tmp_path / "two.json", alone)


@pytest.mark.long
def test_augmented_copies_belong_to_the_row(run, tmp_path):
    """Rows are predicted in both processes, each with the copies of its number in the whole split."""
    alone = evaluate(run, tmp_path / "alone.json", "--tta")
    assert_one_speaks(*evaluated(run, "--tta", "--json", tmp_path / "two.json", "--report"))
    assert_same_scores(tmp_path / "two.json", alone)
    assert (run / "report" / "index.html").is_file()


@pytest.mark.long
def test_weights_are_fitted_on_all_rows(data, tmp_path):
    run, words = tmp_path / "run", ("--split", "test", "--ensemble", "weighted")
    assert train(data, run, *SMALL, "data.feed=resident", "train.members=2") == 0
    alone = evaluate(run, tmp_path / "alone.json", *words)
    assert_one_speaks(*evaluated(run, *words, "--json", tmp_path / "two.json"))
    assert_same_scores(tmp_path / "two.json", alone)


@pytest.mark.long
@pytest.mark.parametrize("other", ["rows", "steps"])
def test_another_input_in_one_of_them_ends_both(other, run, data, tmp_path):
    """Each process has folders of its own, and what is in them differs."""
    places = [tmp_path / "0", tmp_path / "1"]
    for place in places:
        shutil.copytree(run, place / "run")
        shutil.copytree(data, place / "data")
    if other == "rows":
        shutil.rmtree(places[1] / "data")
        simulate_grouped(places[1] / "data", levels=[100], groups=100, sensors=5, time_points=9, seed=1)
    else:
        shutil.rmtree(places[1] / "run" / "checkpoints" / "best")
    leader, follower = evaluated("run", "--data", "data", folders=places)
    fact = {"rows": "other rows or labels", "steps": "another checkpoint"}[other]
    for ended in (leader, follower):
        assert ended.status == 2
        (line,) = ended.errors
        assert line.startswith("error: ") and fact in line


@pytest.mark.long
def test_a_reader_who_goes_away_does_not_end_the_others(run):
    """As in `srun .. | head -1`: process 0 writes into a closed pipe, with the status of any command there."""
    started = start(2, run, command="evaluate")
    started[0].stdout.close()
    follower = started[1].communicate(timeout=SECONDS)
    errors = started[0].stderr.read()
    assert started[0].wait(SECONDS) == 141 and "Traceback" not in errors and "error:" not in errors
    assert (started[1].returncode, *follower) == (0, "", "")


@pytest.mark.long
def test_other_rows_for_the_weights_in_one_of_them_end_both(data, tmp_path):
    """The rows that are scored are the same, and those that the weights are fitted on differ."""
    run, places = tmp_path / "run", [tmp_path / "0", tmp_path / "1"]
    assert train(data, run, *SMALL, "data.feed=resident", "train.members=2") == 0
    for place in places:
        shutil.copytree(run, place / "run")
        shutil.copytree(data, place / "data")
    simulate_grouped(tmp_path / "other", levels=[100], groups=100, sensors=5, time_points=9, seed=1)
    validation = Path("grouped_100", "validation_grouped.h5")
    shutil.copy(tmp_path / "other" / validation, places[1] / "data" / validation)
    words = ("--data", "data", "--split", "test", "--ensemble", "weighted")
    for ended in evaluated("run", *words, folders=places):
        assert ended.status == 2
        (line,) = ended.errors
        assert "validation" in line and "other rows or labels" in line
