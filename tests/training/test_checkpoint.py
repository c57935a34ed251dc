"""Checkpoints on disk: whole, damaged, too new; and the memory of a step."""

import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from helpers.arrays import assert_same_arrays
from helpers.errors import assert_facts, refused, the_warning
from helpers.runs import flip_bit

from demega_jax.errors import UserError
from demega_jax.files import SEAL, sealed
from demega_jax.training.checkpoint import Checkpoints, Damaged, flatten, unflatten
from demega_jax.training.memory import StepMemory, check_memory, out_of_memory, step_memory
from demega_jax.training.state import TrainState

ALL = ("model", "training")
MIB = 2**20


def state_at(step: int, *, width: int = 3) -> TrainState:
    """A small state with every kind of array, all of it of that step."""
    rng = np.random.default_rng(step)
    params = {"encoder": {"layers": {0: {"kernel": rng.normal(size=(width, 4)).astype(np.float32)}}}}
    params["encoder"]["layers"][0]["kernel"][0, 0] = np.nan  # bits, not numbers, are kept
    buffers = {"feature_table": rng.integers(0, 2, (5, 2)).astype(np.float32)}
    opt_state = optax.adamw(1e-3).init(params)
    counters = {
        name: jnp.asarray(step + i, jnp.int32) for i, name in enumerate(("skipped", "last_skipped", "averaged"))
    }
    key = rng.integers(0, 2**32, 2, dtype=np.uint32)
    average = jax.tree.map(lambda leaf: leaf + 1, params)
    return TrainState(params, buffers, opt_state, average, key, step=jnp.asarray(step, jnp.int32), **counters)


def save(folder, steps, kind="latest") -> None:
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(kind, state_at(step), {"epoch": step / 10})
    checkpoints.close()


def read_newest(folder, kind="latest", items=ALL):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.read_newest(kind, items)
    finally:
        checkpoints.close()


def assert_same(got: dict, want: dict) -> None:
    assert_same_arrays(got, want)
    for name, array in want.items():
        assert got[name].tobytes() == array.tobytes(), name


def damage(path, place: float = 0.5) -> None:
    """Turn one bit of a file."""
    flip_bit(path, int(place * (path.stat().st_size - 1)))


def data_files(folder) -> list:
    """Where the arrays of a checkpoint are: the files of its stores' data folders."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "d" in path.relative_to(folder).parts[:-1])


def test_latest_comes_back_bit_for_bit(tmp_path, warnings):
    save(tmp_path, [7])
    arrays, meta = read_newest(tmp_path)
    assert_same(arrays, flatten(state_at(7)))
    assert (meta["step"], meta["epoch"], meta["format"]) == (7, 0.7, 2)
    assert {"jax", "flax", "demega-jax"} <= set(meta["versions"])
    back = unflatten(jax.eval_shape(lambda: state_at(7)), arrays, tmp_path)
    assert jax.tree.structure(back) == jax.tree.structure(state_at(7))
    assert_same(flatten(back), flatten(state_at(7)))
    assert warnings == []


def test_best_holds_the_model_alone(tmp_path):
    save(tmp_path, [7], "best")
    want = {n: a for n, a in flatten(state_at(7)).items() if n.partition(".")[0] in ("params", "buffers", "average")}
    assert_same(read_newest(tmp_path, "best", ("model",))[0], want)
    assert len(want) == 3
    assert not (tmp_path / "best" / "7" / "training").exists()


def test_no_checkpoint_is_none(tmp_path):
    assert read_newest(tmp_path) is None


def test_two_latest_and_one_best_are_kept(tmp_path):
    save(tmp_path, [1, 2, 3])
    save(tmp_path, [1, 3, 4], "best")
    checkpoints = Checkpoints(tmp_path)
    assert (checkpoints.steps("latest"), checkpoints.steps("best")) == ([2, 3], [4])
    checkpoints.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run folder with checkpoints 1 and 2."""
    folder = tmp_path_factory.mktemp("two")
    save(folder, [1, 2])
    return folder


