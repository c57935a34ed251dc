"""What cannot be sharded: rows, options, folders and disks."""

import shutil

import numpy as np
import pytest
from helpers.data import ShardSettings, open_shards, verify, write_shards
from helpers.errors import assert_facts, fails_with, refused, the_warning
from helpers.runs import files_in, leave_on_disk, run_command, run_with_full_disk
from helpers.shards import ROWS, SENSORS, SMALL, TIME_POINTS, write_source


@pytest.mark.parametrize(
    ("value", "norm", "facts"),
    [
        (np.nan, "median_iqr", ["row 130", "nan", "sensor 2", "time point 4"]),
        (np.inf, "raw", ["row 130", "inf", "sensor 2", "time point 4"]),
        (3e38, "median_iqr", ["row 130", "too large"]),
    ],
)
def test_a_row_that_is_not_finite_is_named(tmp_path, value, norm, facts, capsys):
    x = np.ones((ROWS["train"], SENSORS, TIME_POINTS), np.float32)
    x[130, 2, 4] = value
    if value == 3e38:
        x[130, 2, :5], x[130, 2, 5:] = 3e38, -3e38  # their differences pass the largest float32
    write_source(tmp_path, data={"train": x})
    fails_with(capsys, ["shard", tmp_path, tmp_path / "out", "--norm", norm], "train_grouped.h5", *facts)
    assert not list((tmp_path / "out").rglob("manifest.json")) and not list((tmp_path / "out").rglob("*.h5*"))


def test_raw_recordings_in_tesla_do_not_fit_half_precision(tmp_path):
    source = write_source(tmp_path, data={"train": np.full((ROWS["train"], SENSORS, TIME_POINTS), 1e-12, np.float32)})
    with refused("row 0", "1e-12", "float16"):
        write_shards(source, tmp_path / "out", settings=ShardSettings(norm="raw"))


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["--shard-size", "many"], ["--shard-size", "many"]),
        (["--shard-size", "70"], ["512 shards", "203 rows"]),
        (["--memory", "0"], ["--memory", "0", "1"]),
        (["--seed", "-1"], ["--seed", "-1", "0"]),
        (["--level", "6"], ["level 6", "5"]),
        (["--split", "test", "--shard-size", "1K", "--norm", "raw", "--level", "5", "6"], ["level 6"]),
    ],
)
def test_impossible_options(source, tmp_path, capsys, options, facts):
    fails_with(capsys, ["shard", source, tmp_path / "out", *options], *facts)
    assert not (tmp_path / "out").exists()


def test_all_levels_are_sharded_unless_chosen_and_a_missing_split_is_said(tmp_path, capsys):
    write_source(tmp_path, 5), write_source(tmp_path, 10)
    made = write_shards(tmp_path, tmp_path / "all")
    assert made == [tmp_path / "all" / f"grouped_{level}" / "manifest.json" for level in (5, 10)]
    capsys.readouterr()
    (tmp_path / "grouped_10" / "test_grouped.h5").unlink()
    assert len(write_shards(tmp_path, tmp_path / "out", levels=[5, 10])) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [the_warning(lines, tmp_path / "grouped_10", "test", "train, validation")] == lines
    with refused("test", "train, validation"):
        open_shards(tmp_path / "out" / "grouped_10", "test")


def test_other_settings_levels_sources_and_files_are_refused(source, shards, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(shards, out / "grouped_5")
    before = files_in(out)
    changed = [
        (ShardSettings(shard_bytes=SMALL.shard_bytes, seed=1), ["seed 777", "seed 1"]),
        (ShardSettings(shard_bytes=SMALL.shard_bytes, norm="raw"), ["normalization", "median_iqr", "raw"]),
        (ShardSettings(shard_bytes=SMALL.shard_bytes, dtype="float32"), ["dtype", "float16", "float32"]),
        (ShardSettings(), ["shard_rows", "64"]),
    ]
    for other, facts in changed:
        with refused(*facts):
            write_shards(source, out, settings=other)
    with refused("splits.validation"):
        write_shards(source, out, splits=["train"], settings=SMALL)
    ten = write_source(tmp_path / "ten", 10)
    with refused("grouped_5", "level 10"):
        write_shards(ten, out, settings=SMALL)
    x = np.random.default_rng(0).standard_normal((ROWS["train"], SENSORS, TIME_POINTS)).astype(np.float32)
    x[0, 0, 0] += 1
    with refused("splits.train.source.crc32"):
        write_shards(write_source(tmp_path / "altered", data={"train": x}), out, settings=SMALL)
    assert files_in(out) == before
    with refused("manifest"):
        write_shards(ten, ten)


def test_no_space_is_one_line_and_what_was_finished_is_kept(source, tmp_path, capsys):
    """A limit on the size of files stands in for a full disk."""
    out = tmp_path / "out"
    arguments = ["shard", source, out, "--shard-size", SMALL.shard_bytes]
    done = run_with_full_disk(5000, *arguments)
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()
    assert_facts(error, "shard-00000.h5", "cannot be written", "File too large")
    assert not list(out.rglob("*.h5*")) and not list(out.rglob("manifest.json"))
    assert run_command(*arguments) == 0
    assert verify(out / "grouped_5") == 6


def test_too_little_space_is_found_before_anything_is_written(source, tmp_path, monkeypatch, capsys):
    leave_on_disk(monkeypatch, 10)
    assert run_command("shard", source, tmp_path / "out") == 2
    said = capsys.readouterr()
    assert_facts(said.out, "203 rows", "1 shard")
    assert_facts(said.err, "10 B", "free")
    assert not (tmp_path / "out").exists()
