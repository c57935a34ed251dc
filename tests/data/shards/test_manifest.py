"""The manifest of a level: what it says, and what is refused."""

import json
import shutil
import zlib

import pytest
from helpers.data import open_shards
from helpers.errors import refused
from helpers.shards import NAMES, ROWS, SENSORS, TIME_POINTS

from demega_jax.data.inspect.folder import inspect_data


def test_manifest(source, shards):
    manifest = json.loads((shards / "manifest.json").read_text())
    expected = {
        "format": "demega-jax shards",
        "version": 1,
        "checksum": "crc32",
        "level": 5,
        "classes": NAMES,
        "sensors": SENSORS,
        "time_points": TIME_POINTS,
        "dtype": "float16",
        "normalization": "median_iqr",
        "seed": 777,
        "shard_rows": 64,
        "block_rows": 16,
    }
    assert {name: manifest[name] for name in expected} == expected
    assert list(manifest["splits"]) == list(ROWS)
    train, original = manifest["splits"]["train"], source / "grouped_5" / "train_grouped.h5"
    crc = f"{zlib.crc32(original.read_bytes()):08x}"
    assert train["source"] == {"name": "train_grouped.h5", "bytes": original.stat().st_size, "crc32": crc}
    assert train["class_counts"] == {"a": 68, "b": 68, "c": 67} and train["rows"] == 203
    assert train["reference_macro_f1"] == 0.5 and train["saturated"] == 0 and train["permuted"]
    assert [shard["rows"] for shard in train["shards"]] == [64, 64, 64, 11]
    for shard in train["shards"]:
        stored = (shards / shard["file"]).read_bytes()
        assert (len(stored), f"{zlib.crc32(stored):08x}") == (shard["bytes"], shard["crc32"])
    assert str(source) not in (shards / "manifest.json").read_text()
    assert {path.name for path in shards.rglob("*") if path.is_file()} == {
        "manifest.json",
        *(f"shard-0000{i}.h5" for i in range(4)),
    }


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"version": 4, "new": 1}, ["format 4", "format 3"]),
        ({"dtype": "int8"}, ["damaged", "dtype"]),
        ({"splits": {}}, ["train"]),
        (None, ["damaged"]),
        ("no shards", ["0 rows", "train", "203 rows"]),
    ],
)
def test_a_newer_or_damaged_manifest_is_refused(shards, tmp_path, change, facts):
    folder = tmp_path / "grouped_5"
    shutil.copytree(shards, folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    if change == "no shards":
        manifest["splits"]["train"]["shards"] = []
    elif change is not None:
        manifest |= change
    path.write_text("{" if change is None else json.dumps(manifest))
    with refused(*facts):
        open_shards(folder, "train")
    path.unlink()
    with refused("cannot be read", where=path):
        open_shards(folder, "train")


@pytest.mark.parametrize(
    "change",
    [{"level": 7}, {"block_rows": 17}, {"seed": 776}, {"classes": ["b", "a", "c"]}, {"shard_rows": 65}],
)
def test_a_manifest_that_says_something_else_is_refused(shards, tmp_path, change):
    """Nothing else knows these numbers."""
    folder = tmp_path / "grouped_5"
    shutil.copytree(shards, folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest))  # another layout of the text is no change
    assert open_shards(folder, "train").rows == 203
    path.write_text(json.dumps(manifest | change))
    with refused("altered", manifest["manifest_crc32"], where=path):
        open_shards(folder, "train")
    (report,) = {str(problem) for found in inspect_data(folder) for problem in found.problems}
    assert "altered" in report


def test_a_manifest_without_its_own_checksum_is_read(shards, tmp_path):
    """As it was written before there was one."""
    folder = tmp_path / "grouped_5"
    shutil.copytree(shards, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["manifest_crc32"]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"seed": 776}))
    assert open_shards(folder, "train").rows == 203
