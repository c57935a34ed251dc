"""`~` stands for the home folder wherever a path is given, and a user without a home gets no folder of that name."""

import pwd
from pathlib import Path

import numpy as np
import pytest
from helpers.data import grouped_path, open_levels, write_grouped
from helpers.errors import fails_with
from helpers.runs import run_command

import demega_jax
from demega_jax.commands.shared.words import home
from demega_jax.config import Config
from demega_jax.config.load import load_config, override
from demega_jax.files import cache_folder, expanded


@pytest.fixture
def at_home(tmp_path, monkeypatch) -> Path:
    """A home folder with data in it, seen from another folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_grouped(
        grouped_path(tmp_path / "home" / "D", 5),
        np.ones((4, 3, 5), np.float32),
        np.arange(4),
        level=5,
        groups=[range(5 * row, 5 * row + 5) for row in range(4)],
    )
    (tmp_path / "home" / "c.yaml").write_text("data:\n  path: ~/D\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


def test_paths_of_commands(at_home, capsys):
    assert run_command("inspect", "~/D", "--json=~/a.json") == 0
    assert run_command("inspect", "~/D", "--json", "~/b.json") == 0
    assert {path.name for path in at_home.iterdir()} == {"D", "c.yaml", "a.json", "b.json"}
    assert str(at_home / "none") in fails_with(capsys, ["train", "~/c.yaml", "--data=~/none"], "no such folder")
    assert str(at_home / "none") in fails_with(capsys, ["stack", "--base=~/none,~/D", "--run=~/new"], "no such folder")
    assert not list(Path().iterdir())


def test_paths_of_the_configuration_and_of_python(at_home):
    assert load_config(Path("~/c.yaml")).data.path == str(at_home / "D")
    assert override(Config(), {"data.regroup.splits": "~/s.json"}, "test").data.regroup.splits == str(
        at_home / "s.json"
    )
    assert open_levels(Path("~/D"), 5, "train").rows == 4
    with pytest.raises(demega_jax.UserError) as caught:
        demega_jax.load("~/run")
    assert str(at_home / "run") in str(caught.value)


def test_only_a_home_is_put_in(at_home):
    for text in ("a~/b", "./~", "~nobody-of-this-name/x", "x~", "1:Sherlock1:1", "--a=~"):
        assert home(text) == text == expanded(text)
    assert (home("~"), home("~/a~b")) == (str(at_home), str(at_home / "a~b"))


def no_entry(uid: int) -> None:
    raise KeyError(uid)


@pytest.mark.parametrize("home_of", [None, "some/where"])
def test_a_user_without_a_home_has_no_cache(tmp_path, monkeypatch, home_of):
    """As in a container whose user is a bare number. A path that is not absolute is none either."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.delenv("HOME")
    if home_of is not None:
        monkeypatch.setenv("HOME", home_of)
    assert cache_folder("x") is None and expanded("~/x") == "~/x"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder("x") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("x") == tmp_path / "demega-jax" / "x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("x") == tmp_path / ".cache" / "demega-jax" / "x"


def test_without_a_home_recordings_are_measured_and_nothing_is_left(tmp_path, monkeypatch):
    from helpers.recordings import GOLDEN_TREE

    from demega_jax.data.recordings.runs import find_recordings
    from demega_jax.data.recordings.statistics import statistics

    recordings = find_recordings(GOLDEN_TREE)[:1]
    known = statistics(recordings)
    monkeypatch.setattr("demega_jax.data.recordings.statistics.cache_folder", lambda name: None)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(statistics(recordings).mean, known.mean)
    assert not list(tmp_path.iterdir())
