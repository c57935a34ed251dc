"""`inspect`. Grouped files against numpy on the same files, and what was broken on purpose."""

import shutil

import h5py
import numpy as np
import pytest
from helpers.data import grouped_path, write_grouped
from helpers.errors import assert_facts, has_fact
from helpers.runs import inspect

from demega_jax.data.inspect.folder import inspect_data
from demega_jax.data.inspect.grouped import order_of
from demega_jax.phonemes import PHONEMES


def test_facts_of_a_grouped_file_are_those_of_the_arrays(simulated):
    path = simulated / "grouped_2" / "train_grouped.h5"
    (report,) = inspect_data(path)
    with h5py.File(path) as file:
        x, labels, reference = file["data"][:], file["labels"][:], file.attrs["reference_macro_f1"]
    facts = report.facts
    assert (facts.rows, facts.sensors, facts.time_points, facts.level, facts.split) == (120, 6, 8, 2, "train")
    assert facts.counts == tuple(np.bincount(labels, minlength=39)) and facts.classes == PHONEMES
    assert facts.order == "sorted by label" and facts.reference_macro_f1 == reference and facts.simulated
    windows = facts.windows
    assert (windows.total, windows.distinct, windows.first, windows.last, windows.short) == (240, 240, 0, 239, 0)
    # 120 rows are four blocks of 32: all of the file is read.
    flat = x.swapaxes(0, 1).reshape(6, -1)
    deviation = flat.std(axis=1, dtype=np.float64)
    assert facts.amplitude.sampled == 120 * 8
    for of_type, places in zip(facts.amplitude.types, [list(range(6))], strict=True):  # nothing says their types
        expected = np.quantile(deviation[places], [0.5, 0.25, 0.75])
        got = (of_type.median, of_type.low_quartile, of_type.high_quartile)
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert of_type.largest == pytest.approx(np.abs(flat[places]).max()) and of_type.near_constant == ()
    assert facts.amplitude.order is None and report.problems == [] and report.notes == []


@pytest.mark.parametrize(
    "labels, order",
    [
        (np.repeat(np.arange(5), 20), "sorted by label"),
        (np.repeat([2, 0, 4, 1], 20), "in blocks of a label"),
        (np.random.default_rng(0).permutation(np.repeat(np.arange(5), 20)), "shuffled"),
        (np.full(7, 3), "one class"),
    ],
)
def test_order_of_rows(labels, order):
    assert order_of(labels) == order


@pytest.mark.parametrize(
    "change, facts",
    [
        ("cut", ["truncated"]),
        ("nan", ["not finite", "sensor 2"]),
        ("label", ["label 44", "row 5"]),
        ("negative", ["-7"]),
    ],
)
def test_unsound_grouped_file_ends_with_2_and_the_others_are_reported(simulated, tmp_path, capsys, change, facts):
    good, bad = simulated / "grouped_2" / "test_grouped.h5", tmp_path / "train_grouped.h5"
    shutil.copy(simulated / "grouped_2" / "train_grouped.h5", bad)
    with h5py.File(bad, "r+") as file:
        if change == "nan":
            file["data"][7, 2, 3] = np.nan
        if change == "label":
            file["labels"][5] = 44
        if change == "negative":
            file["group_indices"][3] = [-7, 4]
    if change == "cut":
        with bad.open("r+b") as raw:
            raw.truncate(20_000)
    status, out, err = inspect(capsys, bad, good)
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert_facts(err, bad, *facts)
    assert out.index("not sound") < out.index(str(good)) and "15 rows x 6 sensors" in out


def test_groups_that_contradict_the_level_are_noted(tmp_path):
    groups = [[0], [1], [2, 3, 4], [5, 6]]
    x = np.ones((4, 3, 2), np.float32)
    path = write_grouped(grouped_path(tmp_path, 2), x, np.zeros(4, int), level=2, groups=groups)
    (report,) = inspect_data(path)
    assert any(
        all(has_fact(note, fact) for fact in ("2 groups", "fewer", "1", "more", "level 2")) for note in report.notes
    )
    assert (report.facts.windows.short, report.facts.windows.long) == (2, 1)
