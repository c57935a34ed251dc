"""Checkpoints of the published system become runs: logits, settings, moments, and what is refused."""

import dataclasses
import sys

import jax
import numpy as np
import pytest
from helpers import GOLDEN
from helpers.errors import fails_with, refused
from helpers.runs import lines_of, newest_arrays, run_command, train
from helpers.torch_files import VARIANTS, tiny_file, tiny_run, without

import demega_jax
from demega_jax.data.simulate.grouped import simulate_grouped
from demega_jax.interop.torch_file import Moments
from demega_jax.interop.torch_import import convert, train_state, write_run
from demega_jax.interop.torch_names import torch_shape
from demega_jax.phonemes import PHONEMES
from demega_jax.training.checkpoint import flatten
from demega_jax.training.optimizer import ParameterGroups, make_optimizer

TOLERANCE = dict(rtol=2e-5, atol=2e-6)
CKPT = GOLDEN / "lightning_tiny.ckpt"


@pytest.fixture
def numbers(golden) -> dict:
    return golden("classifier_tiny")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.long
def test_logits_of_every_variant(numbers, variant, tmp_path):
    model = demega_jax.load(tiny_run(numbers, tmp_path / "run", variant))
    np.testing.assert_allclose(model.predict_logits(numbers["x"]), numbers[f"{variant}/logits"], **TOLERANCE)
    np.testing.assert_array_equal(model.buffers["feature_table"], numbers["ipa_matrix"])
    assert (model.classes, model.steps) == (PHONEMES, (40,))


@pytest.mark.parametrize("variant", VARIANTS)
def test_unused_tensors_are_named(numbers, variant):
    unused = {"pre": (), "post": (), "lstm": ("feature_norm.bias", "feature_norm.weight")}
    assert convert(tiny_file(numbers, variant), {}).unused == unused.get(
        variant, ("classifier.bias", "classifier.weight")
    )


def test_hyperparameters_become_keys(numbers):
    file = tiny_file(
        numbers,
        learning_rate=3e-4,
        classifier_lr_multiplier=2.0,
        weight_decay=0.5,
        warmup_epochs=3,
        total_epochs=60,
        loss_type="focal",
        focal_gamma=1.5,
        label_smoothing=0.2,
        use_class_weights=True,
        temperature=0.7,
        contrastive_weight=0.25,
        contrastive_temperature=0.07,
        ipa_feature_weight=0.1,
        dropout_rate=0.3,
        seed=5,
        metric_type="f1_macro",
        use_rotary=False,
        use_tta=True,
    )
    config = convert(file, {}).config
    model, loss, optim = config.model, config.loss, config.optim
    assert (model.sensors, model.time_points, model.width, model.layers, model.heads) == (12, 25, 16, 2, 4)
    assert (model.embedding_width, model.projection_width, model.ipa_width, model.dropout) == (12, 10, 8, 0.3)
    assert (model.num_buckets, model.max_distance, model.position_terms) == (32, 128, ("c2p", "p2c"))
    assert (optim.learning_rate, optim.head_lr_multiplier, optim.weight_decay) == (3e-4, 2.0, 0.5)
    assert (optim.schedule, optim.schedule_length, optim.warmup) == ("per_epoch", 60, 0.05)
    assert (optim.frozen, optim.clip, config.train.seed) == (("final_norm",), 1.0, 5)
    assert (loss.class_loss, loss.focal_gamma, loss.label_smoothing, loss.ipa_weight) == ("focal", 1.5, 0.2, 0.1)
    assert (loss.class_weights, loss.class_weight_temperature) == ("temperature", 0.7)
    assert (loss.contrastive_weight, loss.contrastive_temperature) == (0.25, 0.07)


def test_losses_that_are_off(numbers):
    """Without its module, a head is off; with it, its loss alone is."""
    off = tiny_file(numbers, use_contrastive=False, use_ipa_features=False)
    config = convert(off, {}).config
    assert (config.model.projection_width, config.loss.contrastive_weight, config.loss.ipa_weight) == (10, 0.0, 0.0)
    absent = dataclasses.replace(off, tensors=without(off.tensors, "projection_head", "ipa_predictor"))
    model = convert(absent, {})
    assert (model.config.model.projection_width, model.config.model.ipa_width) == (0, 0)
    assert model.unused == ("ipa_feature_matrix",) and not model.buffers


@pytest.mark.parametrize(
    "gone, terms, shared",
    [
        (["pos_key_proj"], ("p2c",), False),
        (["pos_query_proj"], ("c2p",), False),
        (["pos_key_proj", "pos_query_proj"], ("c2p", "p2c"), True),
        (["pos_", "rel_"], (), False),
    ],
)
def test_position_terms_are_those_of_the_tensors(numbers, gone, terms, shared):
    file = tiny_file(numbers)
    model = convert(
        dataclasses.replace(file, tensors=without(file.tensors, *gone, *(["norm_rel"] if not terms else []))), {}
    )
    assert (model.config.model.position_terms, model.config.model.share_key) == (terms, shared)


