"""What integer labels stand for: the file's names, names beside it, names asked for, phonemes; never in silence."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.data import grouped_path, open_grouped, write_grouped
from helpers.errors import assert_facts, refused

from demega_jax.data.own.names import class_ids
from demega_jax.errors import set_warning_sink
from demega_jax.phonemes import PHONEMES

NAMES = ["left", "right", "rest"]


def write(folder: Path, labels: list[int], classes: list[str] | None = None) -> Path:
    data = np.random.default_rng(0).standard_normal((len(labels), 2, 4)).astype(np.float32)
    attributes = {} if classes is None else {"classes": classes}
    return write_grouped(grouped_path(folder), data, np.array(labels), attributes=attributes)


def opened(path: Path, **options):
    """(split, warnings about classes)."""
    said: list[str] = []
    set_warning_sink(said.append)
    try:
        split = open_grouped(path, **options)
    finally:
        set_warning_sink(None)
    return split, [line for line in said if "classes.json" in line]


def test_ids_that_do_not_fill_the_phonemes_are_named(tmp_path):
    split, said = opened(write(tmp_path, [0, 1, 2, 0]))
    assert split.classes == PHONEMES and len(said) == 1
    assert_facts(said[0], "3 different ids", "classes.json", "model.classes", "aa")


def test_all_phonemes_are_no_news(tmp_path):
    assert opened(write(tmp_path, list(range(39))))[1] == []


def test_ids_beyond_the_phonemes_are_refused_with_the_way_out(tmp_path):
    path = write(tmp_path, [0, 39])
    with refused("label 39", "row 1", "classes.json", "model.classes", where=path):
        open_grouped(path)


@pytest.mark.parametrize("place", [".", ".."])
def test_names_beside_the_files_are_taken(tmp_path, place):
    path = write(tmp_path, [0, 1, 2, 0])
    (path.parent / place / "classes.json").write_text(json.dumps(NAMES))
    split, said = opened(path)
    assert split.classes == tuple(NAMES) and said == []
    assert split.class_counts().tolist() == [2, 1, 1]
    again, _ = opened(path, classes=["rest", "left", "right"])  # mapped to the order that is asked for
    assert again.labels.tolist() == [1, 2, 0, 1]


def test_the_file_goes_before_what_lies_beside_it(tmp_path):
    path = write(tmp_path, [0, 1, 2], ["x", "y", "z"])
    (path.parent / "classes.json").write_text(json.dumps(NAMES))
    assert opened(path)[0].classes == ("x", "y", "z")


def test_names_are_the_same_whatever_their_apostrophes(tmp_path):
    again, _ = opened(write(tmp_path / "a", [0, 1, 0], ["it\u2019s", "x"]), classes=["x", "it's"])
    assert again.labels.tolist() == [1, 0, 1] and again.classes == ("x", "it's")
    with refused("different names"):
        open_grouped(write(tmp_path / "b", [0, 1], ["it\u2019s", "it's"]))
    assert class_ids(["it's", "x"], ["x", "it\u2019s"])[0].tolist() == [1, 0]
    with refused("apostrophe", where="labels"):
        class_ids(["it's", "it\u2019s"], None)


@pytest.mark.parametrize("content", ["[1, 2]", '["a", "a"]', "[]", '{"a": 1}', "no JSON", '["a", ""]'])
def test_a_list_of_names_that_is_none_is_refused(tmp_path, content):
    path = write(tmp_path, [0, 1])
    (path.parent / "classes.json").write_text(content)
    with refused("JSON list", where=path.parent / "classes.json"):
        open_grouped(path)
