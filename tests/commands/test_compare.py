"""`compare` and `audit` from the command line: against the models themselves, and what they refuse."""

import json

import h5py
import numpy as np
import pytest
from command_line import SMALL, fails
from helpers.errors import assert_facts
from helpers.recordings import recorded, write_marked
from sklearn.metrics import f1_score

import demega_jax
from demega_jax.cli import main


def of(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def train(data, folder, *keys):
    of("train", "configs/tiny.yaml", "--data", data, "--run", folder, "--devices", 1, *SMALL, *keys)
    return folder


@pytest.fixture(scope="module")
def single(data, tmp_path_factory):
    """A run of one model with another seed than `run`."""
    return train(data, tmp_path_factory.mktemp("runs") / "single", "train.seed=9")


@pytest.fixture(scope="module")
def two(data, tmp_path_factory):
    """A run of two members with the seeds 5 and 6."""
    return train(data, tmp_path_factory.mktemp("runs") / "two", "data.feed=resident", "train.seed=5", "train.members=2")


@pytest.fixture(scope="module")
def other(data, tmp_path_factory):
    """Another run of two members with the same seeds."""
    more = ("data.feed=resident", "train.seed=5", "train.members=2", "optim.learning_rate=1e-4")
    return train(data, tmp_path_factory.mktemp("runs") / "other", *more)


@pytest.fixture(scope="module")
def rows(data):
    with h5py.File(data / "grouped_100" / "test_grouped.h5") as file:
        return file["data"][:], file["labels"][:]


def score(run, rows) -> float:
    x, labels = rows
    return f1_score(labels, demega_jax.load(run).predict(x).argmax(1), labels=np.unique(labels), average="macro")


@pytest.mark.slow
def test_compare_two_models(run, single, rows, tmp_path, capsys):
    of("compare", run, "--against", single, "--split", "test", "--json", tmp_path / "c.json")
    shown, found = capsys.readouterr().out, json.loads((tmp_path / "c.json").read_text())
    scores = [score(each, rows) for each in (run, single)]
    assert [side["ensemble"]["macro_f1"] for side in found["sides"]] == pytest.approx(scores)
    assert found["over_rows"]["difference"] == pytest.approx(scores[0] - scores[1])
    assert found["over_seeds"] is None and found["rows"] == len(rows[0]) and found["against"] == [str(single)]
    assert f"{scores[0] - scores[1]:+.4f}" in shown and "single model" in shown
    of("compare", run, "--against", single, "--split", "test", "-q")
    (line,) = capsys.readouterr().out.splitlines()
    assert_facts(line, run, single, f"{scores[0] - scores[1]:+.4f}", "p =")


@pytest.mark.long
def test_compare_with_the_same_seeds(two, other, rows, tmp_path, capsys):
    of("compare", two, "--against", other, "--split", "test", "--json", tmp_path / "c.json")
    shown, found = capsys.readouterr().out, json.loads((tmp_path / "c.json").read_text())
    a, b = found["sides"]
    assert a["ensemble"]["macro_f1"] == pytest.approx(score(two, rows))
    each = [score(two / "members" / str(member), rows) for member in range(2)]
    assert [model["score"]["macro_f1"] for model in a["models"]] == pytest.approx(each)
    assert [model["seed"] for model in a["models"]] == [5, 6]
    assert a["mean"] == pytest.approx(np.mean(each)) and a["standard_deviation"] == pytest.approx(np.std(each, ddof=1))
    difference = score(two, rows) - score(other, rows)
    assert found["over_rows"]["difference"] == pytest.approx(difference)
    assert found["over_seeds"]["test"] == "Wilcoxon signed-rank" and found["over_seeds"]["least_p"] == 0.5
    assert f"{difference:+.4f}" in shown and "Wilcoxon signed-rank, 2 pairs" in " ".join(shown.split())


@pytest.mark.long
def test_compare_with_other_seeds_and_several_runs(run, two, other, tmp_path, capsys):
    of("compare", run, "--against", two, other, "--json", tmp_path / "c.json")
    assert "single model" in capsys.readouterr().out
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["over_seeds"] is None and len(found["sides"][1]["models"]) == 4
    of("compare", run, two, "--against", other, "--json", tmp_path / "c.json")
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["over_seeds"]["test"] == "Mann-Whitney" and found["over_seeds"]["sizes"] == [3, 2]
    assert "not paired" in " ".join(capsys.readouterr().out.split())


@pytest.mark.long
def test_a_member_has_a_seed_of_its_own(two, other, tmp_path):
    """The folder of a member is a run like any other, and is paired like one."""
    sides = [[run / "members" / str(member) for member in range(2)] for run in (two, other)]
    of("compare", *sides[0], "--against", *sides[1][::-1], "--split", "test", "--json", tmp_path / "members.json")
    of("compare", two, "--against", other, "--split", "test", "--json", tmp_path / "runs.json")
    members, runs = (json.loads((tmp_path / name).read_text()) for name in ("members.json", "runs.json"))
    assert [model["seed"] for model in members["sides"][1]["models"]] == [6, 5]
    assert members["over_seeds"] == runs["over_seeds"] and members["over_rows"] == runs["over_rows"]


@pytest.mark.slow
def test_audit_of_a_run(single, rows, tmp_path, capsys):
    of("audit", single, "--split", "test", "--rows", 12, "--json", tmp_path / "a.json", "--seed", 2, "-q")
    (line,) = capsys.readouterr().out.splitlines()
    assert_facts(line, single, "macro-F1", "chance")
    of("audit", single, "--split", "test", "--json", tmp_path / "b.json", "-v")
    shown = capsys.readouterr().out
    small, whole = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert (small["rows"], small["train_rows"], small["all_rows"]) == (12, 12, len(rows[0]))
    assert (whole["rows"], whole["train_rows"], whole["run"]) == (len(rows[0]), 125, str(single))
    lines = {(line["kind"], line["control"]): line for line in whole["lines"]}
    assert lines["model", "windows"]["score"] == pytest.approx(score(single, rows))
    assert whole["chance"] == pytest.approx(1 / len(np.unique(rows[1])))
    assert f"{score(single, rows):.3f}" in shown and "noise level (K)" in shown and len(lines) == 12
    assert "took" in shown and "seed 0" in shown


@pytest.mark.parametrize("level", [5, (5, 7)])
def test_some_averages_of_recordings(tmp_path, level):
    """Only the groups of the rows are averaged, and they are those of the whole split."""
    split = recorded(write_marked(tmp_path), level=level).averages("validation", None)
    whole = split.reader().read(np.arange(split.rows))
    some = np.arange(0, split.rows, 2)
    np.testing.assert_array_equal(split.reader_of(some).read(np.arange(len(some))), whole[some])


def test_what_is_refused(run, single, data, tmp_path, capsys):
    for arguments, fact in [
        (("compare", run), "--against"),
        (("compare", run, "--against", run), "both sides"),
        (("compare", run, "--against", tmp_path / "no"), "no such folder"),
        (("compare", run, "--against", tmp_path), "no config.yaml"),
        (("compare", run, "--against", single, "--level", 5), "no level 5"),
        (("compare", run, "--against", single, "--split", "train"), "validation"),
        (("compare", run, "--against", single, single), "twice"),
        (("audit", tmp_path), "no config.yaml"),
        (("audit", run, "--rows", 1), "--rows"),
        (("audit", run, "--data", tmp_path), "no grouped_K"),
        (("audit", run, "--json", tmp_path), "it is a folder"),
    ]:
        assert fact in fails(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []
