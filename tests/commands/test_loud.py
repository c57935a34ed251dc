"""--quiet and --verbose: what is printed, and that every command which says what it does has them."""

import re

import pytest
from helpers.errors import fails_with
from helpers.runs import run_command

from demega_jax.cli import COMMANDS
from demega_jax.commands.shared.loud import TALKING
from demega_jax.saying import Loudness, loudness, say, say_more, say_result

SMALL_DATA = ["--level", "5", "--groups", "40", "--sensors", "2", "--time-points", "3"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Loudness.SILENT, []),
        (Loudness.QUIET, ["result"]),
        (Loudness.USUAL, ["usual", "result"]),
        (Loudness.VERBOSE, ["usual", "more", "result"]),
    ],
)
def test_what_is_said(capsys, wanted, said):
    with loudness(wanted):
        say("usual")
        say_more("more")
        say_result("result")
    assert capsys.readouterr().out.splitlines() == said


@pytest.mark.parametrize("name", COMMANDS)
def test_help_in_80_columns(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command(name, "--help") == 0
    shown = capsys.readouterr().out
    assert ("--quiet" in shown and "--verbose" in shown) == (name in TALKING)
    lines = shown.splitlines()
    assert not [line for line in lines if len(line) > 80 or re.search(r"…|<\w+\|[^>]*$", line)]  # no cut words
    assert "Examples" in shown and f"demega-jax {name} " in shown


def test_a_quiet_and_a_verbose_command(tmp_path, capsys):
    assert run_command("simulate", tmp_path / "a", *SMALL_DATA) == 0
    usual = capsys.readouterr().out.replace("/a/", "/b/").splitlines()
    assert run_command("simulate", tmp_path / "b", *SMALL_DATA, "-v") == 0
    verbose = capsys.readouterr().out.splitlines()
    assert verbose[1:-1] == usual and "took" in verbose[-1] and "Python" in verbose[0]
    assert run_command("simulate", "-q", tmp_path / "c", *SMALL_DATA) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"{tmp_path}/c: simulated"] and "warning: " in captured.err
    fails_with(capsys, ["simulate", tmp_path / "d", *SMALL_DATA, "-q", "--verbose"], "--quiet", "--verbose")