def test_buckets_are_those_of_the_table(numbers):
    """48 rows: 24 buckets in each direction, or one for each distance below 24, if we are told so."""
    file = tiny_file(numbers)
    tensors = {name: a[:48] if "rel_embeddings" in name else a for name, a in file.tensors.items()}
    short = dataclasses.replace(file, tensors=tensors)
    assert convert(short, {}).config.model.num_buckets == 24
    told = convert(short, {"model.num_buckets": 0, "model.max_distance": 24}).config.model
    assert (told.num_buckets, told.max_distance) == (0, 24)
    with refused("rel_embeddings.weight", "(48, 16)", "(64, 16)", "model."):
        convert(short, {"model.num_buckets": 32})


def five_classes(numbers) -> object:
    file = tiny_file(numbers, vocab_size=5)
    cut = {
        name: a[:5] if name.startswith(("classifier.", "ipa_feature_matrix")) else a for name, a in file.tensors.items()
    }
    return dataclasses.replace(file, tensors=cut)


def test_five_classes(numbers, tmp_path):
    """Classes do not see each other: the logits are the first five of 39."""
    file = five_classes(numbers)
    write_run(convert(file, {}), file, tmp_path / "run")
    model = demega_jax.load(tmp_path / "run")
    assert model.classes == ("class_0", "class_1", "class_2", "class_3", "class_4")
    np.testing.assert_allclose(model.predict_logits(numbers["x"]), numbers["pre/logits"][:, :5], **TOLERANCE)
    names = ("left", "right", "up", "down", "none")
    assert convert(file, {"model.classes": names}).config.model.classes == names
    with refused("ipa_feature_matrix", "(5, 14)", "(2, 14)"):
        convert(file, {"model.classes": names[:2]})


@pytest.mark.slow
def test_moments_make_the_next_update(numbers):
    """The update of AdamW with a gradient of zeros, from the moments in their layout, by its formula in numpy."""
    file = tiny_file(numbers)
    rng = np.random.default_rng(0)
    names = [name for name in file.tensors if name != "ipa_feature_matrix" and not name.startswith("feature_norm")]
    first = {name: rng.normal(size=file.tensors[name].shape).astype(np.float32) for name in names}
    second = {name: rng.uniform(0.5, 1, file.tensors[name].shape).astype(np.float32) for name in names}
    model = convert(dataclasses.replace(file, moments=Moments(first, second, 7)), {})
    state, groups = train_state(model, 40), ParameterGroups.of(model.config, model.params)
    seen: list[int] = []

    def schedule(count):
        seen.append(int(count))
        return 0.01

    tx = make_optimizer(model.config, schedule, groups)
    vector = groups.vector(model.params)
    updates, _ = tx.update(jax.numpy.zeros_like(vector), state.opt_state, vector)
    assert set(seen) == {40} and int(state.step) == 40
    ours = flatten(groups.replace(model.params, updates))
    for path, name, turn, rate in (
        ("encoder.stem.conv1.kernel", "input_projection.0.weight", (2, 1, 0), 0.01),
        ("encoder.layers.1.feedforward.up.kernel", "meg_encoder.1.ffn.0.weight", (1, 0), 0.01),
        ("ipa.out.kernel", "ipa_predictor.3.weight", (1, 0), 0.015),
    ):
        m, v = 0.9 * first[name] / (1 - 0.9**8), 0.999 * second[name] / (1 - 0.999**8)
        expected = -rate * (m / (np.sqrt(v) + 1e-8) + 1e-3 * file.tensors[name])
        # optax takes 1 - 0.999^8 in float32, which is right to 7e-6.
        np.testing.assert_allclose(ours[path], expected.transpose(turn), rtol=2e-5, atol=1e-9, err_msg=path)
    np.testing.assert_array_equal(ours["encoder.final_norm.scale"], file.tensors["feature_norm.weight"])  # frozen


def test_moments_of_an_lstm_bias_are_those_of_one_of_the_two(numbers):
    file = tiny_file(numbers, "lstm")
    ones = {name: np.ones_like(a) for name, a in file.tensors.items() if not name.startswith(("ipa_f", "feature_norm"))}
    moments = convert(dataclasses.replace(file, moments=Moments(ones, ones, 1)), {}).moments
    assert moments is not None
    assert all((array == 1).all() for array in moments.first.values())


