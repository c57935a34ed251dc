"""Statistics of recordings: the golden ones, and how they are remembered."""

import json

import h5py
import numpy as np
from helpers.errors import has_fact
from helpers.recordings import GOLDEN_STATISTICS, GOLDEN_TREE

from demega_jax.data.recordings.runs import OFFICIAL, find_recordings
from demega_jax.data.recordings.statistics import statistics
from demega_jax.files import cache_folder


def test_pooled_statistics_are_the_golden_ones():
    golden = np.load(GOLDEN_STATISTICS)
    train = [r for r in find_recordings(GOLDEN_TREE) if r.name not in OFFICIAL]
    assert [str(r.name) for r in train] == golden["train_run_order"].tolist()
    found = statistics(train)
    np.testing.assert_allclose(found.mean, golden["channel_means"], rtol=2e-7)
    np.testing.assert_allclose(found.std, golden["channel_stds"], rtol=2e-7)


def test_statistics_are_remembered_outside_the_recordings(tree):
    before = sorted(tree.rglob("*"))
    recordings = find_recordings(tree)
    first = statistics(recordings)
    measured: list[str] = []  # a line for every recording that is read
    np.testing.assert_array_equal(statistics(recordings, measured.append).mean, first.mean)
    assert not measured and sorted(tree.rglob("*")) == before
    with h5py.File(recordings[2].meg, "r+") as file:
        file["data"][0] *= 2
    next(cache_folder("statistics").glob("*.json")).write_text("{damaged")
    changed = statistics(find_recordings(tree), measured.append)
    assert sum(has_fact(line, recordings[2].name) for line in measured) == 1 <= len(measured) <= 2
    assert changed.mean[0] > 1.1 * first.mean[0]
    np.testing.assert_array_equal(changed.mean[1:], first.mean[1:])


def test_remembered_statistics_that_were_altered_are_measured_again(tree):
    recordings = find_recordings(tree)
    first = statistics(recordings)
    altered, older = sorted(cache_folder("statistics").glob("*.json"))[:2]
    for path, checked in ((altered, True), (older, False)):
        known = json.loads(path.read_text())
        known["mean"][0] += 1.0
        path.write_text(json.dumps(known))
        measured: list[str] = []
        again = statistics(recordings, measured.append)
        assert len(measured) == checked
        assert (again.mean[0] == first.mean[0]) == checked
        known["mean"][0] -= 1.0
        older_text = json.loads(older.read_text())
        older_text.pop("crc32", None)  # as it was written before there was one
        older.write_text(json.dumps(older_text))
