"""Parity with the original system: buckets, attention, Conformer, normalisation, classifier (golden numbers)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.golden import VARIANTS, golden_model
from torch_weights import ATTENTION as ATTENTION_AT
from torch_weights import LAYER, convert, flat, load, part

from demega_jax.config import LossConfig, ModelConfig
from demega_jax.losses.objective import objective
from demega_jax.model import cpu_layout
from demega_jax.model.attention import DisentangledAttention
from demega_jax.model.conformer import ConformerLayer
from demega_jax.model.demega import DeMEGa, parameter_count
from demega_jax.model.positions import relative_buckets
from demega_jax.phonemes import PHONEMES
from demega_jax.signal.normalize import normalize, sorted_over_time

TOLERANCE = dict(rtol=2e-5, atol=2e-6)
SMALL = dict(width=16, heads=4, dropout=0.0)


@pytest.mark.parametrize("case", [(25, 32, 128), (125, 32, 128), (250, 32, 128), (250, 32, 256), (125, 16, 64)])
def test_buckets_are_exact(golden, case):
    time_points, buckets, distance = case
    ours = relative_buckets(time_points, buckets, distance)
    np.testing.assert_array_equal(ours, golden("buckets")[f"T{time_points}_b{buckets}_m{distance}"])


def test_without_buckets_a_bucket_is_the_distance(golden):
    np.testing.assert_array_equal(relative_buckets(125, 0, 128), golden("buckets")["T125_b-1_m-1"])


ATTENTION = {
    "c2p_p2c": {},
    "c2p_p2c_long": {},
    "c2p": dict(position_terms=("c2p",)),
    "p2c": dict(position_terms=("p2c",)),
    "shared_key": dict(share_key=True),
    "no_buckets": dict(num_buckets=0, max_distance=24),
}


@pytest.mark.parametrize("case", ATTENTION)
def test_attention(golden, case):
    numbers = part(golden("attention"), f"{case}/")
    attention = DisentangledAttention(ModelConfig(**SMALL, **ATTENTION[case]), rng=np.random.default_rng(0))
    load(attention, part(numbers, "w/"), at=ATTENTION_AT)
    np.testing.assert_allclose(attention.probabilities(jnp.asarray(numbers["x"])), numbers["probs"], **TOLERANCE)
    np.testing.assert_allclose(attention(jnp.asarray(numbers["x"])), numbers["y"], **TOLERANCE)


@pytest.mark.parametrize("case", ATTENTION)
def test_attention_as_accelerators_compute_it(golden, case, monkeypatch):
    monkeypatch.setattr(cpu_layout, "on_cpu_or_not", lambda on_cpu, elsewhere, *arguments: elsewhere(*arguments))
    numbers = part(golden("attention"), f"{case}/")
    attention = DisentangledAttention(ModelConfig(**SMALL, **ATTENTION[case]), rng=np.random.default_rng(0))
    load(attention, part(numbers, "w/"), at=ATTENTION_AT)
    np.testing.assert_allclose(attention(jnp.asarray(numbers["x"])), numbers["y"], **TOLERANCE)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_conformer_layer(golden, norm):
    numbers = part(golden("conformer"), f"{norm}/")
    layer = ConformerLayer(ModelConfig(**SMALL, norm=norm), rng=np.random.default_rng(0))
    load(layer, part(numbers, "w/"), at=LAYER)
    np.testing.assert_allclose(layer(jnp.asarray(numbers["x"])), numbers["y"], **TOLERANCE)


@pytest.mark.parametrize("time_points", [25, 124, 125])
@pytest.mark.slow
def test_median_iqr(golden, time_points):
    numbers = golden("normalize")
    ours = normalize(jnp.asarray(numbers[f"x{time_points}"]), "median_iqr")
    np.testing.assert_allclose(ours, numbers[f"y{time_points}"], **TOLERANCE)


@pytest.mark.parametrize("time_points", [1, 2, 3, 7, 64, 65, 125, 250])
def test_sorting_network(time_points):
    x = np.random.default_rng(0).normal(size=(2, 3, time_points)).astype(np.float32)
    x[0, 0] = np.round(x[0, 0])  # ties
    x[1, 2] *= 1e30
    ours = jax.jit(sorted_over_time)(x)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(ours), 0, -1), np.sort(x, axis=-1))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.slow
def test_classifier_outputs_and_losses(golden, variant):
    numbers = golden("classifier_tiny")
    model = golden_model(numbers, variant)
    outputs = model(jnp.asarray(numbers["x"]))
    for name in ("logits", "projection", "ipa_logits"):
        np.testing.assert_allclose(getattr(outputs, name), numbers[f"{variant}/{name}"], **TOLERANCE, err_msg=name)
    label = jnp.asarray(numbers["labels"])
    losses = objective(
        outputs, label, jnp.ones(len(label), bool), LossConfig(), table=model.feature_table[...], weights=None
    )
    for ours, theirs in {
        "loss": "total_loss",
        "class_loss": "cls_loss",
        "contrastive_loss": "contrastive_loss",
        "ipa_loss": "ipa_loss",
    }.items():
        np.testing.assert_allclose(getattr(losses, ours), numbers[f"{variant}/{theirs}"], **TOLERANCE, err_msg=ours)


def test_features_and_embeddings(golden):
    numbers = golden("classifier_tiny")
    outputs = golden_model(numbers, "pre")(jnp.asarray(numbers["x"]))
    np.testing.assert_allclose(outputs.features, numbers["pre/features"], **TOLERANCE)
    np.testing.assert_allclose(outputs.embedding, numbers["pre/embeddings"], **TOLERANCE)


@pytest.mark.slow
def test_gradients(golden):
    numbers = golden("classifier_tiny")
    model = golden_model(numbers, "pre")
    label = jnp.asarray(numbers["labels"])
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        merged = nnx.merge(graphdef, params, rest)
        table = merged.feature_table[...]
        outputs = merged(jnp.asarray(numbers["x"]))
        return objective(outputs, label, jnp.ones(len(label), bool), LossConfig(), table=table, weights=None).loss

    ours = flat(nnx.to_pure_dict(jax.grad(loss)(params)))
    theirs = convert(part(numbers, "pre/grad/"), ours)
    for path, gradient in theirs.items():
        # Gradients of a sum over the batch and time: rounding is relative to the largest entry of the array.
        np.testing.assert_allclose(
            ours[path], gradient, rtol=2e-5, atol=2e-6 + 2e-6 * np.abs(gradient).max(), err_msg=path
        )


def test_full_size_parameter_count():
    config = ModelConfig(sensors=306, time_points=125, classes=PHONEMES)
    model = DeMEGa(config, rngs=nnx.Rngs(0))
    assert parameter_count(nnx.state(model, nnx.Param)) == 5_226_101
