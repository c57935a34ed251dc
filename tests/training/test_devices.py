"""The number of devices and the way they share a step change nothing (design rule 2): dropout 0.5, all losses on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers.arrays import INERT
from helpers.errors import refused
from helpers.training import make_training, placement_of

from demega_jax.config import Config
from demega_jax.evaluation.step import EvaluationCounts
from demega_jax.training.parallel import AXIS, check_batch
from demega_jax.training.state import build

STEPS, ROWS = 4, 16
CASES = [("jit", 1), ("jit", 2), ("jit", 8), ("pmap", 1), ("pmap", 2), ("pmap", 8)]
MORE_CASES = [("jit", 2), ("pmap", 1), ("pmap", 8)]  # what is the same on 8 devices, and with pmap on 2, is so here
UNEVEN = [
    pytest.param("jit", 5, 1, marks=pytest.mark.long),
    pytest.param("pmap", 3, 1, marks=pytest.mark.long),
    ("jit", 3, 4),
]  # with microbatches


def tiny(**train) -> Config:
    return Config.model_validate(
        {
            "model": {
                "sensors": 5,
                "time_points": 9,
                "classes": ("aa", "ae", "b", "d", "zh"),
                "width": 8,
                "heads": 2,
                "layers": 1,
                "embedding_width": 8,
                "projection_width": 6,
                "ipa_width": 4,
                "dropout": 0.5,
            },
            "train": {"steps": STEPS, "batch_size": ROWS, "averaging": "ema"} | train,
            "loss": {"contrastive_weight": 0.5, "class_weights": "inverse_sqrt"},
            "optim": {"learning_rate": 1e-3, "warmup": 0.25},
        }
    )


def batches() -> list[dict[str, np.ndarray]]:
    """Random windows; few classes in a batch, one row of a class of its own, and padding at the end."""
    rng = np.random.default_rng(0)
    out = []
    for step in range(STEPS):
        label = rng.integers(0, 4, ROWS).astype(np.int32)
        label[3] = 4
        valid = np.arange(ROWS) < (ROWS if step else ROWS - 5)
        out.append({"x": rng.normal(size=(ROWS, 5, 9)).astype(np.float32), "label": label, "valid": valid})
    return out


@functools.cache
def built():
    return build(tiny().model, 0)


@functools.cache
def trained(mode: str, devices: int, accumulate: int = 1):
    """(losses, gradient norms, state) after a few steps, on the host."""
    config, weights = tiny(accumulate=accumulate), [1.0, 2.0, 0.5, 1.0, 0.5]
    training = make_training(config, mode=mode, devices=devices, weights=weights, parts=built())
    state, metrics = training.placed_state(), []
    for batch in batches():
        rows = training.placement.padded(ROWS)
        batch = {name: np.concatenate([a, np.zeros((rows - ROWS, *a.shape[1:]), a.dtype)]) for name, a in batch.items()}
        state, values = training.compiled(state, training.placement.put_batch(batch))
        metrics.append(jax.device_get(values))
    return metrics, jax.device_get(state)


def assert_same_run(got, want):
    for name in ("loss", "class_loss", "contrastive_loss", "ipa_loss", "grad_norm"):
        ours, theirs = ([float(m[name]) for m in run[0]] for run in (got, want))
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, err_msg=name)
    for field in ("params", "average"):
        theirs = dict(jax.tree_util.tree_leaves_with_path(getattr(want[1], field)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(got[1], field)):
            if not jax.tree_util.keystr(path, simple=True, separator=".").endswith(INERT):
                np.testing.assert_allclose(leaf, theirs[path], rtol=1e-4, atol=1e-5, err_msg=str(path))


@pytest.mark.parametrize(("mode", "devices", "accumulate"), UNEVEN)
@pytest.mark.slow
def test_a_batch_that_does_not_divide_gives_the_same_numbers(mode, devices, accumulate):
    """16 rows on 5 or 3 devices, with rows of padding after them."""
    assert_same_run(trained(mode, devices, accumulate), trained("jit", 1, accumulate))


@pytest.mark.parametrize(
    ("mode", "devices"),
    [("jit", 8), ("pmap", 2), *(pytest.param(*case, marks=pytest.mark.long) for case in MORE_CASES)],
)
@pytest.mark.slow
def test_training_is_the_same(mode, devices):
    assert_same_run(trained(mode, devices), trained("jit", 1))


@pytest.mark.parametrize(("mode", "devices"), [("jit", 8), ("pmap", 2)])
@pytest.mark.long
def test_accumulation_is_the_same(mode, devices):
    """Rows of a microbatch do not depend on the devices either. Mode jit has microbatches on 3 devices, above."""
    assert_same_run(trained(mode, devices, 2), trained("jit", 1, 2))


@pytest.mark.slow
def test_contrastive_and_class_losses_act():
    """The comparison above would mean little if a loss were 0."""
    for values in trained("jit", 1)[0]:
        assert all(values[name] > 0.01 for name in ("class_loss", "contrastive_loss", "ipa_loss", "grad_norm"))


def gradients(mode: str, devices: int):
    """Gradients of the first batch."""
    training = make_training(tiny(), mode=mode, devices=devices, parts=built(), tx=optax.identity())
    step, placement, state = training.step, training.placement, training.placed_state()
    batch = placement.put_batch(batches()[0])
    if mode == "jit":
        return jax.device_get(jax.jit(step.gradients, static_argnums=2)(state, batch, None)[0])
    per_device = functools.partial(step.gradients, axis_name=AXIS)
    used = list(placement.mesh.devices.flat)
    return jax.device_get(jax.pmap(per_device, AXIS, in_axes=(None, 0), out_axes=None, devices=used)(state, batch)[0])


@pytest.mark.parametrize(
    ("mode", "devices"), [("pmap", 2), *(pytest.param(mode, 8, marks=pytest.mark.long) for mode in ("jit", "pmap"))]
)
@pytest.mark.slow
def test_gradients_are_the_same(mode, devices):
    want = dict(jax.tree_util.tree_leaves_with_path(reference_gradients()))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients(mode, devices)):
        largest = np.abs(want[path]).max()
        np.testing.assert_allclose(leaf, want[path], rtol=2e-5, atol=2e-6 * max(largest, 0.1), err_msg=str(path))


@functools.cache
def reference_gradients():
    return gradients("jit", 1)


@pytest.mark.parametrize(("mode", "devices"), CASES)
@pytest.mark.slow
def test_evaluation_is_the_same(mode, devices):
    graphdef, params, buffers = built()
    training = make_training(tiny(), mode=mode, devices=devices, parts=built())
    placement, evaluate = training.placement, training.evaluate_step()
    params, buffers = placement.replicate((params, buffers))
    counts = placement.replicate(EvaluationCounts.zero(5, 14))
    for batch in batches():
        counts = evaluate(params, buffers, counts, placement.put_batch(batch))
    rows = sum(int(b["valid"].sum()) for b in batches())
    support = np.bincount(np.concatenate([b["label"][b["valid"]] for b in batches()]), minlength=5)
    np.testing.assert_array_equal(np.asarray(counts.confusion).sum(1), support)
    assert np.asarray(counts.confusion).sum() == rows
    if (mode, devices) != ("jit", 1):
        return
    np.testing.assert_array_equal(counts.right_at_10, support)  # of five classes all are among the 10 largest
    # One device against the model called row by row.
    model = nnx.merge(graphdef, *map(jax.device_get, (params, buffers)))
    x = np.concatenate([b["x"][b["valid"]] for b in batches()])
    label = np.concatenate([b["label"][b["valid"]] for b in batches()])
    outputs = model(jnp.asarray(x))
    want = np.zeros((5, 5), int)
    np.add.at(want, (label, np.asarray(outputs.logits).argmax(1)), 1)
    np.testing.assert_array_equal(counts.confusion, want)
    right = (np.asarray(outputs.ipa_logits) > 0) == (np.asarray(model.feature_table[...])[label] > 0.5)
    np.testing.assert_array_equal(counts.ipa_correct, right.sum(0))


def test_what_cannot_be_divided_is_refused():
    """By benchmarks, which would time the padding, and by targets."""
    with refused("12 rows", "8 devices", "multiple of 8", "train.batch_size=8"):
        check_batch(12, 8)
    with refused("2 devices", "3 microbatches", "multiple of 6"):
        check_batch(16, 2, 3)
    with refused("4 rows", "8 devices", "train.batch_size=8"):  # also to train: four of them would have nothing to do
        placement_of("jit", 8, 4)
    with refused("9", "8", where="--devices"):
        placement_of("jit", 9, 18)


@pytest.mark.parametrize(
    ("devices", "accumulate", "parts", "rows", "placed"),
    [(5, 1, 16, 1, 20), (3, 1, 16, 1, 18), (8, 1, 16, 1, 16), (5, 1, 8, 2, 10), (3, 4, 16, 1, 24), (3, 4, 8, 2, 12)],
)
def test_padding_fills_the_devices(devices, accumulate, parts, rows, placed):
    """Equally many parts on each device, whose rows are a multiple of the microbatches."""
    assert placement_of("jit", devices, parts * rows, accumulate).padded(parts, rows) == placed
