"""Every file of a run, of data and of recordings, damaged: `make corruption` does 3,000 cases."""

from collections import Counter

import numpy as np
import pytest

from faults.corruption import FINE, Cases, campaign, make_folders
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


@pytest.mark.slow(seconds=20)
def test_damage_is_named_or_survived_and_never_gives_other_numbers(tmp_path, monkeypatch):
    """Sixty cases in this process, on folders of a model that is traced fast; a case takes some 50 ms."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, name in enumerate(("one", "other"), 1):
        make_folders(tmp_path / name, number, "model.encoder=lstm", "loss.contrastive_weight=0", "loss.ipa_weight=0")
    cases = Cases(7, tmp_path / "one", tmp_path / "other")
    results = [cases.run(number) for number in range(60)]
    wrong = [each for each in results if each[2] not in FINE]
    assert not wrong, wrong
    found = Counter(each[2] for each in results)
    assert found["refused"] >= 10  # most damage is no matter of padding
    assert len({each[:2] for each in results}) >= 15  # of the 25 pairs of a folder and a damage


@pytest.mark.long
def test_cases_in_workers():
    results = campaign(list(range(20)), seed=7, workers=1, minutes=5)
    assert sorted(each[0] for each in results) == list(range(20))
    assert not [each for each in results if each[3] not in FINE]


@pytest.mark.long
def test_three_thousand_cases():
    wrong = [each for each in campaign(list(range(3000)), 0, 2, 240) if each[3] not in FINE]
    assert not wrong, wrong
