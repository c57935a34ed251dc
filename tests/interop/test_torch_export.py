"""Runs become state dicts of the published system, and come back with the same bits."""

import json

import numpy as np
import pytest
from helpers.arrays import assert_same_arrays
from helpers.errors import assert_warned, fails_with
from helpers.runs import run_command
from helpers.torch_files import VARIANTS, tiny_file, tiny_run
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch_weights import part

import demega_jax
from demega_jax.config import Config
from demega_jax.interop.torch_settings import config_from, hyperparameters_of
from demega_jax.training.checkpoint import read_model
from demega_jax.training.run import RunFolder


@pytest.fixture
def numbers(golden) -> dict:
    return golden("classifier_tiny")


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dict_is_the_one_that_was_imported(numbers, variant, tmp_path):
    """But for what is never read, which is as in a new module, and the two biases of an LSTM, which become one."""
    run, file = tiny_run(numbers, tmp_path / "run", variant), tmp_path / "exported.safetensors"
    assert run_command("export-torch", run, file) == 0
    ours, theirs = load_file(file), part(numbers, f"{variant}/w/")
    unused = {"lstm": "feature_norm.", "ipa": "classifier."}.get(variant.partition("_")[0], "-")
    for name in theirs:
        if name.startswith(unused):
            theirs[name] = np.full_like(theirs[name], float(name == "feature_norm.weight"))
        if ".bias_ih_" in name:
            theirs[name] = theirs[name] + theirs[name.replace("_ih_", "_hh_")]
    assert_same_arrays(ours, {name: np.zeros_like(a) if ".bias_hh_" in name else a for name, a in theirs.items()})


@pytest.mark.parametrize("variant", ["pre", "lstm", "ipa_dot"])
def test_there_and_back_bit_for_bit(numbers, variant, tmp_path):
    negative = {name: np.where(a > 0, np.float32(-0.0), a) if ".bias" in name else a for name, a in numbers.items()}
    run, file, again = tiny_run(negative, tmp_path / "run", variant), tmp_path / "a.safetensors", tmp_path / "again"
    assert run_command("export-torch", run, file) == run_command("import-torch", file, again) == 0
    (ours, meta), (theirs, back) = read_model(RunFolder(run)), read_model(RunFolder(again))
    assert_same_arrays(back_bits(theirs), back_bits(ours))
    assert RunFolder(run).read_config() == RunFolder(again).read_config()
    assert [back[key] for key in ("step", "epoch", "class_counts")] == [
        meta[key] for key in ("step", "epoch", "class_counts")
    ]
    assert demega_jax.load(again).steps == (40,)


def back_bits(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bits as whole numbers, in which 0.0 and -0.0 differ."""
    return {name: np.ascontiguousarray(array).view(np.uint32) for name, array in arrays.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_hyperparameters_there_and_back(numbers, variant):
    file = tiny_file(numbers, variant, learning_rate=3e-4, warmup_epochs=3, total_epochs=60)
    theirs = hyperparameters_of(config_from(file.hyperparameters, file.tensors, {}, "file"))
    given = {name: value for name, value in file.hyperparameters.items() if name != "num_heads"}
    assert {name: theirs[name] for name in given} == given


def test_metadata(numbers, tmp_path):
    run, file = tiny_run(numbers, tmp_path / "run"), tmp_path / "a.safetensors"
    assert run_command("export-torch", run, file) == 0
    with safe_open(file, framework="numpy") as opened:
        meta = opened.metadata()
    ours = json.loads(meta["demega_jax"])
    assert Config.model_validate(ours["config"]) == RunFolder(run).read_config()
    assert (ours["format"], ours["step"], len(ours["class_counts"])) == (1, 40, 39)
    theirs = json.loads(meta["hyper_parameters"])
    assert (theirs["meg_channels"], theirs["hidden_dim"], theirs["vocab_size"]) == (12, 16, 39)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A function that makes a run folder that has a configuration alone, with these keys."""

    def make(**keys: object):
        folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
        folder.create(Config.model_validate(keys))
        return folder.path

    return make


def test_runs_that_cannot_be_exported(runs, tmp_path, capsys):
    file = tmp_path / "a.safetensors"
    members = runs(train={"members": 2}, data={"feed": "resident"})
    fails_with(capsys, ["export-torch", members, file], "members", members / "members" / "0")
    fails_with(capsys, ["export-torch", runs(model={"pool": "mean"}), file], "model.pool=mean")
    fails_with(capsys, ["export-torch", runs(), file], "no checkpoint")
    fails_with(capsys, ["export-torch", tmp_path, file], "no config.yaml")
    fails_with(capsys, ["export-torch", runs(), tmp_path / "a.pt"], "a.pt.safetensors")
    assert not list(tmp_path.iterdir())
    file.write_bytes(b"weights of somebody else")
    fails_with(capsys, ["export-torch", runs(), file], file, "--force")


def test_what_the_published_system_computes_otherwise_is_said(numbers, tmp_path, capsys):
    run = tiny_run(numbers, tmp_path / "run", model__input_norm="zscore")
    capsys.readouterr()
    assert run_command("export-torch", run, tmp_path / "a.safetensors") == 0
    assert_warned(capsys.readouterr().err.splitlines(), "model.input_norm=zscore")


def test_files_of_others_are_refused(numbers, tmp_path, capsys):
    run, file, again = tiny_run(numbers, tmp_path / "run"), tmp_path / "a.safetensors", tmp_path / "again"
    tensors = part(numbers, "pre/w/")
    save_file(tensors, file)
    fails_with(capsys, ["import-torch", file, again], "a.safetensors", "no configuration")
    save_file(tensors, file, {"demega_jax": "{}"})
    fails_with(capsys, ["import-torch", file, again], "a.safetensors", "metadata")
    save_file(tensors, file, {"demega_jax": json.dumps({"format": 9})})
    fails_with(capsys, ["import-torch", file, again], "format 9", "upgrade")
    assert run_command("export-torch", run, file) == 0
    fails_with(capsys, ["import-torch", file, again, "model.width=32"], "shape", "(24, 400)", "(24, 800)")
    file.write_bytes(file.read_bytes()[:-100])
    fails_with(capsys, ["import-torch", file, again], "a.safetensors", "cannot be read")
    assert not again.exists()


def test_torch_loads_what_was_exported(numbers, tmp_path):
    """The names and layouts that a strict `load_state_dict` asks for, for one layer of torch's own of each kind."""
    torch = pytest.importorskip("torch")
    run, file = tiny_run(numbers, tmp_path / "run", "lstm"), tmp_path / "a.safetensors"
    assert run_command("export-torch", run, file) == 0
    state = {name: torch.from_numpy(array) for name, array in load_file(file).items()}
    lstm = torch.nn.LSTM(12, 16, num_layers=2, bidirectional=True, batch_first=True)
    lstm.load_state_dict(part(state, "meg_encoder."), strict=True)
    theirs = torch.nn.LSTM(12, 16, num_layers=2, bidirectional=True, batch_first=True)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in part(numbers, "lstm/w/meg_encoder.").items()})
    x = torch.from_numpy(numbers["x"]).transpose(1, 2)
    torch.testing.assert_close(lstm(x)[0], theirs(x)[0])
