"""A start that fails leaves nothing behind: data of one class, and a failure before the first step."""

from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL
from helpers.data import grouped_path, write_grouped
from helpers.errors import fails_with, refused
from helpers.runs import train_arguments

from demega_jax.config import Config
from demega_jax.errors import UserError
from demega_jax.evaluation.plan_file import begin_or_join, undone_on_failure
from demega_jax.files import visible
from demega_jax.training.alone import alone_in
from demega_jax.training.run import RunFolder


@pytest.fixture(scope="module")
def one_class(tmp_path_factory) -> Path:
    """Levels 5 and 10, with two class names and rows of one."""
    folder = tmp_path_factory.mktemp("one")
    x = np.random.default_rng(0).normal(size=(40, 3, 6)).astype(np.float32)
    for level in (5, 10):
        for split in ("train", "validation"):
            write_grouped(
                grouped_path(folder, level, split),
                x,
                np.full(40, 1),
                level=level,
                attributes={"classes": ["left", "right"]},
            )
    return folder


MORE = {"train": ["--level", "5"], "sweep": ["--level", "5,10", "--seeds", "2"], "stack": ["--level", "5,10"]}


@pytest.mark.parametrize("command", MORE)
def test_data_of_one_class(one_class, tmp_path, capsys, command):
    keys = [*SMALL, "loss.ipa_weight=0", "model.ipa_width=0", "data.feed=resident"]
    words = train_arguments(one_class, tmp_path / "new", *keys)
    words[0] = command
    words += MORE[command]
    fails_with(capsys, words, "one class", "right", "two classes", grouped_path(one_class, 5))
    assert not list(tmp_path.iterdir())
    (tmp_path / "new").mkdir()
    fails_with(capsys, words, "one class")
    assert not list(visible(tmp_path / "new"))


def begin(folder: RunFolder, *made: str) -> None:
    """A training run that fails after it has made its folder and these files."""
    with alone_in(folder, Config()):
        folder.create(Config())
        folder.metrics.touch()
        for name in made:
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_text("x")
        raise UserError("a", "b", "c", "d")


def test_a_failure_before_the_first_step(tmp_path):
    folder = RunFolder(tmp_path / "run")
    for _ in range(2):  # then it can be started again
        with refused("b"):
            begin(folder)
        assert not folder.path.exists()
    folder.path.mkdir()
    (folder.path / ".mine").write_text("")
    with refused("b"):
        begin(folder)
    assert [path.name for path in folder.path.iterdir()] == [".mine"]


@pytest.mark.parametrize("made", ["metrics.jsonl", "checkpoints/latest/3/x", "members/0/metrics.jsonl"])
def test_a_failure_after_a_step_keeps_everything(tmp_path, made):
    folder = RunFolder(tmp_path / "run")
    with refused("b"):
        begin(folder, made)
    assert folder.read_config() == Config() and (folder.path / made).read_text() == "x"
    with refused("d"), alone_in(folder, Config()):
        raise UserError("a", "b", "c", "d")  # of a resumed training run
    assert folder.read_config() == Config()


def test_a_plan_that_came_to_nothing(tmp_path):
    plan = tmp_path / "sweep" / "sweep.json"
    with refused("b"), undone_on_failure(plan):
        begin_or_join(plan, "sweep", {}, join=False)
        raise UserError("a", "b", "c", "d")
    assert not plan.parent.exists()
    with refused("b"), undone_on_failure(plan):
        begin_or_join(plan, "sweep", {}, join=False)
        (plan.parent / "cells").mkdir()
        (plan.parent / "cells" / "one.json").write_text("")
        raise UserError("a", "b", "c", "d")
    assert plan.exists()
    with refused("not empty"), undone_on_failure(plan):
        begin_or_join(plan, "sweep", {}, join=False)
    assert plan.exists()
