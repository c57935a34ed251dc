"""A damaged best checkpoint beside a whole latest one, and the reverse: said on one line, and used where it can be."""

import json
import shutil

import pytest
from helpers.errors import assert_warned, fails_with, refused, the_warning
from helpers.runs import evaluate, newest_arrays, run_command
from helpers.small_run import best_step, meta_file

from demega_jax.evaluation.model import load
from demega_jax.files import SEAL, sealed
from demega_jax.model.parameters import flatten
from demega_jax.training.checkpoint import read_model
from demega_jax.training.run import RunFolder


def damage(run, kind: str, step: int):
    """Cut the files of the model's arrays of a checkpoint in half; its folder."""
    folder = run / "checkpoints" / kind / str(step)
    for file in (folder / "model").rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return folder


def warned(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


# A read that fails leaves callbacks of the store behind, which find the event loop of that read closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
def test_evaluate_goes_on_with_the_latest(run, tmp_path, capsys):
    wanted = newest_arrays(run)
    best = damage(run, "best", best_step(run))
    capsys.readouterr()
    assert evaluate(run, tmp_path / "scores.json")["steps"] == [6]
    assert_warned(warned(capsys), best, "damaged", "best validation", "latest", "step 6")
    found = flatten({"params": load(run).params})
    assert found.keys() == {name for name in wanted if name.startswith("params.")}
    assert all((found[name] == wanted[name]).all() for name in found)


@pytest.mark.slow
def test_a_best_checkpoint_that_is_missing_is_said(run, capsys):
    best = best_step(run)
    shutil.rmtree(run / "checkpoints" / "best")
    capsys.readouterr()
    assert load(run).steps == (6,)
    the_warning(warned(capsys), run / "checkpoints" / "best", "missing", f"step {best}", "step 6")
    assert run_command("train", "--resume", "--run", run, "--devices", 1, "train.steps=7") == 0
    assert_warned(warned(capsys), run / "checkpoints" / "best", "missing", f"step {best}")


def test_an_earlier_best_than_the_latest_knows_of_is_said(run, warnings):
    """As where a backup brought back an old folder."""
    path = meta_file(run, "latest", 6)
    meta = json.loads(path.read_text())
    del meta[SEAL]
    meta["standing"]["best_step"] = best_step(run) + 1
    path.write_text(json.dumps(sealed(meta)))
    assert read_model(RunFolder(run))[1]["step"] == best_step(run)
    the_warning(warnings, run / "checkpoints" / "best", "missing", f"step {best_step(run) + 1}")


@pytest.mark.slow
def test_resume_checks_both(run, capsys):
    """It goes on from the latest, and says what is wrong with the best and with a later one."""
    best, latest = damage(run, "best", best_step(run)), damage(run, "latest", 6)
    capsys.readouterr()
    assert run_command("train", "--resume", "--run", run, "--devices", 1) == 0
    lines = warned(capsys)
    assert_warned(lines, latest, "damaged", "step 3")
    assert_warned(lines, best, "damaged", "evaluate")


def test_nothing_whole_is_an_error_that_counts_all(run, capsys, warnings):
    for kind, step in (("best", best_step(run)), ("latest", 3), ("latest", 6)):
        damage(run, kind, step)
    with refused("3 checkpoints", where=run / "checkpoints"):
        load(run)
    assert len(warnings) == 3
    fails_with(capsys, ["export-torch", run, run / "a.safetensors"], "3 checkpoints")
