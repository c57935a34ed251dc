"""Steps that are not finite are skipped in every mode, by each member alone, and stop the run that has too many."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TINY_MODEL
from helpers.arrays import bits
from helpers.data import simulate_grouped
from helpers.errors import fails_with
from helpers.runs import newest_arrays, run_command, train_arguments
from helpers.training import Training, experiment_of, make_training

from demega_jax.config import Config
from demega_jax.data.combined import ArraySplit
from demega_jax.training.checkpoint import flatten
from demega_jax.training.members import member_config
from demega_jax.training.run import RunFolder
from demega_jax.training.state import build

ROWS, SENSORS, TIME = 8, 3, 6
HUGE = 3.3e38


def tiny(dtype: str = "float32", data: dict | None = None, **train) -> Config:
    """A model without what makes no difference here; its input comes as it is, so that huge numbers stay huge."""
    return Config.model_validate(
        {
            "model": {
                "sensors": SENSORS,
                "time_points": TIME,
                "classes": ("aa", "b", "d"),
                "width": 4,
                "heads": 1,
                "layers": 1,
                "embedding_width": 4,
                "projection_width": 2,
                "ipa_width": 2,
                "pool": "mean",
                "position_terms": [],
                "dropout": 0.0,
                "dtype": dtype,
                "input_norm": "none",
            },
            "loss": {"contrastive_weight": 0.0, "ipa_weight": 0.0},
            "data": data or {},
            "train": {"steps": 4, "batch_size": ROWS} | train,
            "optim": {"learning_rate": 1e-2, "warmup": 0.0, "clip": 0.0},
        }
    )


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


def spoilt_split() -> ArraySplit:
    """Two batches of rows, one of which is finite and overflows in the model."""
    x = np.random.default_rng(1).normal(size=(2 * ROWS, SENSORS, TIME)).astype(np.float32)
    x[5] = HUGE
    labels = np.arange(2 * ROWS, dtype=np.int32) % 3
    return ArraySplit(
        path=Path("rows"),
        name="train",
        level=None,
        sensors=SENSORS,
        time_points=TIME,
        classes=("aa", "b", "d"),
        labels=labels,
        x=x,
    )


@pytest.mark.slow
def test_one_program_of_many_steps_skips_those_of_each_member_with_the_spoilt_row():
    """Two epochs in one dispatch, as accelerators run it: every member has the row once in each, at steps of its own.

    The wanted parameters are those of each member alone, which takes the other steps one by one.
    """
    config = tiny(data={"feed": "resident", "shares": 1}, members=2, steps_per_dispatch=4, seed=1)
    experiment, alone = experiment_of(config, spoilt_split()), make_training(tiny())
    feed, placement = experiment.feed(), experiment.placement
    *tables, first = feed.take(4)
    run = placement.compile_dispatch(experiment.train_step, feed.draw, steps=4, members=True)
    batches = [jax.device_get(feed.draw(*tables, first + step)) for step in range(4)]
    start = jax.device_get(experiment.fresh_state())
    after, metrics = jax.device_get(run(placement.replicate(start), *tables, first))
    spoilt = np.array([batch["x"].max((1, 2, 3)) > 1e30 for batch in batches])
    assert spoilt.sum(0).tolist() == after.skipped.tolist() == [2, 2] and (spoilt[:, 0] != spoilt[:, 1]).any()
    np.testing.assert_array_equal(np.isfinite(metrics["loss"] + metrics["grad_norm"]), ~spoilt)
    np.testing.assert_array_equal(metrics["skipped"], np.cumsum(spoilt, axis=0))
    for member in (0, 1):
        state = jax.tree.map(lambda leaf, member=member: leaf[member], start)
        for step in np.flatnonzero(~spoilt[:, member]):
            batch = {name: values[member] for name, values in batches[step].items() if name in ("x", "label", "valid")}
            state, _ = call(alone, dataclasses.replace(state, step=np.int32(step)), batch)
        for name, wanted in flatten({"params": state.params}).items():
            ours = flatten({"params": after.params})[name][member]
            if not name.endswith(".key.bias"):  # which softmax does not see: its gradient is rounding alone
                np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("feed", ["resident", pytest.param("regroup", marks=pytest.mark.long)])
def test_too_many_skipped_steps_of_members_and_dispatches_leave_the_first_parameters(feed, tmp_path, capsys):
    """A loss whose gradient overflows: all steps are skipped. Three are allowed, and two are in a dispatch,
    so the line of step 4 stops the run; dispatches that are under way then end before it is saved."""
    if feed == "resident":
        simulate_grouped(tmp_path / "data", levels=[5], groups=64, sensors=5, time_points=9, seed=1)
    else:
        assert run_command("simulate", tmp_path / "data", "--recordings", "--minutes", 1, "--sensors", 5) == 0
    keys = [
        *TINY_MODEL,
        "data.level=5",
        f"data.feed={feed}",
        "train.members=2",
        "train.steps_per_dispatch=2",
        "train.batch_size=16",
        "train.epochs=null",
        "train.steps=40",
        "train.log_every=2",
        "train.eval_every=40",
        "loss.ipa_weight=3e38",
        "optim.clip=0",
        "optim.warmup=0",
        "train.max_nonfinite_steps=3",
    ]
    words = train_arguments(tmp_path / "data", tmp_path / "run", *keys)
    fails_with(capsys, words, "step 4", "in 4 steps so far", "at most 3 such steps", "train.max_nonfinite_steps")
    folder = RunFolder(tmp_path / "run")
    config = folder.read_config()
    for number, member in enumerate(folder.members(config)):
        saved = newest_arrays(member.path)
        assert saved["skipped"] == saved["step"] >= 4 and saved["step"] % 2 == 0
        _, params, _ = build(config.model, member_config(config, number).train.seed)
        for name, array in flatten({"params": params}).items():
            np.testing.assert_array_equal(saved[name], array, err_msg=name)
        lines = [json.loads(line) for line in member.metrics.read_text().splitlines()]
        assert [line["skipped"] for line in lines] == list(range(2, saved["step"] + 1, 2))
