"""`inspect`. Shards are reported as their source, and verified."""

import shutil
from pathlib import Path

import pytest
from helpers.data import ShardSettings, write_shards
from helpers.errors import assert_facts
from helpers.runs import flip_bit, inspect

from demega_jax.data.inspect.folder import inspect_data
from demega_jax.data.inspect.levels import compare_levels


@pytest.fixture(scope="module")
def whole_shards(simulated, tmp_path_factory) -> Path:
    """Both levels in shards of 32 rows, not normalised."""
    out = tmp_path_factory.mktemp("shards")
    settings = ShardSettings(norm="none", dtype="float32", shard_bytes=32 * 6 * 8 * 4, seed=3)
    write_shards(simulated, out, levels=[2, 4], settings=settings)
    return out


def test_shards_are_verified_and_reported_as_their_source(simulated, whole_shards):
    reports = inspect_data(whole_shards)
    assert [str(report.path.relative_to(whole_shards)) for report in reports] == [
        f"grouped_{k}/{split}" for k in (2, 4) for split in ("train", "validation", "test")
    ]
    assert all(report.problems == [] for report in reports)
    facts = reports[0].facts
    (source,) = inspect_data(simulated / "grouped_2" / "train_grouped.h5")
    assert (facts.counts, facts.rows, facts.reference_macro_f1) == (
        source.facts.counts,
        120,
        source.facts.reference_macro_f1,
    )
    files = list((whole_shards / "grouped_2" / "train").glob("shard-*.h5"))
    assert facts.shards.files == len(files) and facts.nbytes == sum(file.stat().st_size for file in files)
    assert (facts.shards.checksums, facts.shards.normalization, facts.shards.seed) == ("verified", "none", 3)
    assert facts.simulated and source.facts.simulated
    assert facts.order == "shuffled" and facts.shards.permuted and not reports[1].facts.shards.permuted
    # All rows of both are read: the same values in another order.
    for kind, of_source in zip(facts.amplitude.types, source.facts.amplitude.types, strict=True):
        assert kind.median == pytest.approx(of_source.median, rel=1e-6) and kind.largest == of_source.largest
    assert {found.verdict for found in compare_levels(reports)} <= {"different", "cannot tell"}


def test_altered_missing_and_unfinished_shards_are_found(whole_shards, tmp_path, capsys):
    folder = Path(shutil.copytree(whole_shards, tmp_path / "shards")) / "grouped_4"
    altered = folder / "train" / "shard-00001.h5"
    flip_bit(altered, -20)  # of the data, or of what HDF5 does not look at
    status, out, err = inspect(capsys, folder)
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert_facts(err, altered, "altered")
    assert "do not agree" in out and out.count("verified") == 2
    altered.unlink()
    status, out, err = inspect(capsys, folder)
    assert status == 2 and out.count("verified") == 2
    assert_facts(err, altered, "missing")
    (folder / "manifest.json").rename(folder / ".shards.partial.json")
    status, out, err = inspect(capsys, folder)
    assert status == 2
    assert_facts(err, folder, "unfinished")
