"""Five training steps of a tiny model, whose losses are known: they tell a device that computes wrongly.

Windows and parameters come from numpy's `RandomState`, whose numbers no version of numpy changes, and nothing is drawn
on a device. So the losses depend on the device, its driver and the program that the compiler makes, on nothing else.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np
from jax.sharding import AxisType

from demega_jax.config import Config
from demega_jax.model.parameters import Arrays, flatten
from demega_jax.phonemes import PHONEMES
from demega_jax.training.optimizer import ParameterGroups, make_optimizer, path_name
from demega_jax.training.parallel import AXIS, Placement
from demega_jax.training.state import TrainState, build, initial_state
from demega_jax.training.step import TrainStep

ROWS, SENSORS, TIME_POINTS = 40, 12, 25
# The loss of each step, computed on a CPU in float32 with matrix products of precision `highest` (x86-64, jax 0.12.0,
# 2026-11-26). Programs that were optimised or not, for 1, 3 or 8 devices, differed from them by 2e-6 at most.
EXPECTED = (8.814845, 6.577465, 6.047993, 4.914506, 3.668204)
# The largest relative difference that passes, by platform. benchmarks/self_test_rounding.py made the five steps on a
# CPU with products rounded as devices round them (2026-11-27, results/self_test_rounding.json). As precise as the test
# asks for, a GPU (float32) is off by 6e-7, a TPU (six bfloat16 products) by 2e-6; elementwise functions that are off by
# 2^-21 of themselves add 3e-6, and in proportion. What must not pass is off by far more: TF32 by 9e-4, one bfloat16
# product by 2e-2. Three bfloat16 products are off by 1.5e-5; `check_precision` finds them.
TOLERANCE = {"cpu": 1e-5, "gpu": 5e-5, "tpu": 1e-4}


@dataclasses.dataclass(frozen=True)
class Result:
    """losses: of each step.  difference: the largest relative one from EXPECTED, infinite where a loss is not finite.
    tolerance: the largest that passes."""

    losses: tuple[float, ...]
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the losses are those that are expected."""
        return self.difference <= self.tolerance


def config(attention: Literal["plain", "fused"] = "plain") -> Config:
    """The tiny model with all its losses, and steps that are large enough to be seen in the next loss.

    attention: as model.attention. Without dropout both have the same losses.
    """
    model = {
        "sensors": SENSORS,
        "time_points": TIME_POINTS,
        "classes": PHONEMES,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "embedding_width": 32,
        "projection_width": 16,
        "ipa_width": 16,
        "dropout": 0.0,
        "attention": attention,
    }
    return Config.model_validate({"model": model, "train": {"batch_size": ROWS, "steps": len(EXPECTED)}})


def run(devices: Sequence[jax.Device], asked: Config | None = None) -> Result:
    """Train on these devices together. asked: another configuration, which has other losses; None: `config()`.

    jax.errors.JaxRuntimeError: the devices do not compute at all.
    """
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    with jax.default_matmul_precision("highest"):
        losses = _losses(asked or config(), Placement("jit", mesh))
    differences = [abs(loss - wanted) / wanted for loss, wanted in zip(losses, EXPECTED, strict=True)]
    worst = max(differences) if all(map(math.isfinite, differences)) else math.inf
    return Result(losses, worst, TOLERANCE.get(devices[0].platform, TOLERANCE["gpu"]))


def _losses(asked: Config, placement: Placement) -> tuple[float, ...]:
    graphdef, params, buffers = build(asked.model, 0)
    params = _known(params)
    groups = ParameterGroups.of(asked, params)
    tx = make_optimizer(asked, lambda step: 3e-3, groups)
    step = placement.compile_train(TrainStep(graphdef, asked, None, groups, tx, 0))
    state: TrainState = placement.replicate(initial_state(asked, params, buffers, tx, groups))
    losses = []
    for _ in EXPECTED:
        state, metrics = step(state, placement.put_batch(_batch(placement.padded(ROWS))))
        losses.append(float(metrics["loss"]))
    return tuple(losses)


def _known(params: object) -> object:
    """The tree of parameters with numbers that are always the same, as large as those of a new model."""
    draw = np.random.RandomState(1)

    def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
        drawn = draw.standard_normal(shape)
        if len(shape) > 1:
            return drawn / math.sqrt(math.prod(shape[:-1]))
        return 0.1 * drawn + name.endswith("scale")

    found: Arrays = {
        name: value(name, array.shape).astype(np.float32) for name, array in sorted(flatten(params).items())
    }
    return jax.tree_util.tree_map_with_path(lambda path, _: found[path_name(path)], params)


def _batch(count: int) -> dict[str, np.ndarray]:
    """The same rows for every step, with rows of padding after them, up to `count`."""
    x = np.zeros((count, SENSORS, TIME_POINTS), np.float32)
    x[:ROWS] = np.random.RandomState(0).standard_normal((ROWS, SENSORS, TIME_POINTS))
    rows = np.arange(count)
    return {"x": x, "label": (rows % len(PHONEMES) % 20).astype(np.int32), "valid": rows < ROWS}
