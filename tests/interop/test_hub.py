"""`push`, `pull`, `load` and `from_pretrained`: requests of the hub's client to a hub on the loopback interface."""

import json
import socket

import numpy as np
import pytest
import yaml
from command_line import SMALL
from helpers.errors import fails_with, refused
from helpers.hub_server import Dataset, commit_name
from helpers.runs import evaluate, files_in, run_command, train
from huggingface_hub import constants
from safetensors.numpy import load, save

import demega_jax
from demega_jax import DeMEGa
from demega_jax.data.grouped import open_grouped
from demega_jax.phonemes import feature_table
from demega_jax.training.checkpoint import Checkpoints

REPO = "someone/demega-small"


def push(run, *more: object) -> None:
    assert run_command("push", run, REPO, *more) == 0


def pushed(hub, revision: str = "main") -> dict[str, bytes]:
    """The files of the model on the hub."""
    model = hub.models[REPO]
    return model.commits[model.commit(revision)]


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(6, 5, 9)).astype(np.float32)


@pytest.mark.slow
def test_a_pushed_run_is_loaded_with_the_same_numbers(hub, run, windows, capsys):
    push(run, "--message", "First")
    assert set(pushed(hub)) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert hub.messages == ["First"] and hub.visibility[REPO] == "public"
    commit = hub.models[REPO].commit("main")
    assert commit in capsys.readouterr().out
    local, model = demega_jax.load(run), demega_jax.load(REPO)
    np.testing.assert_array_equal(model.predict(windows), local.predict(windows))
    assert (model.classes, model.window, model.steps) == (local.classes, local.window, local.steps)
    assert model.name == f"{REPO}@{commit[:12]}"
    np.testing.assert_array_equal(model.class_counts, local.class_counts)
    module = DeMEGa.from_pretrained(REPO)
    np.testing.assert_allclose(module(windows).logits, local.predict_logits(windows), rtol=1e-5, atol=1e-5)


def test_the_arrays_are_the_averages_with_the_feature_table(hub, run):
    """Oracle: the checkpoint as orbax reads it, and the table of the phonemes."""
    push(run)
    sent = load(pushed(hub)["model.safetensors"])
    best = Checkpoints(run / "checkpoints").read_newest("best")
    assert best is not None
    averages = {
        f"params.{name.removeprefix('average.')}": a for name, a in best[0].items() if name.startswith("average.")
    }
    assert averages and set(sent) == {*averages, "buffers.feature_table"}
    for name, average in averages.items():
        np.testing.assert_array_equal(sent[name], average)
    np.testing.assert_array_equal(sent["buffers.feature_table"], feature_table())


@pytest.mark.slow
def test_a_pulled_run_is_evaluated_and_trained_from(hub, run, data, tmp_path, capsys):
    push(run)
    assert run_command("pull", REPO, tmp_path / "pulled") == 0
    commit = hub.models[REPO].commit("main")
    assert json.loads((tmp_path / "pulled/hub.json").read_text())["commit"] == commit
    assert commit in capsys.readouterr().out
    ours = evaluate(run, tmp_path / "ours.json", "--data", data)
    pulled = evaluate(tmp_path / "pulled", tmp_path / "pulled.json", "--data", data)
    assert pulled["confusion"] == ours["confusion"] and pulled["loss"] == ours["loss"]
    more = [*SMALL, "train.steps=1", "train.eval_every=1"]
    assert train(data, tmp_path / "fine", "--init", tmp_path / "pulled", *more) == 0
    out = capsys.readouterr().out
    assert "parameters from" in out and "; new:" not in out
    assert not list(tmp_path.glob(".pulled*"))  # nothing is left beside it


@pytest.mark.slow
def test_all_members_are_pushed_and_averaged(hub, members, windows, tmp_path):
    push(members)
    assert {f"members/{n}/model.safetensors" for n in (0, 1)} < set(pushed(hub))
    local, model = demega_jax.load(members), demega_jax.load(REPO)
    np.testing.assert_array_equal(model.predict(windows), local.predict(windows))
    one = DeMEGa.from_pretrained(REPO, member=1)
    want = demega_jax.load(members / "members/1").predict_logits(windows)
    np.testing.assert_allclose(one(windows).logits, want, rtol=1e-5, atol=1e-5)
    assert run_command("pull", REPO, tmp_path / "pulled") == 0
    np.testing.assert_array_equal(demega_jax.load(tmp_path / "pulled").predict(windows), local.predict(windows))
    np.testing.assert_allclose(
        demega_jax.load(tmp_path / "pulled/members/1").predict_logits(windows), want, rtol=1e-5, atol=1e-5
    )
    with refused("member", "2", "0 to 1"):
        DeMEGa.from_pretrained(REPO, member=2)


