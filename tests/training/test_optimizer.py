"""AdamW, groups and schedules against arithmetic by hand."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.errors import refused

from demega_jax.config import Config
from demega_jax.training.optimizer import (
    ParameterGroups,
    assign_groups,
    learning_rate_schedule,
    make_optimizer,
    run_length,
    swa_start_step,
    unit_schedule,
)

GROUPS = {"body": ("encoder",), "heads": ("classifier", "projection")}


def configured(**optim) -> Config:
    """Defaults with `optim` changed; keys of `train` are prefixed train_."""
    train = {key.removeprefix("train_"): optim.pop(key) for key in list(optim) if key.startswith("train_")}
    return Config.model_validate({"optim": optim, "train": train})


def parameters(seed: int) -> dict:
    """A tree like a model's: two of the body, one frozen among them, two of the heads."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "encoder": {"stem": {"kernel": draw(3, 2)}, "final_norm": {"scale": draw(4)}},
        "classifier": {"kernel": draw(2, 2), "bias": draw(2)},
    }


def adamw_by_hand(params, gradients, rates, *, decay, clip):
    """Loshchilov & Hutter (2019), algorithm 2, in float64: dicts of arrays, one rate a step and array."""
    params = {name: value.astype(np.float64) for name, value in params.items()}
    mean = dict.fromkeys(params, 0.0)
    square = dict.fromkeys(params, 0.0)
    for step, gradient in enumerate(gradients, 1):
        norm = math.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradient.values()))
        for name, value in params.items():
            g = gradient[name].astype(np.float64) * min(1.0, clip / norm)
            mean[name] = 0.9 * mean[name] + 0.1 * g
            square[name] = 0.999 * square[name] + 0.001 * g**2
            direction = mean[name] / (1 - 0.9**step) / (np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8)
            params[name] = value - rates[step - 1][name] * (direction + decay * value)
    return params


def flat(tree: dict) -> dict[str, np.ndarray]:
    return {
        "stem": np.asarray(tree["encoder"]["stem"]["kernel"]),
        "kernel": np.asarray(tree["classifier"]["kernel"]),
        "bias": np.asarray(tree["classifier"]["bias"]),
    }


@pytest.mark.parametrize("clip", [0.5, 100.0])
def test_two_steps_by_hand(clip):
    """Decay, the heads' multiplier, clip and schedule; the frozen array is untouched and not in the clip's norm."""
    config = configured(
        learning_rate=0.01,
        head_lr_multiplier=3.0,
        weight_decay=0.2,
        clip=clip,
        warmup=0.2,
        frozen=["final_norm"],
        train_steps=10,
    )
    params, gradients = parameters(0), [parameters(1), parameters(2)]
    for gradient in gradients:
        gradient["encoder"]["final_norm"]["scale"] *= 1e6
    groups = ParameterGroups.of(config, params)
    tx = make_optimizer(config, learning_rate_schedule(config, 5, 10), groups)
    ours, state = params, tx.init(groups.vector(params))
    for gradient in gradients:
        vector = groups.vector(ours)
        updates, state = tx.update(groups.vector(gradient), state, vector)
        ours = groups.replace(ours, optax.apply_updates(vector, updates))
    body = [0.005, 0.01]  # two steps of warm-up
    rates = [{"stem": rate, "kernel": 3 * rate, "bias": 3 * rate} for rate in body]
    theirs = adamw_by_hand(flat(params), [flat(g) for g in gradients], rates, decay=0.2, clip=clip)
    for name, value in flat(ours).items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)
    before = params["encoder"]["final_norm"]["scale"]
    assert np.asarray(ours["encoder"]["final_norm"]["scale"]).tobytes() == before.tobytes()


def test_with_everything_frozen_nothing_is_trained():
    config, params = configured(frozen=["encoder", "classifier"]), parameters(0)
    groups = ParameterGroups.of(config, params)
    tx = make_optimizer(config, learning_rate_schedule(config, 5, 10), groups)
    vector = groups.vector(params)
    updates, _ = tx.update(groups.vector(parameters(1)), tx.init(vector), vector)
    assert vector.shape == updates.shape == (0,)
    ours = groups.replace(params, optax.apply_updates(vector, updates))
    np.testing.assert_array_equal(ours["classifier"]["kernel"], params["classifier"]["kernel"])


def test_without_clip_the_gradient_passes():
    """Adam forgets the scale of one gradient: only its first moment tells whether there was a clip."""
    config, params, gradient = configured(clip=0.0), parameters(0), parameters(1)
    groups = ParameterGroups.of(config, params)
    tx = make_optimizer(config, learning_rate_schedule(config, 5, 10), groups)
    vector = 1e3 * groups.vector(gradient)
    _, state = tx.update(vector, tx.init(vector), groups.vector(params))
    np.testing.assert_allclose(optax.tree.get(state, "mu"), 0.1 * vector, rtol=1e-6)


