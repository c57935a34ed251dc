"""`inspect`. Whether two levels are of the same windows, by hand."""

import numpy as np
from helpers.data import grouped_path, write_grouped
from helpers.errors import assert_facts

from demega_jax.data.inspect.folder import inspect_data
from demega_jax.data.inspect.levels import LevelWindows, compare, compare_levels


def level(number: int, groups: dict[str, list[list[int]]], *, indices: bool = True) -> LevelWindows:
    counts = {name: len(members) for name, members in groups.items()}
    if not indices:
        return LevelWindows(number, counts)
    pairs = sorted((window, name) for name, members in groups.items() for group in members for window in group)
    return LevelWindows(number, counts, np.array([w for w, _ in pairs]), np.array([name for _, name in pairs]))


def test_levels_are_compared_by_window_numbers():
    two = level(2, {"aa": [[0, 3], [5]], "b": [[1, 2], [4, 6]]})
    assert compare(two, level(4, {"aa": [[5, 0, 3]], "b": [[6, 4, 2, 1]]}))[0] == "same"
    verdict, reason = compare(two, level(4, {"b": [[6, 4, 2, 1]]}))
    assert verdict == "nearly the same"
    assert_facts(reason, "4 windows", "3", "level 2")
    verdict, reason = compare(two, level(4, {"aa": [[0, 1, 2]], "b": [[3, 4, 5, 6]]}))
    assert verdict == "different"
    assert_facts(reason, "4 of 7")
    verdict, reason = compare(two, level(2, {"aa": [[10, 11]]}))
    assert verdict == "different"
    assert_facts(reason, "no window number")


def test_levels_without_numbers_are_told_apart_only_where_counts_contradict():
    five = level(5, {"aa": [[0] * 5] * 21, "b": [[0]] * 2}, indices=False)  # 101 to 109 and 6 to 14 windows
    ten = level(10, {"aa": [[0] * 10] * 11, "b": [[0]] * 1}, indices=False)  # 101 to 119 and 1 to 19
    assert compare(five, ten)[0] == "cannot tell"
    verdict, reason = compare(five, level(10, {"aa": [[0]] * 12, "b": [[0]]}, indices=False))  # 111 to 129
    assert verdict == "different"
    assert_facts(reason, "aa", "101 to 109", "level 5", "111 to 129", "level 10")


def test_files_of_one_tree_are_the_same_phonemes_and_simulated_levels_are_not(simulated, tmp_path):
    rng = np.random.default_rng(0)
    label_of_window = rng.integers(0, 39, 200)
    for k in (2, 5):
        rows = [
            (label, block.tolist())
            for label in range(39)
            for block in np.array_split(
                np.flatnonzero(label_of_window == label), range(k, (label_of_window == label).sum(), k)
            )
            if len(block)
        ]
        labels = np.array([label for label, _ in rows])
        x = rng.standard_normal((len(rows), 3, 4)).astype(np.float32)
        write_grouped(grouped_path(tmp_path, k), x, labels, level=k, groups=[group for _, group in rows])
    (comparison,) = compare_levels(inspect_data(tmp_path))
    assert comparison.verdict == "same" and comparison.levels == (2, 5)
    assert_facts(comparison.reason, "200 window numbers")
    assert {found.verdict for found in compare_levels(inspect_data(simulated))} == {"different"}
