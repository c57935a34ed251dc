"""Twenty training steps of the original system, step by step (golden numbers)."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.arrays import INERT
from helpers.golden import golden_model
from helpers.training import make_training
from torch_weights import convert, flat, part

from demega_jax.config import Config
from demega_jax.training.optimizer import learning_rate_schedule

TOLERANCE = dict(rtol=1e-4, atol=1e-5)  # golden/README: for the trajectory
STEPS, EPOCH = 20, 4


def golden_config() -> Config:
    """The settings of the golden run: warm-up 2 of 10 epochs of 4 steps, frozen final norm."""
    return Config.model_validate(
        {
            "model": {"dropout": 0.0},
            "train": {"steps": STEPS, "batch_size": 16},
            "optim": {
                "learning_rate": 1e-3,
                "schedule": "per_epoch",
                "schedule_length": 10,
                "warmup": 0.2,
                "frozen": ["final_norm"],
            },
        }
    )


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.slow
def test_twenty_steps(golden, mode):
    numbers = golden("classifier_tiny")
    config = golden_config()
    model = golden_model(numbers, "pre")
    graphdef, params, buffers = nnx.split(model, nnx.Param, ...)
    parts = graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(buffers)
    training = make_training(config, mode=mode, devices=2, steps_per_epoch=EPOCH, parts=parts)
    state = training.placed_state()
    batch = {"x": numbers["x"], "label": numbers["labels"].astype(np.int32), "valid": np.ones(16, bool)}
    losses = []
    for _ in range(STEPS):
        state, metrics = training.compiled(state, training.placement.put_batch(batch))
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses, numbers["train/losses"], **TOLERANCE)
    ours = flat(state.params)
    theirs = convert(part(numbers, "train/w/"), ours)
    for path, expected in theirs.items():
        if not path.endswith(INERT):
            np.testing.assert_allclose(ours[path], expected, **TOLERANCE, err_msg=path)


def test_learning_rates(golden):
    numbers = golden("classifier_tiny")
    schedule = learning_rate_schedule(golden_config(), EPOCH, STEPS)
    ours = [float(schedule(jnp.asarray(step))) for step in range(STEPS)]
    np.testing.assert_allclose(ours, numbers["train/base_lr"], rtol=1e-6)
