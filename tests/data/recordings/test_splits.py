"""Splits of session runs by shares, written and read again."""

import numpy as np
from helpers.data import read_grouped
from helpers.errors import refused
from helpers.recordings import group

from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.splits import by_shares, read_splits, write_splits

SPLITS = ("train", "validation", "test")


def test_splits_by_shares_are_written_and_read(tree, tmp_path, capsys):
    recordings = find_recordings(tree)
    assert group(tree, tmp_path / "out", "--level", 5, "--split-shares", 0.6, 0.2, 0.2) == 0
    assigned = by_shares(recordings, [0.6, 0.2, 0.2], 777)
    assert sorted(r.name for runs in assigned.values() for r in runs) == [r.name for r in recordings]
    assert {split: len(runs) for split, runs in assigned.items()} == {"train": 4, "validation": 1, "test": 1}
    assert read_splits(tmp_path / "out/splits.json", recordings) == assigned
    assert (
        by_shares(recordings, [0.6, 0.2, 0.2], 1) != assigned or by_shares(recordings, [0.6, 0.2, 0.2], 2) != assigned
    )
    assert group(tree, tmp_path / "again", "--level", 5, "--splits", tmp_path / "out/splits.json") == 0
    for split in SPLITS:
        one, two = (read_grouped(tmp_path / d / f"grouped_5/{split}_grouped.h5") for d in ("out", "again"))
        np.testing.assert_array_equal(one["data"], two["data"])
    write_splits(tmp_path / "new.json", assigned)
    text = (tmp_path / "new.json").read_text()
    (tmp_path / "new.json").write_text(text.replace('"format": 1', '"format": 2'))
    with refused("format 2"):
        read_splits(tmp_path / "new.json", recordings)
    capsys.readouterr()