def test_groups_of_leaves():
    labels = assign_groups(parameters(0), GROUPS, ["encoder.final_norm"])
    assert labels == {
        "encoder": {"stem": {"kernel": "body"}, "final_norm": {"scale": "frozen"}},
        "classifier": {"kernel": "heads", "bias": "heads"},
    }


def test_a_prefix_ends_at_a_dot():
    labels = assign_groups({"encoder": {"layers": [0.0] * 12}}, GROUPS, ["encoder.layers.1"])
    assert [number for number, name in enumerate(labels["encoder"]["layers"]) if name == "frozen"] == [1]


@pytest.mark.parametrize(
    ("params", "groups", "frozen", "facts"),
    [
        ({"extra": {"w": 0.0}}, GROUPS, (), ["extra.w"]),
        ({"encoder": {"w": 0.0}}, GROUPS | {"late": ("encoder.w",)}, (), ["encoder.w", "body", "late"]),
        ({"encoder": {"w": 0.0}}, GROUPS, ("final_nrom",), ["optim.frozen", "final_nrom"]),
    ],
)
def test_wrong_groups_are_refused(params, groups, frozen, facts):
    with refused(*facts):
        assign_groups(params, groups, frozen)


def test_vector_and_replace_are_inverse():
    params, other = parameters(0), parameters(1)
    groups = ParameterGroups.of(configured(frozen=["final_norm"]), params)
    vector, heads = groups.vector(params), params["classifier"]
    # The body comes first; a tree's leaves are in the order of its sorted keys.
    body = params["encoder"]["stem"]["kernel"].ravel()
    np.testing.assert_array_equal(vector, np.concatenate([body, heads["bias"], heads["kernel"].ravel()]))
    np.testing.assert_array_equal(groups.multipliers(3.0), [1] * 6 + [3] * 6)
    back = groups.replace(other, vector)
    np.testing.assert_array_equal(back["encoder"]["stem"]["kernel"], params["encoder"]["stem"]["kernel"])
    np.testing.assert_array_equal(back["classifier"]["kernel"], heads["kernel"])
    np.testing.assert_array_equal(back["classifier"]["bias"], heads["bias"])
    np.testing.assert_array_equal(back["encoder"]["final_norm"]["scale"], other["encoder"]["final_norm"]["scale"])


def curve(schedule, steps: int) -> np.ndarray:
    return np.array([float(schedule(jnp.asarray(step))) for step in range(steps)])


def by_hand(step: int, warm: int, length: int) -> float:
    return (step + 1) / warm if step < warm else (1 + math.cos(math.pi * (step - warm) / (length - warm))) / 2


@pytest.mark.parametrize(("warmup", "warm"), [(0.25, 5), (0.05, 1), (0.0, 0)])
def test_schedule_of_each_step(warmup, warm):
    shape = curve(unit_schedule(configured(warmup=warmup), 4, 20), 20)
    np.testing.assert_allclose(shape, [by_hand(step, warm, 20) for step in range(20)], atol=1e-6)
    assert (np.diff(shape[: max(warm, 1)]) > 0).all() and (np.diff(shape[warm:]) < 0).all()
    if warm == 5:  # the formula's own values, written out
        np.testing.assert_allclose(shape[[0, 4, 5, 19]], [0.2, 1.0, 1.0, 0.010926], atol=1e-6)


def test_schedule_of_each_epoch():
    config = configured(schedule="per_epoch", warmup=0.2, learning_rate=2.0)
    rates = curve(learning_rate_schedule(config, 3, 30), 30)
    assert (rates.reshape(10, 3) == rates[::3, None]).all()
    np.testing.assert_allclose(rates[::3], [2 * by_hand(epoch, 2, 10) for epoch in range(10)], atol=1e-6)


def test_schedule_longer_than_the_run():
    """As published: 5 warm-up epochs of 200."""
    config = configured(schedule="per_epoch", schedule_length=200, warmup=0.025)
    shape = curve(unit_schedule(config, 2, 12), 12)
    np.testing.assert_allclose(shape[::2], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0], rtol=1e-6)


def test_learning_rate_of_swa():
    plain = configured(learning_rate=0.5, train_averaging="swa", train_swa_start=0.75)
    late = configured(learning_rate=0.5, train_averaging="swa", train_swa_start=0.75, swa_learning_rate=0.125)
    assert swa_start_step(late, 4, 20) == 15
    before, after = (curve(learning_rate_schedule(config, 4, 20), 20) for config in (plain, late))
    np.testing.assert_array_equal(after[:15], before[:15])
    np.testing.assert_array_equal(after[15:], 0.125)


def test_length_of_the_run():
    assert run_length(configured(), 7) == 30 * 7
    assert run_length(configured(train_epochs=4), 7) == 28
    assert run_length(configured(train_steps=5), 7) == 5
