"""Shards: every row once, normalised as the model does it, the same bytes after a kill; and the feed over them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demega_jax.cli import main
from demega_jax.data.feeds.order import PADDING, BlockOrder, RowOrder
from demega_jax.data.feeds.stream import StreamFeed, order_of, split_batches
from demega_jax.data.grouped import open_grouped
from demega_jax.data.rows import MemoryRows, ShardRows, open_rows
from demega_jax.data.shards.plan import ShardSettings
from demega_jax.data.shards.reader import is_sharded, open_shards, read_statistics, verify
from demega_jax.data.shards.writer import write_shards
from demega_jax.errors import UserError
from demega_jax.signal import normalize, normalize_numpy

C, T = 3, 10
ROWS = {"train": 203, "validation": 20, "test": 9}
NAMES = ["a", "b", "c"]
NORMS = ["median_iqr", "instance", "zscore", "none"]
SMALL = ShardSettings(shard_bytes=64 * (C * T * 2 + 16), memory=40 * C * T * 4)  # 64 rows a shard, in pieces of 40


def write_source(folder: Path, level: int = 5, data: dict[str, np.ndarray] | None = None, **layout) -> Path:
    """Grouped files, train sorted by label; 203 rows are no multiple of anything."""
    for number, (split, rows) in enumerate(ROWS.items()):
        path = folder / f"grouped_{level}" / f"{split}_grouped.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        x = np.random.default_rng(number).standard_normal((rows, C, T)).astype(np.float32)
        x = (data or {}).get(split, x)
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=x, **({"chunks": (min(32, rows), C, T)} | layout))
            file["labels"], file["group_indices"] = np.sort(np.arange(rows) % 3), np.arange(rows)
            file.attrs.update(n_groups=rows, n_channels=C, n_timepoints=T, grouped_samples=level, classes=NAMES)
            file.attrs["reference_macro_f1"] = 0.5
    return folder


def source_rows(folder: Path, split: str = "train", level: int = 5) -> np.ndarray:
    with h5py.File(folder / f"grouped_{level}" / f"{split}_grouped.h5") as file:
        return file["data"][:].astype(np.float64)


def read_all(folder: Path, split: str = "train") -> dict[str, np.ndarray]:
    """What the shards of a split hold, by h5py alone."""
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted((folder / split).glob("shard-*.h5")):
        with h5py.File(path) as file:
            for name in file:
                found.setdefault(name, []).append(file[name][:])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def reference(x: np.ndarray, how: str) -> np.ndarray:
    """The normalisations in float64, written independently of the package."""
    if how == "median_iqr":
        low, high = np.quantile(x, [0.25, 0.75], axis=-1, keepdims=True)
        median = np.quantile(x, 0.5, axis=-1, keepdims=True, method="lower")
        return (x - median) / (high - low + 1e-6)
    if how == "none":
        return x
    axes = -1 if how == "instance" else (-2, -1)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The grouped files of level 5."""
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def shards(source, tmp_path_factory):
    """grouped_5 of shards in half precision: four of train."""
    return write_shards(source, tmp_path_factory.mktemp("shards"), settings=SMALL)[0].parent


@pytest.fixture(scope="module")
def raw(source, tmp_path_factory):
    """grouped_5 of raw shards."""
    made = ShardSettings(norm="raw", dtype="float32", shard_bytes=10_000)
    return write_shards(source, tmp_path_factory.mktemp("raw"), settings=made)[0].parent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the normalisation


@pytest.mark.parametrize("how", NORMS)
@pytest.mark.parametrize("time_points", [2, 9, 10, 125])
def test_numpy_normalises_as_the_model_does(how, time_points):
    x = np.random.default_rng(0).standard_normal((6, 4, time_points)).astype(np.float32) * 5 + 1
    x[0, 1] = 3.0  # a sensor that stands still
    ours, model = normalize_numpy.normalize_rows(x, how), np.asarray(normalize.normalize(x, how))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[1:], model[1:], rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(ours[0], model[0], rtol=3e-5, atol=3e-4)  # the mean's rounding over a deviation of 0
    np.testing.assert_allclose(ours[1:], reference(x.astype(np.float64), how)[1:], rtol=3e-5, atol=3e-5)


