"""Every file of a run, of data and of recordings, damaged: `make corruption` does 3,000 cases."""

from collections import Counter

import numpy as np
import pytest

from faults.corruption import FINE, campaign
from faults.damage import DAMAGES, damaged


def test_each_damage_is_done_and_undone(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(bytes(range(100)))
    other.write_bytes(b"other")
    found = {}
    for how in DAMAGES:
        with damaged(path, how, other, np.random.default_rng(0)):
            found[how] = path.read_bytes() if path.exists() else None
        assert path.read_bytes() == bytes(range(100))
    assert (found["emptied"], found["removed"], found["replaced"]) == (b"", None, b"other")
    assert bytes(range(100)).startswith(found["cut"]) and len(found["cut"]) < 100
    turned = np.frombuffer(found["bit"], np.uint8) ^ np.arange(100, dtype=np.uint8)
    assert sorted(turned)[-2:] in ([0, 1 << bit] for bit in range(8))


@pytest.mark.long
def test_damage_is_named_or_survived_and_never_gives_other_numbers():
    results = campaign(list(range(60)), seed=7, workers=1, minutes=5)
    assert len(results) == 60
    wrong = [each for each in results if each[3] not in FINE]
    assert not wrong, wrong
    assert Counter(each[3] for each in results)["refused"] >= 10  # most damage is no matter of padding


@pytest.mark.long
def test_three_thousand_cases():
    wrong = [each for each in campaign(list(range(3000)), 0, 2, 240) if each[3] not in FINE]
    assert not wrong, wrong
