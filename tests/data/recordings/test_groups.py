"""The arithmetic of groups and of passes, whatever the windows."""

from pathlib import Path

import numpy as np
from helpers.errors import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from demega_jax.data.recordings.events import POSITIONS
from demega_jax.data.recordings.grouping import GroupSettings, Target, make_groups, plan_passes
from demega_jax.data.recordings.runs import Recording, RunName
from demega_jax.data.recordings.windows import Windows


def made_up(labels, positions) -> Windows:
    recording = Recording(RunName("0", "1", "S1", "1"), Path("m"), Path("e"), 2, 10, 250.0)
    count = len(labels)
    return Windows(
        (recording,),
        tuple("abcd"),
        2,
        np.zeros(count, np.int32),
        np.arange(count),
        np.array(labels),
        np.array(positions),
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(0, 99),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_groups(rows, level, seed, shuffle, drop, by_position):
    label, position = np.array(rows).T
    how = GroupSettings(seed, drop, by_position)
    windows = made_up(label, position)
    found = make_groups(windows, level, how, shuffle=shuffle)
    again = make_groups(windows, level, how, shuffle=shuffle)
    np.testing.assert_array_equal(found.window, again.window)
    assert len(set(found.window)) == len(found.window)  # each window in one group at most
    assert (np.diff(found.label) >= 0).all()
    sizes = found.sizes()
    assert (sizes >= 1).all() and (sizes <= level).all() and len(sizes) == len(found)
    key = label * len(POSITIONS) + position if by_position else label
    of = found.of_window()
    for g in range(len(found)):
        members = found.window[found.start[g] : found.start[g + 1]]
        assert set(label[members]) == {found.label[g]} and len(set(key[members])) == 1
        assert set(np.flatnonzero(of == g)) == set(members)
        if not shuffle:
            assert (np.diff(members) > 0).all()
    for one in set(key):
        mine = sizes[key[found.window[found.start[:-1]]] == one]
        n = int((key == one).sum())
        wanted = [level] * (n // level) + ([n % level] if n % level and not drop else [])
        assert mine.tolist() == wanted
    if not drop:
        assert len(found.window) == len(rows)


def test_a_plan_holds_no_more_than_the_memory(tmp_path):
    windows = made_up(np.zeros(300, int), np.zeros(300, int))
    targets = [
        Target(make_groups(windows, level, GroupSettings(None), shuffle=False), tmp_path / str(level), level, {})
        for level in (1, 2, 5)
    ]
    one = targets[0].groups.row_bytes  # 2 sensors x 2 time points x 4 bytes
    assert one == 16
    for memory in (32 * one, 100 * one, 10**9):
        passes = plan_passes(targets, memory)
        assert all(sum(p.target.groups.row_bytes * (p.stop - p.first) for p in parts) <= memory for parts in passes)
        for target in targets:
            rows = [r for parts in passes for p in parts if p.target is target for r in range(p.first, p.stop)]
            assert rows == list(range(len(target.groups)))
    with refused("--memory"):
        plan_passes(targets, 31 * one)
