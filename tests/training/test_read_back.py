"""What a run folder reads back is checked against something else that it wrote, and a difference is named by key."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.errors import assert_warned, fails_with, refused, the_warning
from helpers.runs import files_in, inspect, lines_of, newest_arrays, run_command
from helpers.small_run import KEYS, best_step, meta_file

from demega_jax.config import Config
from demega_jax.config.load import load_config, override
from demega_jax.errors import UserError
from demega_jax.evaluation.model import load
from demega_jax.files import sealed
from demega_jax.training.members import check_members
from demega_jax.training.meta import Damaged, check_config, check_seal
from demega_jax.training.restore import create_members
from demega_jax.training.run import RunFolder
from demega_jax.training.run_config import COPY, NOTE, config_text, read_config_text

CONFIG = Config()


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


# config.yaml


def test_a_configuration_comes_back_and_an_older_file_too(tmp_path):
    path, config = tmp_path / "config.yaml", override(CONFIG, {"data.path": "ö\u2028 '#\n", "data.level": [5, 20]}, "")
    path.write_text(config_text(config), encoding="utf-8")
    assert read_config_text(path) == config == load_config(path)
    lines = config_text(config).splitlines()
    path.write_text("\n".join([lines[0], *lines[2:-1]]) + "\n", encoding="utf-8")
    assert read_config_text(path) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.schedule_length", 1000),
        ("loss.focal_gamma", 3.0),
        ("model.input_norm", "zscore"),
        ("model.layers", 1),
        ("train.steps", 7),
        ("data.augment.noise", 0.5),
    ],
)
def test_a_changed_value_is_named_by_key(tmp_path, key, value):
    """In the lines or in the copy, whatever key it is: one that resume may change too."""
    path = tmp_path / "config.yaml"
    ours, theirs = (config_text(c).splitlines() for c in (CONFIG, override(CONFIG, {key: value}, "")))
    for text in ([*ours[:-1], theirs[-1]], [*theirs[:-1], ours[-1]]):
        path.write_text("\n".join(text) + "\n")
        with refused(key, value, where=path):
            read_config_text(path)


def test_no_turned_bit_of_a_config_is_silent(tmp_path):
    """Every value is the one that was written, or the file is refused."""
    path, written = tmp_path / "config.yaml", config_text(CONFIG).encode()
    rng = np.random.default_rng(0)
    found = 0
    for place in rng.integers(0, len(written), 100):
        spoilt = bytearray(written)
        spoilt[place] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        try:
            assert read_config_text(path) == CONFIG, (place, chr(written[place]))
        except UserError:
            found += 1
    assert found > 50


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.7, 0.98])
def test_a_cut_config_is_refused(tmp_path, share):
    path, text = tmp_path / "config.yaml", config_text(CONFIG)
    path.write_text(text[: int(share * len(text))])
    with refused("config.yaml"):
        read_config_text(path)
    lines = text.splitlines()
    assert lines[1] == NOTE and lines[-1].startswith(COPY)


def test_no_text_and_a_newer_format_are_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe")
    with refused("not a text file", where=path):
        read_config_text(path)
    path.write_text(config_text(CONFIG).replace("format 1", "format 2", 1))
    with refused("format 2", "upgrade", where=path):
        read_config_text(path)


def commands(run: Path, data: Path, out: Path) -> list[list]:
    """Every command that reads a run folder."""
    return [
        ["train", "--resume", "--run", run],
        ["train", "configs/tiny.yaml", "--init", run, "--data", data, "--run", out / "new", *KEYS],
        ["evaluate", run],
        ["predict", run, "--input", data, "--output", out / "p.csv"],
        ["submit", run, "--holdout", run / "config.yaml", "--output", out / "s.csv"],
        ["report", run],
        ["audit", run],
        ["compare", run, "--against", data],
        ["inspect", run],
        ["stack", "--base", run, "--base", data, "--run", out / "stack"],
        ["export-torch", run, out / "a.safetensors"],
        ["push", run, "someone/model"],
    ]


@pytest.mark.slow
def test_every_command_names_the_changed_key(run, data, tmp_path, capsys):
    rewrite(run / "config.yaml", "focal_gamma: 2.0", "focal_gamma: 2.5")
    before = files_in(run)
    for words in commands(run, data, tmp_path / "out"):
        fails_with(capsys, words, run / "config.yaml", "loss.focal_gamma", "2.5", "2.0")
    with refused("loss.focal_gamma"):
        load(run)
    assert files_in(run) == before and not (tmp_path / "out").exists()


# The configuration in a checkpoint, and its arrays


@pytest.mark.parametrize(("key", "value"), [("model.layers", 0), ("optim.weight_decay", 0.5)])
@pytest.mark.slow
def test_the_config_of_another_run_is_named_by_key(run, data, tmp_path, capsys, key, value):
    """A whole config.yaml, but not the one that the checkpoints were written with."""
    folder = RunFolder(run)
    value = value or folder.read_config().model.layers + 1
    folder.write_config(override(folder.read_config(), {key: value}, ""))
    for words in (
        ["train", "--resume", "--run", run, "--devices", 1],
        ["evaluate", run],
        ["inspect", run],
        ["export-torch", run, tmp_path / "a.safetensors"],
        ["push", run, "someone/model"],
    ):
        fails_with(capsys, words, folder.config, key, value)
    with refused(key, where=folder.config):
        load(run)


def test_keys_that_resume_may_change_may_differ_from_a_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    meta = {"step": 3, "config": json.loads(CONFIG.model_dump_json())}
    check_config(override(CONFIG, {"train.steps": 9, "data.path": "elsewhere", "stack.folds": 3}, ""), meta, folder)
    del meta["config"]["loss"]["focal_gamma"]  # a checkpoint of before there was this key
    check_config(CONFIG, meta, folder)
    with refused("train.batch_size", "step 3", where=folder.config):
        check_config(override(CONFIG, {"train.batch_size": 7}, ""), meta, folder)


@pytest.mark.slow
def test_arrays_that_the_model_has_not_are_named(run, capsys):
    """Also where nothing says which configuration wrote them: surplus arrays are never ignored."""
    fewer = override(RunFolder(run).read_config(), {"model.projection_width": 0, "loss.contrastive_weight": 0.0}, "")
    RunFolder(run).write_config(fewer)
    for kind, step in (("best", best_step(run)), ("latest", 3), ("latest", 6)):
        meta = json.loads(meta_file(run, kind, step).read_text())
        meta["config"] = json.loads(fewer.model_dump_json())
        del meta["seal"]
        meta_file(run, kind, step).write_text(json.dumps(sealed(meta)))
    with refused("arrays", "params.projection", where=run / "checkpoints"):
        load(run)
    fails_with(capsys, ["inspect", run], "arrays", "params.projection")
    fails_with(capsys, ["train", "--resume", "--run", run, "--devices", 1], "arrays", "checkpoints")


# The meta of a checkpoint


META = {
    "format": 1,
    "step": 30,
    "checksums": {"model": {"params.w": "00c0ffee"}},
    "class_counts": [3, 4],
    "epoch": 1.5,
    "standing": {"best_macro_f1": 0.25, "best_step": 20, "stale": 1},
    "config": {"train": {"seed": 777}},
    "level": None,
}


def test_no_turned_bit_of_a_meta_is_silent():
    """Every bit of every byte: what is still JSON and passes for sealed says what was written."""
    written = json.dumps(sealed(META)).encode()
    silent = found = 0
    for place in range(len(written)):
        for bit in range(8):
            spoilt = bytearray(written)
            spoilt[place] ^= 1 << bit
            try:
                meta = json.loads(spoilt)
            except ValueError:
                continue
            try:
                check_seal(meta)
                silent += {key: value for key, value in meta.items() if key != "seal"} != META
            except Damaged:
                found += 1
    assert silent == 0 and found > 500


@pytest.mark.parametrize(
    ("change", "named"),
    [({"epoch": 2.5}, "epoch"), ({"standing": {}}, "standing"), ({"other": 1}, "other"), ({"seal": []}, "seal")],
)
def test_a_changed_meta_is_named_by_key(change, named):
    with pytest.raises(Damaged, match=named):
        check_seal(sealed(META) | change)


def test_a_meta_of_before_the_seal_is_read_and_its_form_checked():
    check_seal(META)
    for change in ({"stabding": {}}, {"standing": {"best_step": 1}}, {"checksums": [1]}):
        with pytest.raises(Damaged, match=next(iter(change))):
            check_seal(META | change)
    with pytest.raises(Damaged, match="class_counts"):
        check_seal({key: value for key, value in META.items() if key != "class_counts"})


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.slow
def test_a_step_that_is_not_that_of_the_folder(run, tmp_path, warnings, old):
    """In the meta, or in the arrays; also of a checkpoint from before the seal."""
    path = meta_file(run, "latest", 6)
    meta = json.loads(path.read_text()) | {"step": 7}
    if old:
        del meta["seal"], meta["log"], meta["skipped_in_a_row"]
        standing = meta["standing"]
        meta["standing"] = {"best_macro_f1": standing.pop("best_score"), "best_step": 3, "stale": standing["stale"]}
    path.write_text(json.dumps(meta))
    assert newest_arrays(run)["step"] == 3
    the_warning(warnings, run / "checkpoints" / "latest" / "6", "step is 7", "6")
    warnings.clear()
    meta.pop("seal", None)
    shutil.move(run / "checkpoints" / "latest" / "6", run / "checkpoints" / "latest" / "7")
    meta_file(run, "latest", 7).write_text(json.dumps(meta if old else sealed(meta)))
    assert newest_arrays(run)["step"] == 3
    the_warning(warnings, run / "checkpoints" / "latest" / "7", "step is 6 in its arrays", "7")


# metrics.jsonl


@pytest.mark.slow
def test_an_altered_log_is_refused_before_anything_is_changed(run, capsys):
    log = run / "metrics.jsonl"
    intact = log.read_text()
    lines = intact.splitlines(keepends=True)
    losses = json.loads(lines[0])["loss"]
    altered = {
        "a number": intact.replace(str(losses), str(losses + 1), 1),
        "a line is missing": "".join(lines[:2] + lines[3:]),
        "a line is there twice": lines[0] + intact,
        "the end is missing": "".join(lines[:-1]),
        "a line is no JSON": intact.replace("{", "[", 1),
        "empty": "",
    }
    for what, text in altered.items():
        log.write_text(text)
        assert text != intact, what
        before = files_in(run)
        fails_with(capsys, ["train", "--resume", "--run", run, "--devices", 1, "train.steps=9"], log, "step 6", "8")
        assert files_in(run) == before
    fails_with(capsys, ["inspect", run], log, "8")


@pytest.mark.slow
def test_a_log_that_is_gone_is_said_and_training_goes_on(run, data, capsys):
    """And what came after the checkpoint, by a killed run, is no alteration."""
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 7, "split": "train", "loss": 1.0}) + '\n{"step": 8, "sp')
    assert inspect(capsys, run)[0] == 0
    (run / "metrics.jsonl").unlink()
    assert run_command("train", "--resume", "--run", run, "--devices", 1, "train.steps=9") == 0
    assert_warned(capsys.readouterr().err.splitlines(), run / "metrics.jsonl", "gone", "8 lines", "step 6")
    assert [line["step"] for line in lines_of(run) if line["split"] == "train"] == [7, 8, 9]
    assert run_command("inspect", run) == 0


# Members


def test_a_member_with_another_configuration_is_named(tmp_path):
    config = override(CONFIG, {"data.feed": "resident", "train.members": 2}, "")
    folder = RunFolder(tmp_path / "run")
    folder.create(config)
    create_members(config, folder)
    check_members(config, folder)
    member = RunFolder(folder.path / "members" / "1")
    member.write_config(override(member.read_config(), {"train.steps": 5, "train.epochs": None}, ""))
    check_members(config, folder)  # killed when it wrote a change that resume may make
    shutil.copy(folder.path / "members" / "0" / "config.yaml", member.config)
    with refused("train.seed", config.train.seed, config.train.seed + 1, where=member.config):
        check_members(config, folder)