def test_shapes_in_their_layout():
    assert torch_shape("encoder.stem.conv1.kernel", (5, 12, 16)) == (16, 12, 5)
    assert torch_shape("encoder.layers.3.conv.depthwise.kernel", (3, 16)) == (16, 1, 3)
    assert torch_shape("encoder.stem.skip.kernel", (12, 16)) == (16, 12, 1)
    assert torch_shape("aggregator.hidden.kernel", (400, 24)) == (24, 400)


# What is refused


def test_missing_and_extra_tensors_are_named(numbers):
    file = tiny_file(numbers)
    tensors = without(file.tensors, "input_skip.bias") | {"more.weight": np.zeros(1, np.float32)}
    with refused("input_skip.bias", "more.weight", where="tiny.ckpt"):
        convert(dataclasses.replace(file, tensors=tensors), {})
    with refused("ipa_feature_matrix", "missing"):
        convert(dataclasses.replace(file, tensors=without(file.tensors, "ipa_feature_matrix")), {})


@pytest.mark.parametrize(
    "wrong, name, came, wanted",
    [
        ({"hidden_dim": 32}, "input_projection.0.weight", (16, 12, 5), (32, 12, 5)),
        ({"meg_channels": 13}, "input_projection.0.weight", (16, 12, 5), (16, 13, 5)),
        ({"time_points": 50}, "feature_aggregator.1.weight", (24, 400), (24, 800)),
        ({"vocab_size": 40}, "ipa_feature_matrix", (39, 14), (40, 14)),
        ({"projection_dim": 11}, "projection_head.2.weight", (10, 12), (11, 12)),
    ],
)
def test_hyperparameters_against_shapes(numbers, wrong, name, came, wanted):
    with refused(f"{name} has shape {came}", wanted, where="tiny.ckpt"):
        convert(tiny_file(numbers, **wrong), {})


def test_unused_tensors_have_their_shapes_too(numbers):
    file = tiny_file(numbers, "ipa_dot")
    with refused("classifier.bias has shape (3,)", "(39,)"):
        convert(dataclasses.replace(file, tensors=file.tensors | {"classifier.bias": np.zeros(3, np.float32)}), {})


def test_more_layers_than_there_are(numbers):
    with refused("meg_encoder.2", "missing"):
        convert(tiny_file(numbers, num_conformers=3), {})


def test_models_that_are_not_ours(numbers):
    with refused("use_rotary"):
        convert(tiny_file(numbers, use_rotary=True), {})
    with refused("model.norm", "sandwich"):
        convert(tiny_file(numbers, norm_type="sandwich"), {})
    with refused("vocab_size", "39.5"):
        convert(tiny_file(numbers, vocab_size=39.5), {})
    with refused("warmup_epochs", "300"):
        convert(tiny_file(numbers, warmup_epochs=300), {})
    file = tiny_file(numbers)
    with refused("meg_channels"):
        convert(dataclasses.replace(file, hyperparameters={"vocab_size": 39, "time_points": 25}), {})
    with refused("not finite", "classifier.bias"):
        convert(dataclasses.replace(file, tensors=file.tensors | {"classifier.bias": np.full(39, np.nan)}), {})


def test_changes_that_do_not_fit(numbers):
    """They are checked together with what the file says, not with the defaults."""
    file = tiny_file(numbers, hidden_dim=18)
    with refused("model.heads=4", "model.width=18"):
        convert(file, {})
    with refused("has shape", "(18, 12, 5)"):
        convert(file, {"model.heads": 3})
    with refused("tiny.ckpt", "model.width", "wide"):
        convert(file, {"model.width": "wide"})
    with refused("tiny.ckpt", "train.members=2"):
        convert(tiny_file(numbers), {"train.members": 2, "data.feed": "resident"})


def test_hyperparameters_that_we_do_not_know_are_warned_of(numbers, capsys):
    convert(tiny_file(numbers, something_new=3, enable_aug=True), {})
    assert "something_new, enable_aug" in capsys.readouterr().err