@pytest.mark.slow
def test_a_second_push_replaces_the_first_in_one_commit(hub, run, members):
    push(members)
    first = hub.models[REPO].commit("main")
    push(run)
    assert set(pushed(hub)) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert len(hub.models[REPO].commits) == 3  # the empty one, and one for each push
    assert demega_jax.load(REPO, revision=first).members and not demega_jax.load(REPO).members


@pytest.mark.slow
def test_a_branch(hub, run, members):
    push(run, "--private")
    push(members, "--revision", "five")
    assert hub.visibility[REPO] == "private"
    assert not demega_jax.load(REPO).members and demega_jax.load(REPO, revision="five").members


def test_nothing_of_this_machine_is_sent(hub, run, data):
    push(run)
    for name, content in pushed(hub).items():
        assert str(data).encode() not in content and str(run.parent).encode() not in content, name
    assert json.loads(pushed(hub)["config.json"])["config"]["data"]["path"] is None


@pytest.mark.slow
def test_the_cache_answers_where_there_is_no_hub(hub, run, windows, tmp_path, monkeypatch, capsys):
    push(run)
    want = demega_jax.load(REPO).predict(windows)
    asked = len(hub.requests)
    commit = hub.models[REPO].commit("main")
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        np.testing.assert_array_equal(demega_jax.load(REPO).predict(windows), want)
        assert run_command("pull", REPO, tmp_path / "pulled", "--revision", commit) == 0
        fails_with(capsys, ["pull", REPO, tmp_path / "no", "--revision", "v2"], "HF_HUB_OFFLINE", "v2", "cache")
        fails_with(capsys, ["push", run, REPO], "HF_HUB_OFFLINE")
    assert len(hub.requests) == asked
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        np.testing.assert_array_equal(demega_jax.load(REPO).predict(windows), want)
        fails_with(capsys, ["pull", "a/b", tmp_path / "no"], "cannot be reached", "network")
        fails_with(capsys, ["push", run, REPO], "cannot be reached", "network")
    assert not (tmp_path / "no").exists()


def test_a_folder_of_this_machine_goes_first(hub, run, windows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone").mkdir()
    (tmp_path / REPO).symlink_to(run)
    assert demega_jax.load(REPO).name == REPO and not hub.requests
    with refused("revision", "folder of this machine"):
        demega_jax.load(REPO, revision="main")
    with refused("no folder of this name", "no such model"):
        demega_jax.load("someone/other")
    with refused("no config.yaml"):
        demega_jax.load("a/path/of/three")


@pytest.mark.slow
def test_published_files_in_a_folder_are_loaded(hub, run, windows, tmp_path):
    push(run)
    for name, content in pushed(hub).items():
        (tmp_path / name).write_bytes(content)
    want = demega_jax.load(run).predict(windows)
    np.testing.assert_array_equal(demega_jax.load(tmp_path).predict(windows), want)
    assert DeMEGa.from_pretrained(tmp_path)(windows).logits.shape == want.shape


@pytest.mark.slow
def test_repositories_that_cannot_be_had(hub, run, tmp_path, capsys):
    out = tmp_path / "pulled"
    push(run)
    hub.models["someone/bert"] = Dataset({commit_name(1): {"config.json": b'{"model_type": "bert"}'}})
    hub.models["someone/text"] = Dataset({commit_name(1): {"README.md": b"# Nothing", "notes.txt": b"x"}})
    for arguments, facts in [
        (["pull", "someone/none", out], ["no such model", "someone/none"]),
        (["pull", REPO, out, "--revision", "v9"], ["no revision v9"]),
        (["pull", "someone/bert", out], ["no model of demega-jax"]),
        (["pull", "someone/text", out], ["no model of demega-jax"]),
        (["pull", "just-a-name", out], ["OWNER/NAME", "just-a-name"]),
        (["pull", REPO, run], ["not empty"]),
        (["push", tmp_path / "no", REPO], ["no such folder"]),
        (["push", tmp_path, REPO], ["no config.yaml"]),
        (["push", run, "a/b/c"], ["OWNER/NAME", "a/b/c"]),
        (["push", run, "someone/bert"], ["someone/bert", "config.json", "not of demega-jax"]),
        (["push", run, "someone/text"], ["someone/text", "notes.txt", "not of demega-jax"]),
        (["push", run, REPO, "--scores", tmp_path / "no.json"], ["no.json", "no such file"]),
    ]:
        fails_with(capsys, arguments, *facts)
    hub.models[REPO].gate = (403, "GatedRepo")
    fails_with(capsys, ["pull", REPO, out], "gated", "accept", f"{hub.url}/{REPO}")
    hub.models[REPO].gate = None
    for status in (401, 403):
        hub.shut = status
        fails_with(capsys, ["push", run, REPO], "access refused", status, "hf auth login", "write")
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "hub-cache"])