def test_the_epsilons_are_those_of_the_model():
    assert normalize_numpy.IQR_EPSILON == normalize.IQR_EPSILON
    assert normalize_numpy.VARIANCE_EPSILON == normalize.VARIANCE_EPSILON


# --- what is written


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("how", NORMS)
def test_each_row_comes_once_normalised_in_float(source, tmp_path, how, dtype):
    made = ShardSettings(norm=how, dtype=dtype, shard_bytes=5000, memory=1)
    folder = write_shards(source, tmp_path, settings=made)[0].parent
    rounding = 2.0**-11 if dtype == "float16" else 2e-5
    for split, rows in ROWS.items():
        found = read_all(folder, split)
        assert found["data"].dtype == dtype and found["labels"].dtype == found["rows"].dtype == np.int64
        np.testing.assert_array_equal(np.sort(found["rows"]), np.arange(rows))
        assert (found["rows"] == np.arange(rows)).all() == (split != "train")
        expected = reference(source_rows(source, split), how)[found["rows"]]
        np.testing.assert_allclose(found["data"], expected, rtol=rounding * 1.1, atol=rounding / 10 + 2e-5)
        np.testing.assert_array_equal(found["labels"], np.sort(np.arange(rows) % 3)[found["rows"]])
        assert set(found) == {"data", "labels", "rows"}


def test_raw_shards_hold_the_rows_and_their_statistics(source, raw):
    found, x = read_all(raw), source_rows(source)
    np.testing.assert_array_equal(found["data"], x[found["rows"]].astype(np.float32))
    low, high = np.quantile(x, [0.25, 0.75], axis=-1)
    np.testing.assert_allclose(found["iqr"], (high - low)[found["rows"]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        found["median"], np.quantile(x, 0.5, axis=-1, method="lower")[found["rows"]].astype(np.float32)
    )
    split = open_shards(raw, "train")
    assert split.statistics and split.normalized is None
    median, iqr = read_statistics(split)
    assert median.dtype == iqr.dtype == np.float32
    np.testing.assert_array_equal(median, found["median"])
    np.testing.assert_array_equal(iqr, found["iqr"])


def test_the_mix_of_classes_no_longer_depends_on_the_place(shards):
    labels = read_all(shards)["labels"]
    counts = np.stack([np.bincount(labels[first : first + 64], minlength=3) for first in (0, 64, 128)])
    assert counts.min() > 8  # of 21 expected; sorted, most would be 0


def test_manifest(source, shards):
    manifest = json.loads((shards / "manifest.json").read_text())
    expected = {
        "format": "demega-jax shards", "version": 1, "checksum": "crc32", "level": 5, "classes": NAMES, "sensors": C,
        "time_points": T, "dtype": "float16", "normalization": "median_iqr", "seed": 777, "shard_rows": 64,
        "block_rows": 16,
    }  # fmt: skip
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
        "manifest.json", *(f"shard-0000{i}.h5" for i in range(4))
    }  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_whatever_the_memory_and_another_seed_another_order(
    source, shards, tmp_path
):
    again = ShardSettings(shard_bytes=SMALL.shard_bytes, memory=2**28)
    assert contents(write_shards(source, tmp_path / "same", settings=again)[0].parent) == contents(shards)
    other = ShardSettings(shard_bytes=SMALL.shard_bytes, seed=778)
    folder = write_shards(source, tmp_path / "other", settings=other)[0].parent
    assert (read_all(folder)["rows"] != read_all(shards)["rows"]).mean() > 0.9