@pytest.fixture
def spoil(two, tmp_path):
    """A copy of that folder."""
    shutil.copytree(two, tmp_path / "run")
    return tmp_path / "run"


# A read that fails leaves callbacks of the store behind, which find the event loop of that read closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_turned_bit_in_a_data_file(spoil, warnings, place):
    """It may hit space that nothing uses; then every array is whole. If not, the one before is taken, and said."""
    whole = [flatten(state_at(1)), flatten(state_at(2))]
    fell_back = []
    files = data_files(spoil / "latest" / "2")
    assert files
    for path in files:
        intact = path.read_bytes()
        damage(path, place)
        warnings.clear()
        arrays, meta = read_newest(spoil)
        assert_same(arrays, whole[meta["step"] - 1])
        assert len(warnings) == (meta["step"] == 1)
        fell_back.append(meta["step"] == 1)
        path.write_bytes(intact)
    assert any(fell_back)


def test_a_turned_bit_in_any_other_file_is_never_silent(spoil, warnings):
    folder = spoil / "latest" / "2"
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p not in data_files(folder)):
        intact = path.read_bytes()
        if intact:
            damage(path)
            warnings.clear()
            arrays, meta = read_newest(spoil)
            assert_same(arrays, flatten(state_at(int(arrays["step"]))))
            assert len(warnings) == (int(arrays["step"]) == 1)
            path.write_bytes(intact)


