"""The small files that sweeps, stacks and `push` read back: what was altered or belongs elsewhere is named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from helpers.errors import refused

from demega_jax.config import Config, StackConfig
from demega_jax.evaluation.stack.crossfit import Fitted
from demega_jax.evaluation.stack.linear import LinearStacker
from demega_jax.evaluation.stack.store import Description, read_stackers, write_stackers
from demega_jax.evaluation.sweep.cells import Cell
from demega_jax.evaluation.sweep.plan import Sweep
from demega_jax.evaluation.sweep.run import cells_there
from demega_jax.interop.card_scores import read_scores
from demega_jax.interop.hub import read_record
from demega_jax.metrics import scores
from demega_jax.training.run import RunFolder


def alter(path, change: dict) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_an_altered_cell_and_one_of_another_place_are_named(tmp_path):
    sweep = Sweep(tmp_path, Config(), (5, 20), 2, "test")
    first, other = sweep.cell(5, 20), sweep.cell(20, 5)
    cell = Cell(5, 20, "test", 10, (0.1, 0.3), 0.25, 0.05, 0.35, None, 2.0)
    cell.write(first)
    assert cells_there(sweep) == {(5, 20): cell}
    first.write_text(json.dumps(dataclasses.asdict(cell)))  # of a version without a seal
    assert cells_there(sweep) == {(5, 20): cell}
    shutil.copy(first, other)
    with refused("trained at 5", "trained at 20", where=other):
        cells_there(sweep)
    cell.write(first)
    alter(first, {"macro_f1": [0.1, 0.7]})
    with refused("macro_f1", where=first):
        Cell.read(first)


@pytest.fixture
def stack(tmp_path):
    """(folder, description) of a stack with one linear stacker of two base models with three classes."""
    rng = np.random.default_rng(0)
    stacker = LinearStacker(rng.normal(size=(6, 3)), np.zeros(3), np.zeros(6), np.ones(6), 0.1)
    arrays = write_stackers(tmp_path, {"linear": Fitted((stacker,), None)})
    about = Description(("a", "b"), ("x", "y", "z"), 5, "linear", "on rows", StackConfig(), ((3,), (4, 5)), arrays)
    about.write(tmp_path)
    return tmp_path, about


def test_a_stack_is_read_as_it_was_written_and_an_older_one_too(stack):
    folder, about = stack
    assert Description.read(folder) == about
    assert read_stackers(folder, about).stackers[0].penalty == 0.1
    raw = json.loads((folder / "stack.json").read_text())
    (folder / "stack.json").write_text(json.dumps({k: raw[k] for k in raw if k not in ("seal", "steps", "arrays")}))
    older = Description.read(folder)
    assert older == dataclasses.replace(about, steps=None, arrays=None)
    assert read_stackers(folder, older).stackers[0].penalty == 0.1


def test_an_altered_stack_is_named(stack):
    folder, about = stack
    alter(folder / "stack.json", {"bases": ["b", "a"]})
    with refused("bases", where=folder / "stack.json"):
        Description.read(folder)
    stacker = read_stackers(folder, about).stackers[0]
    write_stackers(folder, {"linear": Fitted((dataclasses.replace(stacker, bias=np.ones(3)),), None)})
    with refused("linear/0/bias", where=folder / "stackers.npz"):
        read_stackers(folder, about)


def test_a_record_of_the_hub_is_that_of_the_checkpoint(tmp_path):
    record, path = {"repo": "a/b", "commit": "c0ffee", "revision": "main"}, tmp_path / "hub.json"
    assert read_record(tmp_path, None) is None and read_record(tmp_path, record) == ("a/b", "c0ffee")
    path.write_text(json.dumps(record))
    assert read_record(tmp_path, record) == ("a/b", "c0ffee")
    with refused("c0ffee", "decade", where=path):
        read_record(tmp_path, record | {"commit": "decade"})


def test_scores_that_their_confusion_matrix_does_not_give_are_named(tmp_path):
    path, classes, confusion = tmp_path / "test.json", ("x", "y"), np.array([[3, 1], [2, 4]])
    content = scores(confusion, classes).to_json() | {"split": "test", "steps": [7]}
    path.write_text(json.dumps(content))
    (found,) = read_scores(RunFolder(tmp_path), [path], classes, [7])
    assert (found.rows, found.accuracy) == (10, 0.7)
    alter(path, {"confusion": [[3, 1], [2, 5]]})
    with refused("rows", "10", "11", where=path):
        read_scores(RunFolder(tmp_path), [path], classes, [7])
    alter(path, {"confusion": [[3, 1], [1, 5]]})
    with refused("macro_f1", where=path):
        read_scores(RunFolder(tmp_path), [path], classes, [7])
