"""Every file of JSON that is read back: of the wrong kind, too deep, no text or no plain file, it is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.errors import has_fact

from demega_jax.data.hub.record import read_record
from demega_jax.data.labels import CLASSES_FILE, _names_beside
from demega_jax.data.recordings.splits import read_splits
from demega_jax.data.shards.manifest import read_manifest
from demega_jax.errors import UserError
from demega_jax.evaluation.plan_file import begin_or_join
from demega_jax.evaluation.stack.store import Description
from demega_jax.evaluation.sweep.cells import Cell
from demega_jax.interop.card_scores import read_scores
from demega_jax.interop.hub import read_record as read_hub_record
from demega_jax.model.published import open_published
from demega_jax.reading import open_text, parse_json, read_json, read_text
from demega_jax.training.run import RunFolder
from demega_jax.training.writers import read_metrics

DEEP = 200_000
CONTENTS = {
    "lists in lists": b"[" * DEEP + b"]" * DEEP,
    "mappings in mappings": b'{"format": ' * DEEP + b"1" + b"}" * DEEP,
    "a long number": b'{"format": ' + b"9" * 5000 + b"}",
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "null": b"null",
    "a number": b"5",
    "text": b'"x"',
    "a list": b'["x"]',
    "an empty mapping": b"{}",
    "a format of another kind": b'{"format": "x", "version": "x", "runs": {}, "confusion": 1, "split": 1}',
    "values of other kinds": b'{"format": 1, "version": 1, "runs": 5, "bases": 5, "classes": [1], "repo": 1}',
}
READERS: dict[str, Callable[[Path], object]] = {
    "manifest.json": read_manifest,
    "splits.json": lambda path: read_splits(path, []),
    "download.json": lambda path: read_record(path.parent),
    CLASSES_FILE: lambda path: _names_beside(path.parent / "train_grouped.h5"),
    "sweep.json": lambda path: begin_or_join(path, "sweep", {"levels": [5]}, join=True),
    "stack.json": lambda path: Description.read(path.parent),
    "cell.json": Cell.read,
    "scores.json": lambda path: read_scores(RunFolder(path.parent), [path], ("a", "b"), [1]),
    "hub.json": lambda path: read_hub_record(path.parent, None),
    "config.json": lambda path: open_published(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_odd_content_is_one_line(tmp_path, name):
    for what, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
        try:
            READERS[name](tmp_path / name)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, what
            assert has_fact(str(error), name) or has_fact(str(error), tmp_path), what
        else:
            # A record without datasets, classes that are named x, and a record of the hub with any names.
            assert (name, what) in {
                ("download.json", "an empty mapping"),
                (CLASSES_FILE, "a list"),
            }, what


@pytest.mark.parametrize("name", READERS)
def test_a_fifo_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    if name in (CLASSES_FILE, "hub.json"):  # as if there were none
        assert READERS[name](tmp_path / name) is None
        return
    with pytest.raises(UserError):
        READERS[name](tmp_path / name)


def test_lines_of_metrics_that_are_too_deep_are_left_out(tmp_path, warnings):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + b"[" * DEEP + b'\n{"step": ' + b"9" * 5000 + b'}\n{"step": 2}\n')
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    assert len(warnings) == 1 and has_fact(warnings[0], "2 of 4 lines")


def test_what_is_sound_is_read(tmp_path):
    found = {"a": [1, 2.5, None], "\N{GREEK SMALL LETTER ALPHA}": {"b": [[]]}}
    (tmp_path / "x.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    assert read_json(tmp_path / "x.json") == found == parse_json(json.dumps(found))
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfa\r\nb")
    with open_text(tmp_path / "x.txt", "utf-8-sig") as file:
        assert list(file) == ["a\r\n", "b"]


def test_more_bytes_than_are_stated_are_not_read(tmp_path):
    (tmp_path / "x").write_text("12345")
    assert read_text(tmp_path / "x", 5) == "12345"
    with pytest.raises(OSError, match="more than 4 B"):
        read_text(tmp_path / "x", 4)
    with pytest.raises(OSError, match="device"):
        read_text(Path("/dev/zero"), 4)