def test_a_damaged_checkpoint_is_named(spoil, warnings):
    largest = max(data_files(spoil / "latest" / "2"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    checkpoints = Checkpoints(spoil)
    with pytest.raises(Damaged):
        checkpoints.read("latest", 2, ALL)
    arrays, meta = checkpoints.read_newest("latest", ALL)
    checkpoints.close()
    assert meta["step"] == int(arrays["step"]) == 1
    assert "\n" not in the_warning(warnings, spoil / "latest" / "2", "damaged")


def test_an_empty_folder_is_passed_over(spoil, warnings):
    (spoil / "latest" / "9").mkdir()
    assert read_newest(spoil)[1]["step"] == 2
    assert len(warnings) <= 1


def test_an_emptied_checkpoint_is_passed_over(spoil, warnings):
    for path in sorted((spoil / "latest" / "2").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert read_newest(spoil)[1]["step"] == 1
    assert len(warnings) <= 1


def test_a_checksum_that_disagrees(spoil, warnings):
    """What the store itself cannot see: whole files with other numbers in them."""
    path = spoil / "latest" / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    name = next(iter(meta["checksums"]["model"]))
    meta["checksums"]["model"][name] = "00000000"
    path.write_text(json.dumps(meta))
    assert read_newest(spoil)[1]["step"] == 1
    assert_facts(warnings[0], "checksum", name)


def test_all_damaged_is_an_error(spoil, warnings):
    for step in (1, 2):
        (spoil / "latest" / str(step) / "meta" / "metadata").write_text("{")
    with refused("2 checkpoints"):
        read_newest(spoil)
    assert len(warnings) == 2


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (
            ValueError("PERMISSION_DENIED: Error opening [os_error_code='13']"),
            ["cannot be written", "Permission denied"],
        ),
        (ValueError("FAILED_PRECONDITION: Error [os_error_code='30']"), ["cannot be written", "Read-only"]),
        (ValueError("RESOURCE_EXHAUSTED: Error writing [os_error_code='28']"), ["no space left"]),
        (PermissionError(13, "Permission denied", "latest/5"), ["cannot be written", "Permission denied"]),
    ],
)
def test_what_the_system_says_of_a_save_is_one_line(tmp_path, monkeypatch, error, facts):
    """tensorstore has the number of the system's error in its words; the number of each is that of Linux."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("latest", state_at(1), {"epoch": 0.1})
    checkpoints.wait()

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", fail)
    with refused(*facts, "--resume", where=tmp_path):
        checkpoints.wait()


def test_a_newer_format_is_an_error(spoil):
    """A later version seals what it writes; a later one still may seal it in another way."""
    path = spoil / "latest" / "2" / "meta" / "metadata"
    written = {name: value for name, value in json.loads(path.read_text()).items() if name != SEAL} | {"format": 3}
    for meta in (sealed(written), written, written | {SEAL: "in another way"}):
        path.write_text(json.dumps(meta))
        with refused("format 3", "format 2", "upgrade"):
            read_newest(spoil)


def test_a_turned_bit_in_the_format_is_damage(spoil, warnings):
    """It is not the number that was sealed, so it tells of no newer version."""
    path = spoil / "latest" / "2" / "meta" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    assert read_newest(spoil)[1]["step"] == 1
    the_warning(warnings, spoil / "latest" / "2", "damaged", "format")


def test_going_back_replaces_what_is_newer(spoil):
    """A run that went on from step 1 saves 2 again, with what it has become."""
    again = jax.tree.map(lambda leaf: leaf, state_at(5))
    again = type(again)(**{**vars(again), "step": jnp.asarray(2, jnp.int32)})
    checkpoints = Checkpoints(spoil)
    checkpoints.save("latest", again, {})
    checkpoints.wait()
    assert checkpoints.steps("latest") == [1, 2]
    assert_same(checkpoints.read_newest("latest", ALL)[0], flatten(again))
    checkpoints.save("latest", state_at(1), {})
    checkpoints.close()
    assert_same(read_newest(spoil)[0], flatten(state_at(1)))


def test_other_shapes_are_refused_by_name(tmp_path):
    arrays = flatten(state_at(1))
    name = "params.encoder.layers.0.kernel"
    with refused(name, "(3, 4)", "(2, 4)"):
        unflatten(state_at(1, width=2), arrays, tmp_path)
    del arrays["buffers.feature_table"]
    with refused("buffers.feature_table"):
        unflatten(state_at(1), arrays, tmp_path)


@pytest.mark.parametrize(
    ("available", "multiple", "share", "fits"),
    [
        (300, 8, 1, 24),  # 0.95 * 300 - 100 = 185 of 400 MiB: 29.6 of 64 rows, less a tenth: 26.6
        (300, 1, 1, 26),
        (300, 4, 2, 4),  # 0.95 * 300 / 2 - 100 = 42.5: 6.8 rows, less a tenth: 6.1
        (300, 8, 2, None),
        (100, 1, 1, None),  # the state alone is too large
    ],
)
def test_batch_size_that_fits(available, multiple, share, fits):
    need = StepMemory(kept=100 * MIB, rows=400 * MIB)
    text = str(out_of_memory(need, available * MIB, 64, multiple, share))
    assert_facts(text, "64 rows", f"{500 * share:.1f} MiB")
    assert_facts(text, *([f"train.batch_size={fits}"] if fits else ["smaller model", "more memory"]))
    with pytest.raises(UserError):
        check_memory(need, available * MIB, 64, multiple, share)
    if fits:
        check_memory(StepMemory(need.kept, need.rows * fits // 64), available * MIB, fits, multiple, share)


def test_memory_that_suffices_or_is_not_known():
    need = StepMemory(kept=50 * MIB, rows=45 * MIB)
    check_memory(need, 100 * MIB, 64, 1, 1)
    check_memory(need, None, 64, 1, 1)
    with pytest.raises(UserError):
        check_memory(need, 100 * MIB - 1, 64, 1, 1)
    with pytest.raises(UserError):
        check_memory(need, 100 * MIB, 64, 1, 2)


def test_memory_of_a_step_counts_the_state_once():
    """Arguments 100 (of which 60 the state), results 70 (60 of them in the state's place), temporaries 25."""
    analysis = types.SimpleNamespace(
        argument_size_in_bytes=100, output_size_in_bytes=70, alias_size_in_bytes=60, temp_size_in_bytes=25
    )
    compiled = types.SimpleNamespace(memory_analysis=lambda: analysis)
    need = step_memory(compiled, {"w": np.zeros(15, np.float32)})
    assert (need.kept, need.rows, need.total) == (60, 75, 135)
