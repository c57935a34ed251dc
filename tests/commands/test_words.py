"""The words of a command line: lists in one syntax, overrides anywhere, and nothing dropped without a word."""

from types import SimpleNamespace

import pytest
import typer
from command_line import fails

from demega_jax.api.lists import ITEMS, SPLITS, all_devices, names, numbers
from demega_jax.cli import COMMANDS, build_app, main
from demega_jax.commands.shared.words import is_override, sort_words
from demega_jax.errors import UserError, did_you_mean

OPTIONS = {
    word: SimpleNamespace(name=word.strip("-").replace("-", "_"), is_flag=flag, multiple=several)
    for word, flag, several in (
        ("--level", False, True),
        ("--feed", False, True),
        ("--run", False, True),
        ("--split-shares", False, True),
        ("--seed", False, False),
        ("--tmin", False, False),
        ("--resume", True, False),
    )
}


def sort(line: str, overridable: bool = True) -> tuple[list[str], list[str]]:
    found = sort_words(line.split(), OPTIONS, "demega-jax some", overridable)
    return found.words, found.overrides


@pytest.mark.parametrize(
    "line",
    [
        "in out --level 5,20-30,all",
        "in out --level 5 20-30 all",
        "--level 5 20-30,all in out",
        "in --level=5,20-30 --level=all out",
        "in --level 5 20-30 --level all out",
        "--level 5 20-30 all in out",
    ],
)
def test_a_list_is_the_same_however_it_is_written(line):
    words, _ = sort(line)
    values = [value for option, value in zip(words, words[1:], strict=False) if option == "--level"]
    assert values == ["5", "20-30", "all"]
    assert [word for word in words if word in ("in", "out")] == ["in", "out"]


def test_words_of_a_list_are_told_from_folders():
    assert sort("--feed stream resident streams")[0] == ["--feed", "stream", "--feed", "resident", "streams"]
    assert sort("--run 1:a:1 2:b:2 recordings")[0] == ["--run", "1:a:1", "--run", "2:b:2", "recordings"]
    assert sort("--split-shares 0.8 0.1 0.1 out")[0][-1] == "out"
    assert sort("--level 5 -- 20")[0] == ["--level", "5", "--", "20"]


def test_overrides_may_stand_anywhere():
    words, overrides = sort("a.b=1 conf.yaml --level 5 c.d=x=y --resume e.f=[1,2] --seed 3 g=4")
    assert words == ["conf.yaml", "--level", "5", "--resume", "--seed", "3"]
    assert overrides == ["a.b=1", "c.d=x=y", "e.f=[1,2]", "g=4"]
    assert not is_override("runs/lr=1/config.yaml") and not is_override("conf.yaml") and not is_override("--a=b")
    assert sort("a=b --tmin -0.1", overridable=False) == (["a=b", "--tmin", "-0.1"], [])


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("--seed 1 --seed 2", ("--seed", "1", "2")),
        ("--seed 1 --seed=1", ("--seed", "1")),
        ("--level 5,,6", ("--level", "5,,6")),
        ("--levle 5", ("--levle", "Did you mean --level?")),
        ("--seed", ("--seed", "no value")),
        ("--seed --resume", ("--seed", "no value")),
    ],
)
def test_what_would_be_dropped_is_refused(line, facts):
    with pytest.raises(UserError) as refused:
        sort(line)
    assert all(fact in str(refused.value) for fact in facts)


def test_numbers():
    there = [5, 20, 100]
    for items, wanted in (
        (["7", "3"], [7, 3]),
        (["all"], there),
        (["10-100"], [20, 100]),
        (["20", "all"], [20, 5, 100]),
        (["5-20", "7"], [5, 20, 7]),
        ([], []),
    ):
        assert numbers("--level", items, lambda: there) == wanted
    for items in (["five"], ["0"], ["-5"], ["5-"], ["5", "5"], ["30-40"], ["1.5"]):
        with pytest.raises(UserError, match="--level"):
            numbers("--level", items, lambda: there)
    with pytest.raises(UserError, match="none"):
        numbers("--level", ["all"], list)
    assert all_devices(8) == [1, 2, 4, 8] and all_devices(6) == [1, 2, 4, 6]


def test_names():
    assert names("--split", ["test", "train"], SPLITS) == ["train", "test"]
    assert names("--split", ["all"], SPLITS) == list(SPLITS) and names("--split", [], SPLITS) == []
    with pytest.raises(UserError, match="Did you mean validation"):
        names("--split", ["validaton"], SPLITS)
    assert did_you_mean("xyz", SPLITS, "look it up") == "look it up"


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("", COMMANDS),
        ("tran", ("tran", "Did you mean train?")),
        ("--frob", ("--frob",)),
        ("train", ("demega-jax train", "CONFIG")),
        ("train configs/tiny.yaml --frob", ("--frob",)),
        ("train configs/tiny.yaml bla", ("bla", "section.key=value")),
        ("shard a", ("OUT",)),
        ("train configs/tiny.yml", ("configs/tiny.yml", "Did you mean configs/tiny.yaml?")),
        ("train configs/tiny.yaml --data nosuch", ("nosuch", "no such folder")),
        ("train configs/tiny.yaml --data tests trian.epochs=2", ("trian.epochs", "Did you mean train.epochs?")),
        ("train configs/tiny.yaml --data tests data.path=tests", ("--data", "data.path")),
        ("train configs/tiny.yaml --data tests --level 5 data.level=6", ("--level", "data.level")),
        ("train configs/tiny.yaml --parallel pmp", ("--parallel", "'pmp'", "Did you mean pmap?")),
        ("train --resume --run x --init y", ("--init", "--resume")),
        ("simulate out --seed x", ("--seed", "'x'", "integer")),
        ("simulate out more", ("more",)),
        ("group a b --level 5 --level 5", ("--level", "5", "twice")),
        ("group a b", ("--level",)),
        ("group a b --level 5 --splits f --split-shares 1,0,0", ("--splits", "--split-shares")),
        ("group a b --level 5 --split-shares 1,x,0", ("--split-shares", "'x'")),
        ("download out", ("--level", "--recordings")),
        ("download out --level 5 --recordings", ("--level",)),
        ("download out --level 5 --split tests", ("--split", "Did you mean test?")),
        ("benchmark --feed steam", ("--feed", "'steam'", "Did you mean stream?")),
        ("benchmark --batch-size 4 train.batch_size=5", ("--batch-size", "train.batch_size")),
    ],
)
def test_bad_usage_is_one_line_with_what_is_wrong(capsys, line, facts):
    error = fails(capsys, *line.split())
    assert all(fact in error for fact in facts), error


def test_a_key_given_twice_is_said(capsys):
    words = ["train", "configs/tiny.yaml", "--data", "tests", "train.epochs=2", "train.epochs=3"]
    assert main(words) == 2  # `tests` holds no data
    warning = capsys.readouterr().err.splitlines()[0]
    assert all(fact in warning for fact in ("warning: ", "train.epochs", "2", "3"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_every_option_with_examples_and_fits_a_terminal(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"demega-jax {command} " in shown and "Examples" in shown
    assert not any(python in shown for python in ("<bool>", "<path>", "list["))
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown


def test_every_option_that_takes_a_list_has_a_form_for_its_items():
    """Otherwise the words after it could not be sorted."""
    app = typer.main.get_command(build_app())
    several = {
        parameter.name
        for command in app.commands.values()
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.multiple
    }
    assert {"level", "base", "against", "formats"} <= several <= set(ITEMS)