def test_a_run_is_there_as_a_whole_or_not_at_all(numbers, tmp_path, monkeypatch):
    file = tiny_file(numbers)
    model = convert(file, {})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("demega_jax.training.members.Checkpoints.save", full)
    with refused("No space left", where=tmp_path / "run"):
        write_run(model, file, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_bad_files_are_one_line(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    fails_with(capsys, ["import-torch", tmp_path / "nosuch.ckpt", run], "nosuch.ckpt", "no such file")
    text = tmp_path / "text.safetensors"
    text.write_text("nothing like a checkpoint")
    fails_with(capsys, ["import-torch", text, run], "text.safetensors", "export-torch")
    fails_with(capsys, ["import-torch", CKPT, run, "model.widht=3"], "model.widht", "model.width")
    monkeypatch.setitem(sys.modules, "torch", None)
    fails_with(capsys, ["import-torch", CKPT, run], "lightning_tiny.ckpt", "pip install -e '.[torch]'")
    assert [path.name for path in tmp_path.iterdir()] == ["text.safetensors"]
    run.mkdir()
    (run / "notes.txt").touch()
    fails_with(capsys, ["import-torch", CKPT, run], "run", "not empty")
    fails_with(capsys, ["import-torch", CKPT, text], "text.safetensors", "a file")
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


def test_names_that_lightning_gives_are_no_overrides(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails_with(capsys, ["import-torch", "epoch=3-val_loss=0.5.ckpt", "run"], "no such file")


# Training goes on


@pytest.mark.long
def test_training_goes_on(numbers, tmp_path, capsys):
    """--init begins with the parameters and the feature table; --resume after the imported step."""
    run, data = tiny_run(numbers, tmp_path / "run", train__batch_size=32), tmp_path / "data"
    simulate_grouped(data, levels=[100], groups=64, sensors=12, time_points=25, seed=1)
    same = ["width=16", "layers=2", "heads=4", "embedding_width=12", "projection_width=10", "ipa_width=8"]
    keys = [f"model.{each}" for each in same] + ["train.batch_size=32", "train.epochs=1", "optim.learning_rate=1e-9"]
    assert train(data, tmp_path / "init", "--init", run, *keys) == 0
    assert "80 of 80 parameters" in capsys.readouterr().out.replace("\n", " ")
    arrays = newest_arrays(tmp_path / "init")
    np.testing.assert_array_equal(arrays["buffers.feature_table"], numbers["ipa_matrix"])
    np.testing.assert_allclose(arrays["params.classifier.kernel"], numbers["pre/w/classifier.weight"].T, atol=1e-7)
    assert run_command("evaluate", run, "--data", data) == 0
    assert run_command("train", "--resume", "--run", run, "--data", data, "--devices", 1, "train.steps=42") == 0
    assert "going on after step 40" in capsys.readouterr().out
    assert [line["step"] for line in lines_of(run) if line["split"] == "train"] == [42]


# With torch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_lightning_checkpoint(torch, golden, tmp_path, capsys):
    run = tmp_path / "run"
    assert run_command("import-torch", CKPT, run) == 0
    captured = capsys.readouterr()
    assert "21,331 parameters" in captured.out and not captured.err
    model, outputs = demega_jax.load(run), golden("lightning_tiny_outputs")
    np.testing.assert_allclose(model.predict_logits(outputs["x"]), outputs["logits"], **TOLERANCE)
    assert model.steps == (4,)
    second = newest_arrays(run)
    state = torch.load(CKPT, weights_only=True)["optimizer_states"][0]["state"]
    total = sum(float(each["exp_avg_sq"].sum()) for each in state.values())
    np.testing.assert_allclose(second["opt_state.1.0.nu"].sum(dtype=np.float64), total, rtol=1e-6)


def test_half_precision(torch, tmp_path, golden):
    content = torch.load(CKPT, weights_only=True)
    content["state_dict"] = {name: tensor.bfloat16() for name, tensor in content["state_dict"].items()}
    torch.save(content, tmp_path / "half.ckpt")
    assert run_command("import-torch", tmp_path / "half.ckpt", tmp_path / "run") == 0
    kernel = newest_arrays(tmp_path / "run")["params.classifier.kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, content["state_dict"]["classifier.weight"].float().numpy().T)


def test_bad_checkpoints_are_one_line(torch, tmp_path, capsys):
    file, run = tmp_path / "bad.ckpt", tmp_path / "run"

    def refuses(*facts: str) -> None:
        fails_with(capsys, ["import-torch", file, run], "bad.ckpt", *facts)
        assert not run.exists()

    for content in (b"", b"nothing like a checkpoint", CKPT.read_bytes()[:-1000], b"\x80\x02" + bytes(100)):
        file.write_bytes(content)
        refuses("not a checkpoint")
    torch.save([1, 2], file)
    refuses("state_dict", "hyper_parameters")
    torch.save({"state_dict": {"a": 1}, "hyper_parameters": {}}, file)
    refuses("state_dict")
    good = torch.load(CKPT, weights_only=True)
    del good["state_dict"]["classifier.bias"]
    torch.save(good, file)
    refuses("classifier.bias", "missing")


class Trap:
    """Leaves a file where its pickle is executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_is_never_executed(torch, tmp_path, capsys):
    good = torch.load(CKPT, weights_only=True)
    torch.save(good | {"callbacks": Trap(tmp_path / "trapped")}, tmp_path / "code.ckpt")
    fails_with(capsys, ["import-torch", tmp_path / "code.ckpt", tmp_path / "run"], "code.ckpt", "code", "weights_only")
    assert [path.name for path in tmp_path.iterdir()] == ["code.ckpt"]