def changed_config(**changes: object):
    def change(files: dict[str, bytes]) -> None:
        files["config.json"] = json.dumps(json.loads(files["config.json"]) | changes).encode()

    return change


def changed_arrays(change):
    def of(files: dict[str, bytes]) -> None:
        arrays = load(files["model.safetensors"])
        change(arrays)
        files["model.safetensors"] = save(arrays)

    return of


NAME, TABLE = "params.classifier.bias", "buffers.feature_table"


@pytest.mark.parametrize(
    "change, facts",
    [
        (changed_config(version=2), ["format 2", "upgrade"]),
        (changed_config(class_counts=[1, 2]), ["config.json", "2 counts", "39 classes"]),
        (changed_config(members=[]), ["config.json", "members"]),
        (changed_config(members=[{"file": "../../x.safetensors", "step": 1}]), ["config.json", "members.0.file"]),
        (changed_config(config={"model": {"widht": 3}}), ["config.json", "unknown key model.widht"]),
        (changed_config(config={}), ["config.json", "sensors"]),
        (changed_config(more=1), ["config.json", "more"]),
        (changed_arrays(lambda arrays: arrays.pop(NAME)), ["1 arrays are missing", NAME]),
        (changed_arrays(lambda a: a.update({"params.x": np.zeros(2)})), ["1 arrays are too many", "params.x"]),
        (changed_arrays(lambda a: a.update({NAME: a[NAME][:-1]})), [NAME, "[38]", "[39]"]),
        (changed_arrays(lambda a: a.update({NAME: a[NAME].astype(np.int32)})), [NAME, "int32", "float32"]),
        (changed_arrays(lambda a: a.update({TABLE: np.ones((3, 14), np.float32)})), ["[3, 14]", "39 rows"]),
        (lambda files: files.update({"model.safetensors": b"x" * 40}), ["model.safetensors", "cannot be read"]),
        (lambda files: files.pop("model.safetensors"), ["model.safetensors", "no such file"]),
    ],
)
def test_models_that_do_not_fit_together(hub, run, tmp_path, capsys, change, facts):
    push(run)
    change(pushed(hub))
    fails_with(capsys, ["pull", REPO, tmp_path / "pulled"], REPO, *facts)
    assert not (tmp_path / "pulled").exists() and not list(tmp_path.glob(".pulled*"))


def test_the_card_says_where_a_pulled_run_is_from(hub, run, tmp_path, capsys):
    push(run)
    assert run_command("pull", REPO, tmp_path / "pulled") == 0
    capsys.readouterr()
    assert run_command("push", tmp_path / "pulled", "other/one", "--dry-run") == 0
    card = capsys.readouterr().out
    assert hub.models[REPO].commit("main") in card
    assert yaml.safe_load(card.split("---")[1])["base_model"] == REPO
    assert "other/one" not in hub.models


def test_feature_tables_other_than_the_phonemes_own_travel_too(hub, run, windows, tmp_path):
    """A table that was changed in training's place is what predictions of a pushed model use."""
    push(run)
    table = np.roll(feature_table(), 1, axis=0)
    changed_arrays(lambda arrays: arrays.update({"buffers.feature_table": table}))(pushed(hub))
    assert run_command("pull", REPO, tmp_path / "pulled") == 0
    buffers = demega_jax.load(tmp_path / "pulled").buffers
    np.testing.assert_array_equal(buffers["feature_table"], table)


@pytest.mark.slow
def test_a_pulled_run_holds_the_split_scores_of_the_original(hub, run, data, tmp_path):
    push(run)
    assert run_command("pull", REPO, tmp_path / "pulled") == 0
    split = open_grouped(data / "grouped_100/test_grouped.h5")
    ours, theirs = (demega_jax.load(folder).evaluate(split) for folder in (run, tmp_path / "pulled"))
    np.testing.assert_array_equal(ours.confusion, theirs.confusion)
    assert set(files_in(tmp_path / "pulled")) >= {"config.yaml", "hub.json"}
