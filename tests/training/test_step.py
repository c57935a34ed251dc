"""The train step: what a batch that is not finite changes, averages, microbatches and dropout."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from helpers.arrays import bits
from helpers.training import make_training

from demega_jax.config import Config
from demega_jax.training.state import build, evaluation_params

STEPS, ROWS, SENSORS, TIME = 4, 8, 3, 6
SWA_START = 2
LOSSES = ("loss", "class_loss", "contrastive_loss", "ipa_loss")


def tiny(dropout: float = 0.5, **train) -> Config:
    return Config.model_validate(
        {
            "model": {
                "sensors": SENSORS,
                "time_points": TIME,
                "classes": ("aa", "b", "d"),
                "width": 4,
                "heads": 2,
                "layers": 1,
                "embedding_width": 4,
                "projection_width": 3,
                "ipa_width": 3,
                "pool": "mean",
                "position_terms": [],
                "dropout": dropout,
            },
            "train": {"steps": STEPS, "batch_size": ROWS} | train,
            "optim": {"learning_rate": 1e-2, "warmup": 0.0, "frozen": ["final_norm"]},
        }
    )


def batch(seed: int, rows: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(rows, SENSORS, TIME)).astype(np.float32),
        "label": rng.integers(0, 3, rows).astype(np.int32),
        "valid": np.ones(rows, bool),
    }


@functools.cache
def built():
    return build(tiny().model, 0)


@functools.cache
def compiled(averaging: str):
    """(initial state on the host, step that takes and gives states on the host); compiled once for all tests."""
    training = make_training(tiny(averaging=averaging), swa_start=SWA_START, parts=built())
    placement = training.placement

    def call(state, values):
        return jax.device_get(training.compiled(placement.replicate(state), placement.put_batch(values)))

    return jax.device_get(training.fresh_state()), call


def trained(averaging: str):
    """The states before and after each of a few steps."""
    state, step = compiled(averaging)
    states = [state]
    for seed in range(STEPS):
        states.append(step(states[-1], batch(seed))[0])
    return states


# --- batches that are not finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.slow
def test_a_batch_that_is_not_finite_changes_nothing(bad):
    state, step = compiled("ema")
    state, _ = step(state, batch(0))
    spoilt = batch(1)
    spoilt["x"][3, 1, 2] = bad
    after, metrics = step(state, spoilt)
    for field in ("params", "opt_state", "average", "averaged", "key", "buffers"):
        assert bits(getattr(after, field)) == bits(getattr(state, field)), field
    assert (after.step, after.skipped, after.last_skipped) == (2, 1, 2)
    assert not np.isfinite(metrics["loss"] + metrics["grad_norm"])
    assert (metrics["skipped"], metrics["last_skipped"]) == (1, 2)
    # The next one trains, as if the bad one had not been there but for its number.
    later, metrics = step(after, batch(2))
    assert (later.step, later.skipped, later.last_skipped, later.averaged) == (3, 1, 2, 2)
    assert np.isfinite([metrics[name] for name in (*LOSSES, "grad_norm")]).all()
    assert bits(later.params) != bits(after.params) and bits(later.average) != bits(after.average)
    without, _ = step(dataclasses.replace(state, step=np.int32(2)), batch(2))
    assert bits(later.params) == bits(without.params)


@pytest.mark.slow
def test_frozen_parameters_stay_while_others_move():
    first, last = trained("ema")[0], trained("ema")[-1]
    assert bits(last.params["encoder"]["final_norm"]) == bits(first.params["encoder"]["final_norm"])
    moved = [a != b for a, b in zip(bits(first.params), bits(last.params), strict=True)]
    inert = 1  # the bias of a layer's keys: the softmax does not see it
    assert sum(moved) >= len(moved) - 2 - inert


# --- averages --------------------------------------------------------------------------------------------------------


def assert_average(state, want):
    for ours, theirs in zip(jax.tree.leaves(state.average), want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert bits(evaluation_params(state)) == bits(state.average)


def leaves64(params) -> list[np.ndarray]:
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)]


@pytest.mark.slow
def test_exponential_average():
    """a += (1 - d) (p - a) with d = min(0.999, (1 + n) / (10 + n)), n parameters before these."""
    states = trained("ema")
    want = leaves64(states[0].params)
    for n, state in enumerate(states[1:]):
        decay = min(0.999, (1 + n) / (10 + n))
        want = [decay * a + (1 - decay) * p for a, p in zip(want, leaves64(state.params), strict=True)]
        assert_average(state, want)
        assert state.averaged == n + 1


@pytest.mark.slow
def test_average_of_the_last_part():
    """Before swa_start updates the average is the parameters themselves, afterwards their plain mean from there on."""
    states = trained("swa")
    for done, state in enumerate(states[1:], 1):
        part = states[SWA_START + 1 : done + 1] or [state]
        mean = [np.mean(leaves, axis=0) for leaves in zip(*(leaves64(s.params) for s in part), strict=True)]
        assert_average(state, mean)
        assert state.averaged == max(0, done - SWA_START)
    assert bits(states[1].average) == bits(states[1].params)


# --- microbatches ----------------------------------------------------------------------------------------------------


@functools.cache
def gradient_of(accumulate: int):
    """Compiled gradients without dropout: a microbatch has rows of other numbers when it comes alone."""
    training = make_training(tiny(0.0, accumulate=accumulate), weights=[1.0, 2.0, 0.5], tx=optax.identity())
    state = training.fresh_state()
    call = jax.jit(lambda values: training.step.gradients(state, values, None))
    return lambda values: jax.device_get(call(values))


def part_of(values: dict, number: int) -> dict:
    return {name: array[number::2] for name, array in values.items()}


def assert_same(got, want):
    for (path, ours), theirs in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6, err_msg=str(path))


@pytest.mark.slow
def test_accumulation_is_the_mean_of_strided_microbatches():
    values = batch(0)
    values["valid"][5:] = False
    one, other = (gradient_of(1)(part_of(values, number)) for number in (0, 1))
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), one[0], other[0])
    assert max(jax.tree.leaves(apart)) > 0.01, "the comparison would mean little"
    assert_same(gradient_of(2)(values), jax.tree.map(lambda a, b: (a + b) / 2, one, other))


@pytest.mark.slow
def test_a_microbatch_of_padding_is_not_counted():
    values = batch(1)
    values["valid"][1::2] = False
    assert_same(gradient_of(2)(values), gradient_of(1)(part_of(values, 0)))


# --- dropout ---------------------------------------------------------------------------------------------------------


def test_dropout_belongs_to_seed_and_step():
    state, step = compiled("ema")
    other_step = dataclasses.replace(state, step=np.int32(1))
    other_seed = dataclasses.replace(state, key=np.asarray([0, 778], np.uint32))
    runs = [step(each, batch(0)) for each in (state, state, other_step, other_seed)]
    assert bits(runs[0]) == bits(runs[1])
    losses = [float(metrics["class_loss"]) for _, metrics in runs]
    assert len(set(losses)) == 3


def test_the_run_has_the_key_of_its_seed():
    """threefry keys of jax are the seed's high and low words."""
    np.testing.assert_array_equal(compiled("ema")[0].key, [0, 777])
