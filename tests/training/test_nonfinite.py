"""Steps that are not finite are skipped in every mode, by each member alone, and stop the run that has too many."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.arrays import bits
from helpers.training import Training, make_training

from demega_jax.config import Config

ROWS, SENSORS, TIME = 8, 3, 6
HUGE = 3.3e38


def tiny(dtype: str = "float32", **train) -> Config:
    """A model without what makes no difference here; its input comes as it is, so that huge numbers stay huge."""
    return Config.model_validate(
        {"model": {"sensors": SENSORS, "time_points": TIME, "classes": ("aa", "b", "d"), "width": 4, "heads": 1,
                   "layers": 1, "embedding_width": 4, "projection_width": 2, "ipa_width": 2, "pool": "mean",
                   "position_terms": [], "dropout": 0.0, "dtype": dtype, "input_norm": "none"},
         "loss": {"contrastive_weight": 0.0, "ipa_weight": 0.0},
         "train": {"steps": 4, "batch_size": ROWS} | train,
         "optim": {"learning_rate": 1e-2, "warmup": 0.0, "clip": 0.0}}
    )  # fmt: skip


def batch(spoilt: float | None = None) -> dict[str, np.ndarray]:
    """A batch of which the last row is spoilt, which is on the last device and in the last microbatch."""
    x = np.random.default_rng(0).normal(size=(ROWS, SENSORS, TIME)).astype(np.float32)
    if spoilt is not None:
        x[-1] = spoilt
    return {"x": x, "label": np.arange(ROWS, dtype=np.int32) % 3, "valid": np.ones(ROWS, bool)}


def call(training: Training, state, values):
    """(state, metrics) on the host after a step."""
    placed = training.placement.replicate(state), training.placement.put_batch(values)
    return jax.device_get(training.compiled(*placed))


def assert_unchanged(after, before) -> None:
    for field in ("params", "opt_state", "average", "averaged"):
        assert bits(getattr(after, field)) == bits(getattr(before, field)), field


@pytest.mark.slow
def test_a_spoilt_row_skips_the_step_on_all_devices_and_the_next_step_learns():
    training = make_training(tiny(accumulate=2, averaging="ema"), mode="pmap", devices=2)
    before = jax.device_get(training.fresh_state())
    after, metrics = call(training, before, batch(np.nan))
    assert not np.isfinite(metrics["loss"] + metrics["grad_norm"])
    assert_unchanged(after, before)
    assert (after.step, after.skipped, after.last_skipped) == (1, 1, 1)
    later, metrics = call(training, after, batch())
    assert np.isfinite([metrics["loss"], metrics["grad_norm"]]).all()
    assert (later.step, later.skipped, later.last_skipped) == (2, 1, 1)
    fresh, _ = call(training, dataclasses.replace(before, step=np.int32(1)), batch())
    assert bits(later.params) == bits(fresh.params) != bits(before.params)


@pytest.mark.slow
def test_an_overflow_in_bfloat16_skips_the_step_of_its_member_alone():
    """HUGE is finite in bfloat16, and overflows in the model. The other member learns as if nothing had been."""
    training = make_training(tiny("bfloat16"))
    before = jax.device_get(training.fresh_state())
    both = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), before)
    step = training.placement.compile_train(training.step, members=True)

    def of_members(*batches):
        values = jax.tree.map(lambda *each: jnp.asarray(np.stack(each)), *batches)
        return jax.device_get(step(training.placement.replicate(both), values))

    (after, metrics), (wanted, _) = of_members(batch(), batch(HUGE)), of_members(batch(), batch())
    assert np.isfinite(metrics["loss"]).tolist() == [True, False]
    assert after.skipped.tolist() == metrics["skipped"].tolist() == [0, 1]
    assert_unchanged(jax.tree.map(lambda leaf: leaf[1], after), before)
    first = [jax.tree.map(lambda leaf: leaf[0], state.params) for state in (after, wanted)]
    assert bits(first[0]) == bits(first[1]) != bits(before.params)
