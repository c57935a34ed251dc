"""What the training step is made of, where no accelerator shows it: looked up in its lowered and compiled programs."""

import functools
import math
import re
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from helpers.training import make_training

from demega_jax.config import Config
from demega_jax.phonemes import PHONEMES

ROWS, SENSORS, TIME_POINTS, HEADS, DEVICES = 16, 5, 12, 2, 8
SCORES = ROWS * HEADS * TIME_POINTS**2  # elements of [B, H, T, S]
INPUTS = {
    "raw": {},
    "statistics": {name: ((SENSORS,), np.float32) for name in ("median", "iqr")},
    "normalized": {},
}


def config_of(dtype: str, layers: int) -> Config:
    return Config.model_validate(
        {
            "model": {
                "sensors": SENSORS,
                "time_points": TIME_POINTS,
                "width": 16,
                "heads": HEADS,
                "layers": layers,
                "embedding_width": 64,
                "projection_width": 16,
                "ipa_width": 8,
                "dropout": 0.5,
                "dtype": dtype,
                "classes": PHONEMES,
            },
            "data": {"augment": {"time_shift": 0.5, "noise": 0.5, "time_mask": 0.5}},
            "train": {"steps": 4, "batch_size": ROWS, "averaging": "ema"},
            "loss": {"class_weights": "inverse_sqrt"},
        }
    )


@functools.cache
def parts(dtype: str, source: str, devices: int, layers: int = 1):
    """(training, abstract state, abstract batch)."""
    training = make_training(
        config_of(dtype, layers), devices=devices, weights=[1.0] * 39, normalized=source == "normalized"
    )
    arrays = {"x": ((SENSORS, TIME_POINTS), np.float32), "label": ((), np.int32), "valid": ((), np.bool_)}
    state = jax.eval_shape(training.fresh_state)
    return training, *training.placement.abstract(state, arrays | INPUTS[source], ROWS)


def equations(jaxpr) -> Iterator:
    """Every equation, also those within others."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@functools.cache
def primitives(dtype: str, source: str) -> list[tuple[str, int]]:
    """(name, elements of its largest array) of every operation in a step, forward and backward."""
    training, state, batch = parts(dtype, source, 1)
    found = []
    for equation in equations(jax.make_jaxpr(training.step.__call__)(state, batch).jaxpr):
        sizes = [math.prod(v.aval.shape) for v in (*equation.invars, *equation.outvars) if hasattr(v.aval, "shape")]
        found.append((equation.primitive.name, max(sizes, default=0)))
    return found


@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.slow
def test_no_sort_no_callback_and_no_lookup_as_large_as_scores(source):
    found = primitives("float32", source)
    names = {name for name, _ in found}
    assert "dot_general" in names and any(size >= SCORES for name, size in found if name == "dot_general")
    assert not names & {"sort", "top_k", "approx_top_k", "cumsum"} and not any("callback" in name for name in names)
    for name, size in found:
        if name.startswith(("gather", "scatter", "dynamic_gather")):
            assert size < SCORES, (name, size)


def test_statistics_from_files_leave_the_network_of_comparisons_out():
    """Order statistics of raw windows are a network of minima and maxima; with statistics none of it is there."""
    window = ROWS * SENSORS

    def comparisons(source: str) -> int:
        return sum(name in ("min", "max") and size >= window for name, size in primitives("float32", source))

    stages = math.ceil(math.log2(TIME_POINTS))
    assert comparisons("raw") - comparisons("statistics") >= stages * (stages + 1)  # a minimum and a maximum a stage
    assert comparisons("statistics") == comparisons("normalized")


@functools.cache
def compiled(devices: int) -> jax.stages.Compiled:
    training, state, batch = parts("float32", "statistics", devices)
    return training.compiled.lower(state, batch).compile()


@pytest.mark.slow
def test_the_state_is_donated():
    _, state, _ = parts("float32", "statistics", 1)
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert compiled(1).memory_analysis().alias_size_in_bytes >= 0.99 * size


@pytest.mark.slow
def test_steps_compile_once():
    training, state, batch = parts("float32", "raw", 2)
    run, now = training.compiled, training.placed_state()
    rng = np.random.default_rng(0)
    for _ in range(3):
        rows = {"x": rng.standard_normal((ROWS, SENSORS, TIME_POINTS)).astype(np.float32)}
        rows |= {"label": rng.integers(0, 39, ROWS).astype(np.int32), "valid": np.ones(ROWS, bool)}
        now, _ = run(now, training.placement.put_batch(rows))
    assert run._cache_size() == 1 and set(rows) == set(batch)
    assert int(now.step) == 3 and jax.tree.structure(now) == jax.tree.structure(state)


def collective_bytes(text: str) -> dict[str, list[int]]:
    """Bytes of the result of each collective in a compiled program, on one device, by kind."""
    sizes = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "bf16": 2, "f16": 2, "s8": 1, "u8": 1}
    found: dict[str, list[int]] = {}
    kinds = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"
    for line in text.splitlines():
        match = re.search(rf"= (.*?) ({kinds})(-start)?\(", line)
        if match:
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            count = sum(sizes[kind] * math.prod(int(d) for d in shape.split(",") if d) for kind, shape in arrays)
            found.setdefault(match[2], []).append(count)
    return found


@pytest.mark.slow
def test_gradients_are_reduced_once():
    """Eight devices exchange the gradients once, the projections that the contrastive loss needs, and little else."""
    training, state, _ = parts("float32", "statistics", DEVICES)
    parameters = sum(math.prod(leaf.shape) * 4 for leaf in jax.tree.leaves(state.params))
    projections = ROWS * training.config.model.projection_width * 4
    assert projections < 0.05 * parameters  # so that the limit below can tell
    found = collective_bytes(compiled(DEVICES).as_text())
    # Two sums: the rows of each class before the losses, and gradients and losses as one vector.
    classes = len(training.config.model.classes)
    assert len(found["all-reduce"]) == 2 and min(found["all-reduce"]) == 4 * classes
    assert max(found["all-reduce"]) >= 0.95 * parameters
    total = sum(map(sum, found.values()))
    assert total <= 1.1 * parameters + 2 * projections, (found, parameters, projections)  # there and back
    assert collective_bytes(compiled(1).as_text()) == {}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("source", ["raw", "statistics"])
@pytest.mark.slow
def test_the_step_lowers_for_accelerators(platform, dtype, source):
    training, state, batch = parts(dtype, source, 1, layers=2)
    bare = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (state, batch))
    exported = jax.export.export(jax.jit(training.step.__call__, donate_argnums=0), platforms=[platform])(*bare)
    text = exported.mlir_module()
    assert exported.platforms == (platform,) and "stablehlo.sort" not in text
    assert ("bf16" in text) == (dtype == "bfloat16")
    if source == "statistics":  # layouts that suit a CPU are not forced on others (those of raw input are everyone's)
        layers = training.config.model.layers
        # Of each layer: q, k, v, the probabilities, and the gradient of the values; in both passes, the filter. The
        # windows; the new state.
        wanted = (5 + 2) * layers + 2
        # For a GPU, in both passes, four products of each layer before their biases, and five of the heads. For
        # a TPU, the words and the masks of six sites of each layer and of three of the heads.
        wanted += 2 * (4 * layers + 5) if platform == "cuda" else 2 * (6 * layers + 3)
        assert text.count("stablehlo.optimization_barrier") == wanted
    if dtype == "bfloat16":  # the large products; those of losses and statistics stay in float32
        products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
        assert sum("bf16" in line for line in products) > len(products) / 2
