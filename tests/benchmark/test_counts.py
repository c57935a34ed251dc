"""What `demega-jax benchmark` counts, against arithmetic by hand."""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TINY_MODEL

from demega_jax.benchmark.cases import Case, case_config, open_case
from demega_jax.benchmark.machine import Machine, copy_bandwidth, matrix_peak
from demega_jax.benchmark.measure import Limits, Work, add_scaling, against_machine, time_steps
from demega_jax.benchmark.program import CompilerFigures, compiler_figures, matrix_flops
from demega_jax.benchmark.simulated import noise_split, published_groups, write_noise_file
from demega_jax.benchmark.tables import seconds
from demega_jax.config import Config
from demega_jax.config.load import override, parse_overrides

TINY = [*TINY_MODEL, "model.sensors=5", "model.time_points=9", "model.input_norm=zscore"]  # compiles sooner


def flops(function, *shapes: tuple[int, ...]) -> int:
    return matrix_flops(jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes)).jaxpr)


def test_flops_of_products_convolutions_and_scans():
    assert flops(jnp.matmul, (2, 3, 4), (2, 4, 5)) == 2 * 2 * 3 * 4 * 5
    assert flops(lambda x, y: jnp.einsum("btd,bsd->bts", x, y), (6, 7, 3), (6, 2, 3)) == 2 * 6 * 7 * 2 * 3
    convolution = lambda x, kernel: jax.lax.conv_general_dilated(  # noqa: E731
        x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    assert flops(convolution, (2, 10, 3), (5, 3, 7)) == 2 * (2 * 10 * 7) * (5 * 3)

    def repeated(x, w):
        return jax.lax.scan(lambda x, _: (jax.jit(jnp.matmul)(x, w), None), x, length=6)[0]

    assert flops(repeated, (8, 4), (4, 4)) == 6 * 2 * 8 * 4 * 4

    def ways(x, w):
        return jax.lax.platform_dependent(x, w, cpu=jnp.matmul, default=lambda x, w: x[:, :1] @ w[:1])

    assert flops(ways, (8, 4), (4, 5)) == 2 * 8 * 1 * 5  # of the ways of several backends, the shortest
    # Forward, and backward the gradients of both operands.
    gradient = jax.grad(lambda both: jnp.sum(both[0] @ both[1]) ** 2)
    assert flops(lambda x, w: gradient((x, w)), (8, 4), (4, 5)) == 3 * 2 * 8 * 4 * 5


def compiled(function, *shapes: tuple[int, ...]):
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile()


def test_the_compiler_counts_products_and_their_arrays():
    """[64, 32] x [32, 16] in float32: 2 x 64 x 32 x 16 FLOP; both operands read and the result written."""
    found = compiler_figures(compiled(jnp.matmul, (64, 32), (32, 16)), 1)
    assert found.flops == 2 * 64 * 32 * 16
    assert found.bytes_accessed == 4 * (64 * 32 + 32 * 16 + 64 * 16)


def test_the_compiler_counts_what_is_left_after_fusion():
    """x + 1, doubled, is one pass over memory without temporaries: 1000 floats read, 1000 written, two FLOP each."""
    found = compiler_figures(compiled(lambda x: 2 * (x + 1), (1000,)), 1)
    assert found.bytes_accessed == 2 * 4 * 1000 and 1000 <= found.flops <= 2000
    # A product of a product needs the inner one in between: [64, 64] floats.
    assert compiler_figures(compiled(lambda x: (x @ x) @ x, (64, 64)), 1).temporary_bytes >= 4 * 64 * 64


def test_figures_are_of_all_devices():
    """Each of two devices multiplies its half of the rows by the whole matrix."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("rows",))
    shardings = [jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (("rows",), ())]
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
        for shape, sharding in zip(((64, 32), (32, 16)), shardings, strict=True)
    ]
    found = compiler_figures(jax.jit(jnp.matmul).lower(*shapes).compile(), 2)
    assert found.flops == 2 * 64 * 32 * 16
    assert found.bytes_accessed == 4 * (64 * 32 + 2 * 32 * 16 + 64 * 16)


class Silent:
    """A compiled program of a backend that says less."""

    def __init__(self, cost, memory=None):
        self.cost, self.memory = cost, memory

    def cost_analysis(self):
        return self.cost

    def memory_analysis(self):
        return self.memory


@pytest.mark.parametrize(
    ("cost", "figures"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ({"flops": -1.0}, (None, None)),
        ({"flops": 5.0, "bytes accessed": 7.0}, (10, 14)),
        ({"bytes accessed": 7.0}, (None, 14)),
    ],
)
def test_what_the_compiler_does_not_say_is_none(cost, figures):
    assert compiler_figures(Silent(cost), 2) == CompilerFigures(*figures, None)


def test_the_floor_is_the_longer_of_arithmetic_and_memory():
    work = Work(4000, 10, 180, CompilerFigures(5000, 380, 7))
    assert work.least_bytes == 190
    alone = against_machine(4.0, work, "float32", 2, Machine({"float32": 1000.0}, 380.0, True))
    assert (alone["floor_seconds"], alone["floor_of"], alone["over_floor"]) == (4.0, "arithmetic", 1.0)
    assert (alone["bytes_per_second"], alone["share_of_copy"]) == (95.0, 0.25)
    apart = against_machine(4.0, work, "float32", 2, Machine({"float32": 9000.0}, 19.0, False))
    assert (apart["floor_seconds"], apart["floor_of"], apart["share_of_copy"]) == (5.0, "memory", 2.5)
    assert apart["share_of_peak"] == 4000 / 4.0 / 18000.0
    unsaid = against_machine(
        4.0,
        Work(4000, 10, 180, CompilerFigures(None, None, None)),
        "float32",
        1,
        Machine({"float32": 1000.0}, 380.0, True),
    )
    assert unsaid["floor_seconds"] == 4.0
    assert unsaid["bytes_per_second"] is unsaid["share_of_copy"] is unsaid["compiled"]["bytes_accessed"] is None


def test_a_machine_is_as_good_as_its_best_measurement():
    one, other = (
        Machine({"float32": 2.0, "bfloat16": 5.0}, 7.0, True),
        Machine({"float32": 3.0, "bfloat16": 4.0}, 6.0, True),
    )
    assert one.better(other) == other.better(one) == Machine({"float32": 3.0, "bfloat16": 5.0}, 7.0, True)


@pytest.mark.parametrize(
    ("each", "limits", "dispatches"),
    [
        (1, Limits(6, math.inf), 6),
        (4, Limits(20, math.inf), 5),
        (1, Limits(200, 0.05), 3),
        (1, Limits(1, math.inf), 3),
    ],
)
def test_steps_are_timed_until_enough(each, limits, dispatches):
    """A dispatch that takes 20 ms, and input that takes 10: the host's time, as both happen in it."""
    taken = []

    def take():
        time.sleep(0.01)
        taken.append(0)
        return (len(taken),)

    def run(state, number):
        time.sleep(0.02)
        return state + 1, {"loss": jnp.zeros(())}

    times = time_steps(run, take, jnp.zeros(()), each, limits)
    assert len(times.steps) == dispatches
    assert min(times.steps) >= 0.03 / each and np.median(times.steps) < 0.3 / each
    assert times.host >= 0.03 / each and 0.01 / each <= times.input_wait < times.host


def test_scaling_is_over_the_fewest_devices_of_like_cases():
    like = {"level": 5, "feed": "resident", "precision": "float32"}
    cases = [like | {"devices": n, "samples_per_second": rate} for n, rate in ((4, 30.0), (1, 10.0))]
    cases.append(like | {"level": 20, "devices": 4, "samples_per_second": 8.0})
    add_scaling(cases)
    assert [case["scaling_efficiency"] for case in cases] == [0.75, 1.0, 1.0]


def test_simulated_data_have_the_shape_of_a_level(tmp_path):
    assert [published_groups(level) for level in (1, 5, 100)] == [1_600_000, 320_000, 16_000]
    split = noise_split(1300, 4, 6)
    assert split.rows == len(split.labels) == 1536 and len(np.unique(split.labels)) == 39
    read = split.reader().read(np.array([1530, 506, 0]))
    assert read.shape == (3, 4, 6) and np.array_equal(read[0], read[1]) and not np.array_equal(read[0], read[2])
    base = override(Config(), parse_overrides([*TINY, "train.batch_size=16", "data.memory=1M"]), "test")
    found = {}
    for level, feed in ((5, "stream"), (50_000, "stream"), (7, "regroup"), (100_000, "resident")):
        given = open_case(case_config(base, Case(level, feed, 1, "float32")), tmp_path, 1)
        assert (given.data.train.sensors, given.data.train.time_points) == (5, 9)
        assert given.simulated and given.epoch_groups == round(1.6e6 / level)
        found[level] = given
    assert (found[5].config.data.memory, found[50_000].config.data.memory) == ("0", "1M")  # 58 MB, and 5.8 kB
    assert found[100_000].data.train.rows == 16
    sizes = found[7].data.plan.tables.group_size
    assert set(sizes[sizes > 0].tolist()) == {7}  # each has K windows, however short the recording


def test_files_are_real_unless_they_say_otherwise(tmp_path):
    import h5py

    files = [tmp_path / "grouped_5" / f"{split}_grouped.h5" for split in ("train", "validation")]
    for path in files:
        write_noise_file(path, 80, 5, 9, 5)
    base = override(Config(), {"data.path": str(tmp_path), "train.batch_size": 16}, "test")
    config = case_config(base, Case(5, "stream", 1, "float32"))
    said = open_case(config, tmp_path, 1)
    assert said.simulated and said.epoch_groups == 320_000
    with h5py.File(files[0], "a") as file:
        del file.attrs["simulated"]
    real = open_case(config, tmp_path, 1)
    assert not real.simulated and real.epoch_groups == 80


@pytest.mark.usefixtures("small_peaks")
def test_peaks_are_of_this_machine():
    device = jax.devices()[0]
    assert 1e8 < matrix_peak(device, "float32") < 1e14 and 1e8 < copy_bandwidth(device) < 1e13


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00085, "850 us"),
        (0.0123, "12.3 ms"),
        (1.45, "1.45 s"),
        (99.96, "100 s"),
        (150.0, "2m30s"),
        (9.1e-6, "9.10 us"),
    ],
)
def test_times_have_three_digits(value, text):
    assert seconds(value) == text
