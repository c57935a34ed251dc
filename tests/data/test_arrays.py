"""Windows from arrays and their files, and what is refused."""

import numpy as np
import pytest
from helpers.errors import refused

from demega_jax.data.arrays import array_split, open_array
from demega_jax.data.split import UNKNOWN

CLASSES, WINDOW = ("a", "b", "c"), (4, 6)


def windows(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *WINDOW)).astype(np.float32)


def test_an_array_has_rows_without_labels():
    split = array_split(windows(), CLASSES, WINDOW)
    assert (split.rows, split.window, split.classes, split.labelled) == (5, WINDOW, CLASSES, False)
    np.testing.assert_array_equal(split.reader().read(np.array([3, 0])), windows()[[3, 0]])
    np.testing.assert_array_equal(split.class_counts(), [0, 0, 0])


@pytest.mark.parametrize("convert", [list, lambda x: x.tolist(), lambda x: x.astype(np.float64), np.asfortranarray])
def test_other_forms_of_the_same_windows(convert):
    split = array_split(convert(windows()), CLASSES, WINDOW)
    np.testing.assert_allclose(split.reader().read(np.arange(5)), windows(), rtol=1e-6)


def test_whole_numbers_are_taken():
    split = array_split(np.ones((2, *WINDOW), np.int16), CLASSES, WINDOW)
    assert split.reader().read(np.arange(2)).dtype == np.float32


@pytest.mark.parametrize(
    ("x", "facts"),
    [
        (windows()[0], ["[4, 6]", "[windows, 4, 6]", "x[None]"]),
        (windows()[:, :3], ["3 sensors", "4 x 6"]),
        (windows()[:, :, :5], ["5 time points", "4 x 6"]),
        (windows(0)[:, :3], ["3 sensors", "4 x 6"]),
        (windows()[:, :, :0], ["0 time points", "4 x 6"]),
        (np.full((1, *WINDOW), np.nan), ["row 0", "nan"]),
        (np.full((1, *WINDOW), 1e300), ["row 0", "inf"]),
        ([[1.0, 2.0], [3.0]], ["array of numbers"]),
        (["a", "b"], ["array of numbers"]),
        (None, ["array of numbers"]),
        (windows() + 1j, ["complex64"]),
    ],
)
def test_what_does_not_fit_is_named(x, facts):
    with refused("input", *facts):
        array_split(x, CLASSES, WINDOW)


def test_any_number_of_time_points():
    split = array_split(np.zeros((2, 4, 17), np.float32), CLASSES, (4, None))
    assert split.window == (4, 17)


def test_npy_is_mapped_and_npz_can_have_labels(tmp_path):
    np.save(tmp_path / "x.npy", windows())
    split = open_array(tmp_path / "x.npy", CLASSES, WINDOW)
    assert isinstance(split.x, np.memmap) and not split.labelled
    np.savez(tmp_path / "x.npz", x=windows(), labels=np.array([0, 1, 2, 1, 0]))
    split = open_array(tmp_path / "x.npz", CLASSES, WINDOW)
    assert split.labelled and split.labels.tolist() == [0, 1, 2, 1, 0]
    np.testing.assert_array_equal(split.x, windows())


def test_labels_follow_the_names_of_their_classes(tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, data=windows(), y=np.array([0, 1, UNKNOWN, 1, 0]), classes=np.array(["c", "a"]))
    split = open_array(file, CLASSES, WINDOW)
    assert split.labels.tolist() == [2, 0, UNKNOWN, 0, 2] and not split.labelled


@pytest.mark.parametrize(
    ("arrays", "facts"),
    [
        ({"z": 1}, ["z", "x or data"]),
        ({"x": windows(), "labels": np.zeros(4, int)}, ["[4]"]),
        ({"x": windows(), "labels": np.zeros(5)}, ["float64"]),
        ({"x": windows(), "labels": np.full(5, 3)}, ["label 3", "0 to 2"]),
        ({"x": windows(), "labels": np.zeros(5, int), "classes": np.array(["q"])}, ["class q"]),
    ],
)
def test_npz_files_that_do_not_fit(tmp_path, arrays, facts):
    np.savez(tmp_path / "x.npz", **arrays)
    with refused("x.npz", *facts):
        open_array(tmp_path / "x.npz", CLASSES, WINDOW)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_files_that_are_none(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with refused(name, "cannot be read"):
        open_array(tmp_path / name, CLASSES, WINDOW)


def test_pickled_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with refused("x.npy", "cannot be read"):
        open_array(tmp_path / "x.npy", CLASSES, WINDOW)


def test_torch_files(tmp_path):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(windows())
    for number, content in enumerate((x, list(x), tuple(x))):
        file = tmp_path / f"{number}.pt"
        torch.save(content, file)
        np.testing.assert_array_equal(open_array(file, CLASSES, WINDOW).x, windows())
    torch.save({"x": x}, tmp_path / "dict.pt")
    with refused("dict.pt", "one tensor"):
        open_array(tmp_path / "dict.pt", CLASSES, WINDOW)


def test_torch_files_that_need_code(tmp_path):
    torch = pytest.importorskip("torch")

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save(Trap(), tmp_path / "trap.pt")
    with refused("trap.pt", "cannot be read"):
        open_array(tmp_path / "trap.pt", CLASSES, WINDOW)
    assert not (tmp_path / "ran").exists()
