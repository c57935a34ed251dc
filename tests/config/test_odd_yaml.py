"""Configurations that nobody meant: odd scalars, keys given twice, nesting, other files; each is one line, at once."""

import os
import random
from operator import attrgetter

import pytest
from helpers import ROOT
from helpers.errors import fails_with, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from demega_jax.config import Config
from demega_jax.config.load import CONFIG_BYTES, differing_keys, load_config, override, parse_yaml, to_yaml
from demega_jax.errors import UserError
from demega_jax.training.run import RunFolder

# What YAML 1.1 would read as a date, as minutes and seconds, or in another base; and numbers of no length.
ODD = [
    "2020-01-01",
    "2020-13-41",
    "2001-12-14t21:59:43.10+99:99",
    "190:20:30",
    "1:30",
    "0x10",
    "0x_",
    "0b_",
    "010",
    "0o17",
    "!!timestamp x",
    "!!int abc",
    "!!float x",
    "!!bool x",
    '!!binary "x"',
    "!!set {a, b}",
    "!!python/name:os.system",
    "9" * 5000,
    "0x" + "f" * 5000,
    "1e400",
    ".nan",
    "[" * 1500,
    "{a: " * 1500,
    "&a [*a]",
    "{[1]: 2}",
]


BROKEN = [b"{", b"]", b"&a ", b"*a", b"!!x ", b"\xff", b"- ", b"1:2"]


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:20])
def test_an_odd_value_is_refused_and_never_taken_for_a_number(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(f"train: {{seed: {text}}}\n")
    with refused(str(path)) as caught:
        load_config(path)
    assert len(str(caught.value)) < 600
    with refused("command line"):
        load_config(ROOT / "configs" / "tiny.yaml", [f"train.seed={text}"])


@pytest.mark.parametrize("text", ["0", "false", "[]", "''"])
def test_what_is_no_mapping_is_not_taken_for_an_empty_file(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with refused("sections"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("text", "key"), [("train: {seed: 1}\ntrain: {epochs: 2}", "train"), ("train: {seed: 1, seed: 2}", "seed")]
)
def test_a_key_that_is_given_twice_is_refused(tmp_path, text, key):
    (tmp_path / "run.yaml").write_text(text)
    with refused(key, "twice", "line"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("key", ["data.path", "data.regroup.splits", "data.pseudo.windows", "data.pseudo.predictions"])
def test_a_path_that_no_system_has(key):
    for text in ("a\0b", "\ud800", ""):
        with refused("path"):
            override(Config(), {key: text}, "test")
    both = {"data.pseudo.windows": "b", "data.pseudo.predictions": "b"} if "pseudo" in key else {}
    for text in ("a b", "\udcff", "\N{GREEK SMALL LETTER ALPHA}"):  # the second is a byte that is no UTF-8
        assert attrgetter(key)(override(Config(), both | {key: text}, "test")) == text


@pytest.mark.parametrize("key", ["model.classes", "optim.frozen"])
def test_a_name_that_is_no_text(key):
    for text in ("a\0", "\udcff", ""):
        with refused("name"):
            override(Config(), {key: ["b", text]}, "test")


def test_a_date_is_a_name_where_text_is_wanted():
    assert load_config(ROOT / "configs" / "tiny.yaml", ["data.path=2020-01-01"]).data.path == "2020-01-01"


@settings(max_examples=30)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=2, unique=True
    ),
    st.floats(1e-30, 1e30),
)
def test_whatever_is_written_is_read_again(names, weight):
    raw = Config().model_dump() | {"model": {"classes": names}, "loss": {"contrastive_weight": weight}}
    config = Config.model_validate(raw)
    again = Config.model_validate(parse_yaml(to_yaml(config), "test"))
    assert differing_keys(config, again) == {}


def test_no_change_of_a_file_ends_in_anything_but_a_configuration_or_one_line(tmp_path):
    whole, rng = (ROOT / "configs" / "original.yaml").read_bytes(), random.Random(7)
    read = 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content))
            content[at : at + rng.randint(0, 3)] = rng.choice(
                [b"{", b"]", b"&a ", b"*a", b"!!x ", b"\xff", b"- ", b"1:2"]
            )
        (tmp_path / "run.yaml").write_bytes(bytes(content))
        try:
            assert isinstance(load_config(tmp_path / "run.yaml"), Config)
            read += 1
        except UserError as error:
            assert "\n" not in str(error)
    assert 0 < read < 150


def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.yaml").write_bytes(b"#" * (CONFIG_BYTES + 1))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.yaml").write_text("")
    for name, fact in (("pipe", "FIFO"), ("large.yaml", "256.0 KiB"), ("bytes.yaml", "text"), ("/dev/zero", "device")):
        with refused(fact, where=tmp_path / name):
            load_config(tmp_path / name)
        fails_with(capsys, ["train", tmp_path / name, "--data", tmp_path], tmp_path / name, fact)
    assert load_config(tmp_path / "empty.yaml") == Config()


def test_the_configuration_of_a_run_that_is_no_text(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with refused("text", where=tmp_path / "config.yaml"):
        RunFolder(tmp_path).read_config()