def test_values_beyond_half_precision_are_cut_and_counted(tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((ROWS["train"], C, T)).astype(np.float32)
    x[7, 1] = 0  # its interquartile range is 0, so whatever is not 0 is divided by 1e-6
    x[7, 1, :2] = [0.07, -0.07]
    x[100, 2] = 0
    x[100, 2, 5] = 1.0
    x[101, 2] = 0
    x[101, 2, 5] = 0.05  # 50,000: fits
    source = write_source(tmp_path, data={"train": x})
    folder = write_shards(source, tmp_path / "out", settings=SMALL)[0].parent
    found = read_all(folder)
    place = {row: i for i, row in enumerate(found["rows"].tolist())}
    limit = np.float32(np.float16(6e4))
    assert found["data"][place[7], 1, :3].tolist() == [limit, -limit, 0]
    assert found["data"][place[100], 2, 5] == limit
    assert 49_900 < found["data"][place[101], 2, 5] < 50_100
    train = json.loads((folder / "manifest.json").read_text())["splits"]["train"]
    assert train["saturated"] == 3 == sum(shard["saturated"] for shard in train["shards"])
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and f"3 of {203 * C * T} values" in warnings[0]
    full = ShardSettings(dtype="float32")
    wide = read_all(write_shards(source, tmp_path / "full", settings=full)[0].parent)
    assert wide["data"].max() > 9e5


def test_compressed_sources_give_the_same_rows(source, shards, tmp_path):
    packed = write_source(tmp_path / "packed", compression="gzip")
    found = read_all(write_shards(packed, tmp_path / "out", settings=SMALL)[0].parent)
    for name, values in read_all(shards).items():
        np.testing.assert_array_equal(found[name], values)


# --- bad input


@pytest.mark.parametrize(
    ("value", "norm", "words"),
    [
        (np.nan, "median_iqr", "train_grouped.h5: row 130 has nan at sensor 2, time point 4"),
        (np.inf, "raw", "train_grouped.h5: row 130 has inf at sensor 2, time point 4"),
        (3e38, "median_iqr", "train_grouped.h5: row 130 is too large to normalise"),
    ],
)
def test_a_row_that_is_not_finite_is_named(tmp_path, value, norm, words, capsys):
    x = np.ones((ROWS["train"], C, T), np.float32)
    x[130, 2, 4] = value
    if value == 3e38:
        x[130, 2, :5], x[130, 2, 5:] = 3e38, -3e38  # their differences pass the largest float32
    write_source(tmp_path, data={"train": x})
    assert main(["shard", str(tmp_path), str(tmp_path / "out"), "--norm", norm]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and words in error[0]
    assert not list((tmp_path / "out").rglob("manifest.json")) and not list((tmp_path / "out").rglob("*.h5*"))


def test_raw_recordings_in_tesla_do_not_fit_half_precision(tmp_path):
    source = write_source(tmp_path, data={"train": np.full((ROWS["train"], C, T), 1e-12, np.float32)})
    with pytest.raises(UserError, match="row 0 has values of at most 1e-12, which float16 cannot hold"):
        write_shards(source, tmp_path / "out", settings=ShardSettings(norm="raw"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard-size", "many"], "--shard-size: 'many'; wanted a size"),
        (["--shard-size", "70"], "at most 512 shards for 203 rows"),
        (["--memory", "0"], "--memory: 0; wanted at least 1"),
        (["--seed", "-1"], "--seed: -1; wanted at least 0"),
        (["--level", "6"], "no level 6; wanted a level that is there: 5"),
        (["--split", "test", "--shard-size", "1K", "--norm", "raw", "--level", "5", "6"], "no level 6"),
    ],
)
def test_impossible_options(source, tmp_path, capsys, options, words):
    assert main(["shard", str(source), str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and words in error[0]
    assert not (tmp_path / "out").exists()


def test_all_levels_are_sharded_unless_chosen_and_a_missing_split_is_said(tmp_path, capsys):
    write_source(tmp_path, 5), write_source(tmp_path, 10)
    made = write_shards(tmp_path, tmp_path / "all")
    assert made == [tmp_path / "all" / f"grouped_{level}" / "manifest.json" for level in (5, 10)]
    capsys.readouterr()
    (tmp_path / "grouped_10" / "test_grouped.h5").unlink()
    assert len(write_shards(tmp_path, tmp_path / "out", levels=[5, 10])) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {tmp_path}/grouped_10: without test; going on with train, validation"
    ]
    with pytest.raises(UserError, match="no split test; wanted a split that is there: train, validation"):
        open_shards(tmp_path / "out" / "grouped_10", "test")


def test_other_settings_levels_sources_and_files_are_refused(source, shards, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(shards, out / "grouped_5")
    before = contents(out)
    changed = [
        (ShardSettings(shard_bytes=SMALL.shard_bytes, seed=1), "seed 777; wanted seed 1"),
        (ShardSettings(shard_bytes=SMALL.shard_bytes, norm="raw"), "normalization median_iqr; wanted .* raw"),
        (ShardSettings(shard_bytes=SMALL.shard_bytes, dtype="float32"), "dtype float16; wanted dtype float32"),
        (ShardSettings(), "shard_rows 64; wanted shard_rows"),
    ]
    for other, words in changed:
        with pytest.raises(UserError, match=words):
            write_shards(source, out, settings=other)
    with pytest.raises(UserError, match="splits.validation"):
        write_shards(source, out, splits=["train"], settings=SMALL)
    ten = write_source(tmp_path / "ten", 10)
    with pytest.raises(UserError, match="grouped_5: shards of another level; wanted an OUT for level 10"):
        write_shards(ten, out, settings=SMALL)
    x = np.random.default_rng(0).standard_normal((ROWS["train"], C, T)).astype(np.float32)
    x[0, 0, 0] += 1
    with pytest.raises(UserError, match="splits.train.source.crc32"):
        write_shards(write_source(tmp_path / "altered", data={"train": x}), out, settings=SMALL)
    assert contents(out) == before
    with pytest.raises(UserError, match="a file that no manifest speaks of"):
        write_shards(ten, ten)


def test_no_space_is_one_line_and_what_was_finished_is_kept(source, tmp_path, capsys):
    """A limit on the size of files stands in for a full disk."""
    out = tmp_path / "out"
    arguments = ["shard", str(source), str(out), "--shard-size", str(SMALL.shard_bytes)]
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000));"
        "from demega_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    error = done.stderr.splitlines()
    assert len(error) == 1 and "shard-00000.h5: cannot be written (File too large)" in error[0], error
    assert not list(out.rglob("*.h5*")) and not list(out.rglob("manifest.json"))
    assert main(arguments) == 0
    assert verify(out / "grouped_5") == 6


def test_too_little_space_is_found_before_anything_is_written(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    assert main(["shard", str(source), str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert "203 rows in 1 shard" in said.out and "1e-08 GB free; wanted" in said.err
    assert not (tmp_path / "out").exists()


# --- going on

KILLED = """
import os, signal, sys
from demega_jax.data import hdf5 as aside
from demega_jax.cli import main
checks = 0
def check(disk):
    global checks
    checks += 1
    if checks == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
aside.Disk.check = check
main(sys.argv[2:])
"""


@pytest.mark.parametrize("checks", [1, 8])  # in the first shard, and in the third: three or so come with each shard
def test_what_was_killed_goes_on_and_gives_the_same_bytes(source, shards, tmp_path, checks):
    out = tmp_path / "out"
    arguments = ["shard", str(source), str(out), "--shard-size", str(SMALL.shard_bytes)]
    arguments += ["--memory", str(SMALL.memory)]
    done = subprocess.run([sys.executable, "-c", KILLED, str(checks), *arguments], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    folder = out / "grouped_5"
    assert not is_sharded(folder) and len(list(folder.rglob("*.partial"))) == 1
    finished = {path: path.stat().st_ino for path in folder.rglob("*.h5")}
    assert len(finished) == (0 if checks == 1 else 2)
    assert main([*arguments, "--seed", "1"]) == 2  # not what was begun
    assert main(arguments) == 0
    assert {path: path.stat().st_ino for path in finished} == finished
    assert contents(folder) == contents(shards)


def test_altered_shards_are_made_again(source, shards, tmp_path, capsys):
    folder = tmp_path / "out" / "grouped_5"
    shutil.copytree(shards, folder)
    kept = {path: path.stat().st_ino for path in folder.rglob("*.h5")}
    for name in ("train/shard-00001.h5", "test/shard-00000.h5"):
        kept.pop(folder / name)
    flip(folder / "train" / "shard-00001.h5")
    (folder / "test" / "shard-00000.h5").unlink()
    write_shards(source, tmp_path / "out", settings=SMALL)
    assert contents(folder) == contents(shards)
    assert {path: path.stat().st_ino for path in kept} == kept


def flip(path: Path) -> None:
    """Turn one bit of the data over."""
    stored = bytearray(path.read_bytes())
    stored[-700] ^= 1
    path.write_bytes(stored)


# --- opening


def test_what_is_opened(source, shards):
    split = open_shards(shards, "train", classes=["c", "b", "a", "d"], expect_shape=(C, None))
    original = open_grouped(source / "grouped_5" / "train_grouped.h5")
    assert (split.path, split.name, split.level, split.rows) == (shards / "train", "train", 5, 203)
    assert (split.sensors, split.time_points, split.reference_macro_f1) == (C, T, original.reference_macro_f1)
    assert (split.dtype, split.normalized, split.statistics) == (np.float16, "median_iqr", False)
    assert split.classes == ("c", "b", "a", "d") and split.nbytes == 203 * C * T * 2
    assert [(shard.first, shard.rows) for shard in split.shards] == [(0, 64), (64, 64), (128, 64), (192, 11)]
    np.testing.assert_array_equal(split.labels, 2 - original.labels[read_all(shards)["rows"]])
    with pytest.raises(UserError, match="class c; wanted one of the 2 classes"):
        open_shards(shards, "train", classes=["a", "b"])
    with pytest.raises(UserError, match=f"{C} sensors x {T} time points; wanted 306 x {T}"):
        open_shards(shards, "train", expect_shape=(306, None))
    assert verify(split) == 4 and verify(shards) == 6


def test_damage_is_named(shards, tmp_path):
    folder = tmp_path / "grouped_5"
    shutil.copytree(shards, folder)
    shard = folder / "train" / "shard-00002.h5"
    flip(shard)
    with pytest.raises(UserError, match="shard-00002.h5: altered"):
        open_shards(folder, "train")
    with pytest.raises(UserError, match="shard-00002.h5: altered"):
        verify(folder)
    split = open_shards(folder, "train", verify=False)
    assert verify(open_shards(folder, "test")) == 1
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(UserError, match="shard-00002.h5: .* bytes; wanted .* bytes"):
        open_shards(folder, "train", verify=False)
    os.truncate(shard, 100)
    with pytest.raises(UserError, match="shard-00002.h5: truncated: the file ends before the end of row 3"):
        ShardRows(split).read(np.array([131]))
    shard.unlink()
    with pytest.raises(UserError, match="shard-00002.h5: missing"):
        open_shards(folder, "train", verify=False)
    with pytest.raises(UserError, match="shard-00002.h5: No such file"):
        ShardRows(split).read(np.array([131]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2, "new": 1}, "shards of format 2, written by demega-jax .*; wanted format 1 or older"),
        ({"dtype": "int8"}, "damaged .dtype"),
        ({"splits": {}}, "no split train"),
        (None, "damaged"),
        ("no shards", "shards of 0 rows for train; wanted its 203 rows"),
    ],
)
def test_a_newer_or_damaged_manifest_is_refused(shards, tmp_path, change, words):
    folder = tmp_path / "grouped_5"
    shutil.copytree(shards, folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    if change == "no shards":
        manifest["splits"]["train"]["shards"] = []
    elif change is not None:
        manifest |= change
    path.write_text("{" if change is None else json.dumps(manifest))
    with pytest.raises(UserError, match=words):
        open_shards(folder, "train")
    path.unlink()
    with pytest.raises(UserError, match="manifest.json: cannot be read"):
        open_shards(folder, "train")


# --- reading


@pytest.mark.parametrize("out_dtype", [None, np.float16, np.float32])
def test_readers_give_the_rows_of_the_shards(shards, raw, out_dtype):
    for folder in (shards, raw):
        split, stored = open_shards(folder, "train"), read_all(folder)["data"]
        assert isinstance(open_rows(split, split.nbytes - 1), ShardRows)
        assert isinstance(open_rows(split, split.nbytes), MemoryRows)
        orders = [np.random.default_rng(seed).integers(0, 203, 300) for seed in range(3)] + [np.arange(203)]
        for memory in (0, 2**30):
            reader = open_rows(split, memory)
            for rows in orders:
                out = None if out_dtype is None else np.empty((len(rows), C, T), out_dtype)
                x = reader.read(rows, out)
                assert x.dtype == (out_dtype or split.dtype) and (out is None or x is out)
                np.testing.assert_array_equal(x, stored[rows].astype(x.dtype))


def test_a_value_that_is_not_finite_names_the_shard_and_its_row(shards, tmp_path):
    folder = tmp_path / "grouped_5"
    shutil.copytree(shards, folder)
    split = open_shards(folder, "train")
    for value, word in [(np.inf, "inf"), (np.nan, "nan")]:
        with h5py.File(folder / "train" / "shard-00001.h5", "r+") as file:
            file["data"][5, 2, 7] = value
        with pytest.raises(UserError, match=f"row 5 has -?{word} at sensor 2, time point 7") as caught:
            ShardRows(split).read(np.arange(203))
        assert caught.value.where == str(folder / "train" / "shard-00001.h5")


# --- the order of blocks


@settings(deadline=None, max_examples=60)
@given(
    shard_rows=st.lists(st.integers(1, 70), min_size=1, max_size=5), block_rows=st.integers(1, 20),
    batch_size=st.integers(1, 50), seed=st.integers(0, 2**32), epoch=st.integers(0, 3),
)  # fmt: skip
def test_blocks_come_whole_and_once_an_epoch(shard_rows, block_rows, batch_size, seed, epoch):
    order, total = BlockOrder(shard_rows, block_rows, batch_size, seed), sum(shard_rows)
    steps = order.steps_per_epoch
    assert steps == -(-total // batch_size)
    batches = [order.row_numbers(epoch * steps + place) for place in range(steps)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    rows = np.concatenate(batches)
    assert (rows[total:] == PADDING).all()
    rows = rows[:total]
    np.testing.assert_array_equal(np.sort(rows), np.arange(total))
    edges = np.cumsum([0, *shard_rows])
    starts = {int(first) for low, high in zip(edges, edges[1:], strict=False) for first in range(low, high, block_rows)}
    jumps = rows[np.flatnonzero(np.diff(rows, prepend=-2) != 1)]
    assert set(jumps.tolist()) <= starts  # whoever leaves a block, does so at its end
    again = BlockOrder(shard_rows, block_rows, batch_size, seed)
    np.testing.assert_array_equal(again.row_numbers(epoch * steps), batches[0])


def test_the_order_of_blocks_is_pinned_and_changes_with_seed_and_epoch():
    order = BlockOrder([6, 5], 2, 4, 777)
    assert [order.row_numbers(step).tolist() for step in range(6)] == PINNED
    many = BlockOrder([1000], 2, 1000, 777)
    assert (many.row_numbers(0) != many.row_numbers(1)).mean() > 0.9
    assert (many.row_numbers(0) != BlockOrder([1000], 2, 1000, 778).row_numbers(0)).mean() > 0.9


PINNED = [[10, 0, 1, 8], [9, 2, 3, 4], [5, 6, 7, -1], [8, 9, 6, 7], [10, 0, 1, 4], [5, 2, 3, -1]]


def test_only_permuted_rows_are_read_in_blocks(shards):
    train, validation = open_shards(shards, "train"), open_shards(shards, "validation")
    assert isinstance(order_of(train, 8, 0), BlockOrder)
    assert isinstance(order_of(train, 8, 0, "balanced"), RowOrder)
    assert isinstance(order_of(validation, 8, 0), RowOrder)  # in the source's order: sorted by label, for all we know


# --- the feed


@pytest.fixture
def feed_of():
    """A `StreamFeed`, closed when the test ends."""
    feeds = []

    def make(split, **arguments):
        feeds.append(StreamFeed(split, **({"batch_size": 32, "seed": 3, "memory": 0} | arguments)))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.close()


def assert_same(batch, other) -> None:
    assert set(batch) == set(other)
    for name, values in batch.items():
        assert values.dtype == other[name].dtype
        np.testing.assert_array_equal(values, other[name])


@pytest.mark.parametrize("memory", [0, 2**30])
def test_the_feed_gives_each_row_once_an_epoch_as_it_is_stored(shards, feed_of, memory):
    split, stored = open_shards(shards, "train"), read_all(shards)["data"]
    feed, order = feed_of(split, memory=memory), BlockOrder([64, 64, 64, 11], 16, 32, 3)
    assert feed.steps_per_epoch == 7
    for epoch in range(2):
        seen = []
        for place in range(7):
            batch, rows = next(feed), order.row_numbers(epoch * 7 + place)
            assert [batch[k].dtype for k in ("x", "label", "valid")] == [np.float16, np.int32, bool]
            assert set(batch) == {"x", "label", "valid"}
            valid = rows != PADDING
            np.testing.assert_array_equal(batch["valid"], valid)
            np.testing.assert_array_equal(batch["x"][valid], stored[rows[valid]])
            np.testing.assert_array_equal(batch["label"][valid], split.labels[rows[valid]])
            assert not batch["x"][~valid].any() and not batch["label"][~valid].any()
            seen += rows[valid].tolist()
        assert sorted(seen) == list(range(203))


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
@pytest.mark.parametrize("stop", [0, 3, 7, 12])
def test_a_restored_feed_goes_on_in_the_middle_of_an_epoch(raw, feed_of, sampling, stop):
    split = open_shards(raw, "train")
    first = feed_of(split, sampling=sampling)
    for _ in range(stop):
        next(first)
    state = first.state()
    rest = [next(first) for _ in range(8)]
    second = feed_of(split, sampling=sampling, memory=2**30)
    second.restore(state)
    for batch in rest:
        assert_same(next(second), batch)


def test_hosts_share_batches_without_overlap(raw, feed_of):
    split = open_shards(raw, "train")
    whole = feed_of(split)
    hosts = [feed_of(split, process_index=i, process_count=4) for i in range(4)]
    for _ in range(8):
        expected, parts = next(whole), [next(host) for host in hosts]
        assert_same({k: np.concatenate([part[k] for part in parts]) for k in expected}, expected)


def test_statistics_come_along(raw, feed_of):
    split, stored = open_shards(raw, "train"), read_all(raw)
    feed = feed_of(split)
    order = order_of(split, 32, 3)
    for step in range(7):
        batch, rows = next(feed), order.row_numbers(step)
        valid = rows != PADDING
        assert batch["x"].dtype == batch["median"].dtype == batch["iqr"].dtype == np.float32
        for name, padding in [("median", 0), ("iqr", 1)]:
            np.testing.assert_array_equal(batch[name][valid], stored[name][rows[valid]])
            assert batch[name].shape == (32, C) and (batch[name][~valid] == padding).all()
    assert not valid.all()


@pytest.mark.parametrize("split_name", ["train", "validation"])
def test_one_pass_in_order(shards, raw, split_name):
    for folder in (shards, raw):
        split, stored = open_shards(folder, split_name), read_all(folder, split_name)
        batches = list(split_batches(split, batch_size=32))
        whole = {k: np.concatenate([batch[k][batch["valid"]] for batch in batches]) for k in batches[0]}
        np.testing.assert_array_equal(whole["x"], stored["data"])
        np.testing.assert_array_equal(whole["label"], stored["labels"])
        assert whole["x"].dtype == split.dtype and ("median" in whole) == split.statistics
        if split.statistics:
            np.testing.assert_array_equal(whole["iqr"], stored["iqr"])
