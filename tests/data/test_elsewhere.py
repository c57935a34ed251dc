"""Rows whose bytes lie in other files are those of HDF5, and what HDF5 would read as zeros is refused."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.data import (
    OffsetRows,
    grouped_path,
    open_grouped,
    open_rows,
    open_shards,
    write_grouped,
    write_shards,
)
from helpers.errors import refused

from demega_jax.data.shards.manifest import MANIFEST, crc32_of, read_manifest, write_manifest

ROWS, SENSORS, TIME_POINTS = 80, 3, 5
SHAPE = (ROWS, SENSORS, TIME_POINTS)
CLASSES = {"classes": ["a", "b", "c"]}


@pytest.fixture
def x() -> np.ndarray:
    """The rows that every file means."""
    return np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """A file whose own rows are others, of the same layout, so that reading at wrong offsets gives numbers."""
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")  # where HDF5 looks for external storage
    return write_grouped(grouped_path(tmp_path), np.ones(SHAPE, np.float32), np.arange(ROWS) % 3, attributes=CLASSES)


@pytest.fixture
def other(tmp_path, x) -> Path:
    """Another file that holds the rows."""
    return write_grouped(tmp_path / "other" / "rows.h5", x, np.arange(ROWS) % 3)


def replace(path: Path, link: object) -> None:
    """Put something else in the place of `data`; its bytes stay in the file."""
    with h5py.File(path, "a") as file:
        file.move("data", "own")
        file["data"] = link


def external_link(path: Path, other: Path, x: np.ndarray) -> None:
    replace(path, h5py.ExternalLink("../other/rows.h5", "/data"))


def soft_link_through_a_linked_group(path: Path, other: Path, x: np.ndarray) -> None:
    replace(path, h5py.SoftLink("/there/data"))
    with h5py.File(path, "a") as file:
        file["there"] = h5py.ExternalLink("../other/rows.h5", "/")


def soft_link(path: Path, other: Path, x: np.ndarray) -> None:
    replace(path, h5py.SoftLink("/rows"))
    with h5py.File(path, "a") as file:
        file["rows"] = x


def hard_link(path: Path, other: Path, x: np.ndarray) -> None:
    soft_link(path, other, x)
    with h5py.File(path, "a") as file:
        del file["data"]
        file["data"] = file["rows"]


def external_storage(path: Path, other: Path, x: np.ndarray) -> None:
    with h5py.File(path, "a") as file:
        del file["data"]
        size = x.nbytes // 2
        file.create_dataset("data", data=x, external=[("one.bin", 8, size), ("two.bin", 0, size)])


def virtual(path: Path, other: Path, x: np.ndarray) -> None:
    layout, source = h5py.VirtualLayout(SHAPE, "f4"), h5py.VirtualSource("../other/rows.h5", "data", SHAPE)
    layout[:50], layout[50:] = source[:50], source[50:]
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_virtual_dataset("data", layout)


def another_type(path: Path, other: Path, x: np.ndarray) -> None:
    """bfloat16, which has 2 bytes in the file and 4 in numpy."""
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    x[:] = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)  # so that it holds these numbers exactly
    with h5py.File(path, "a") as file:
        del file["data"]
        data = h5py.h5d.create(file.id, b"data", kind, h5py.h5s.create_simple(SHAPE))
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, x)


ELSEWHERE = [external_link, soft_link_through_a_linked_group, external_storage, virtual, another_type]


@pytest.mark.parametrize("make", [*ELSEWHERE, soft_link, hard_link])
def test_rows_are_those_that_were_meant(path, other, x, make):
    """The oracle is the array: h5py is not asked."""
    make(path, other, x)
    split = open_grouped(path)
    assert isinstance(split.reader(), OffsetRows) == (make in (soft_link, hard_link))
    order = np.random.default_rng(0).permutation(ROWS)
    np.testing.assert_array_equal(open_rows(split, 0).read(order), x[order])
    np.testing.assert_array_equal(split.sample(ROWS), x)


def test_shards_of_linked_rows_hold_them(path, other, x, tmp_path):
    external_link(path, other, x)
    write_shards(tmp_path, tmp_path / "out", levels=[1], splits=["train"])
    with h5py.File(tmp_path / "out" / "grouped_1" / "train" / "shard-00000.h5") as file:
        rows, data = file["rows"][:], file["data"][:].astype(np.float32)
    middle, spread = np.median(x, axis=2), np.subtract(*np.quantile(x, [0.75, 0.25], axis=2))
    wanted = (x - middle[..., None]) / spread[..., None]
    np.testing.assert_allclose(data, wanted[rows], atol=4e-3)


def test_a_linked_file_that_is_cut_is_named(path, other, x):
    external_link(path, other, x)
    with h5py.File(other, "a") as file:
        del file["data"]
        file.create_dataset("data", SHAPE, "f4")
    with refused("`data`", "never written", where=other.parents[1] / "grouped_1" / ".." / "other" / "rows.h5"):
        open_grouped(path)


@pytest.mark.parametrize("name", ["one.bin", "two.bin"])
def test_external_storage_that_is_missing_or_short_is_refused(path, other, x, name):
    """HDF5 reads zeros from a short file."""
    external_storage(path, other, x)
    os.truncate(name, Path(name).stat().st_size - 1)
    with refused("`data`", name, "ends", where=path):
        open_grouped(path)
    Path(name).rename(path.parent / name)  # where nobody looks for it
    with refused("`data`", name, "missing", where=path):
        open_grouped(path)


def test_a_virtual_dataset_that_lacks_a_source_is_refused(path, other, x):
    """HDF5 reads zeros where no source is."""
    virtual(path, other, x)
    with h5py.File(other, "a") as file:
        del file["data"]
        file["data"] = x[:70]
    with refused("`data`", "too small", "70", where=path):
        open_grouped(path)
    with h5py.File(other, "a") as file:
        del file["data"]
    with refused("no dataset `data`", where=path):
        open_grouped(path)
    other.unlink()
    with refused("rows.h5 is missing", where=path):
        open_grouped(path)


@pytest.mark.parametrize(
    "second, facts", [(slice(60, 80), ["1050 of its 1200"]), (slice(40, 60), ["cannot be checked"])]
)
def test_a_virtual_dataset_with_holes_is_refused(path, other, second, facts):
    layout, source = h5py.VirtualLayout(SHAPE, "f4"), h5py.VirtualSource("../other/rows.h5", "data", SHAPE)
    layout[:50], layout[second] = source[:50], source[second]
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_virtual_dataset("data", layout)
    with refused("`data`", *facts, where=path):
        open_grouped(path)


def test_a_shard_that_is_stored_elsewhere_is_refused(tmp_path, path):
    """In its own data folder; its own checksum would agree, whatever is in the other file."""
    other = tmp_path / "out" / "other.h5"
    write_shards(tmp_path, tmp_path / "out", levels=[1], splits=["train"])
    folder = tmp_path / "out" / "grouped_1"
    shard = folder / "train" / "shard-00000.h5"
    with h5py.File(shard, "a") as file:
        with h5py.File(other, "a") as there:
            there["moved"] = file["data"][:]
        del file["data"]
        file["data"] = h5py.ExternalLink(str(other), "/moved")
    manifest = read_manifest(folder / MANIFEST)
    entry = manifest.splits["train"].shards[0]
    entry.bytes, entry.crc32 = shard.stat().st_size, crc32_of(shard)
    write_manifest(folder / MANIFEST, manifest)
    with refused("`data`", "other files", where=shard):
        open_shards(folder, "train")
