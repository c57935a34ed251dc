"""Properties that hold for all input: of buckets, attention, losses, normalisation and scores."""

import functools
import warnings as python_warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from demega_jax.config import Config, ModelConfig
from demega_jax.losses.contrastive import supervised_nt_xent
from demega_jax.losses.focal import class_loss
from demega_jax.losses.reduce import Rows
from demega_jax.metrics import confusion_matrix, scores
from demega_jax.model.attention import DisentangledAttention, masked_softmax
from demega_jax.model.positions import log_bucket, table_rows
from demega_jax.signal.normalize import normalize

compiled_normalize = jax.jit(normalize, static_argnums=1)
seeds = st.integers(0, 2**32 - 1)
B, V = 12, 5


@given(half=st.integers(2, 40), beyond=st.integers(2, 500))
def test_buckets_are_odd_exact_near_by_and_never_go_back(half, beyond):
    num, most = 2 * half, half + beyond
    distance = np.arange(-2 * most, 2 * most + 1)
    bucket = log_bucket(distance, num, most)
    np.testing.assert_array_equal(bucket, -bucket[::-1])
    near = np.abs(distance) <= half
    np.testing.assert_array_equal(bucket[near], distance[near])
    assert (np.diff(bucket) >= 0).all()
    assert (np.abs(bucket[np.abs(distance) < most]) < num).all()
    rows = table_rows(20, num, most)
    assert rows.min() >= 0 and rows.max() <= 2 * num - 1
    np.testing.assert_array_equal(np.diag(rows, 3), np.full(17, rows[0, 3]))  # of the distance alone


@settings(max_examples=25)
@given(seed=seeds, shift=st.floats(-50, 50))
def test_attention_does_not_see_a_shift_of_all_scores_of_a_query(seed, shift):
    s = np.random.default_rng(seed).normal(0, 3, (2, 2, 4, 6)).astype(np.float32)
    p = masked_softmax(jnp.asarray(s), None)
    np.testing.assert_allclose(p, masked_softmax(jnp.asarray(s + np.float32(shift)), None), rtol=0, atol=2e-5)
    wanted = np.exp(s.astype(np.float64))
    np.testing.assert_allclose(p, wanted / wanted.sum(-1, keepdims=True), rtol=0, atol=2e-6)


@settings(max_examples=25)
@given(seed=seeds, kept=st.integers(1, 6))
def test_masked_keys_are_as_if_they_were_not_there(seed, kept):
    s = np.random.default_rng(seed).normal(0, 3, (2, 2, 6, 6)).astype(np.float32)
    keep = jnp.asarray(np.arange(6)[None] < np.array([[kept], [6]]))
    p = np.asarray(masked_softmax(jnp.asarray(s), keep))
    shorter = np.exp(s[0, ..., :kept].astype(np.float64))
    wanted = np.zeros((2, 6, 6))  # nor do positions attend that are not kept
    wanted[:, :kept, :kept] = (shorter / shorter.sum(-1, keepdims=True))[:, :kept]
    np.testing.assert_allclose(p[0], wanted, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(p[1], masked_softmax(jnp.asarray(s[1:]), None)[0])


TIME, WIDTH = 8, 8


@functools.cache
def attention_layer():
    """A layer with both position terms and buckets of several distances: of padded windows, and of whole ones."""
    size = {"width": WIDTH, "heads": 2, "num_buckets": 4, "max_distance": 6, "dropout": 0.0}
    layer = DisentangledAttention(ModelConfig.model_validate(size), rng=np.random.default_rng(0))
    layer.position_table[...] = layer.position_table[...] * 50  # so that positions decide as much as contents
    return jax.jit(lambda x, keep: layer(x, keep=keep)), jax.jit(layer)


@settings(max_examples=12)
@given(seed=seeds, length=st.sampled_from([1, 3, 5]), first=st.integers(0, 3), rubbish=st.sampled_from([-1e4, 0, 1e4]))
def test_an_attention_layer_sees_the_window_alone_wherever_it_lies(seed, length, first, rubbish):
    """A window between padding gives what it gives alone: the layer sees distances, not places, and no padding."""
    padded, whole = attention_layer()
    window = np.random.default_rng(seed).normal(size=(1, length, WIDTH)).astype(np.float32)
    x, keep = np.full((1, TIME, WIDTH), rubbish, np.float32), np.zeros((1, TIME), bool)
    x[:, first : first + length], keep[:, first : first + length] = window, True
    y = np.asarray(padded(x, keep))
    np.testing.assert_allclose(y[:, first : first + length], whole(window), rtol=0, atol=2e-5)
    assert (y[~keep] == 0).all()


@settings(max_examples=12)
@given(seed=seeds, distance=st.integers(1, TIME - 1))
def test_an_attention_layer_sees_the_order_of_a_window(seed, distance):
    """Without positions a permutation of the window would permute the result; here it does not, unless it is none."""
    _, whole = attention_layer()
    x = np.random.default_rng(seed).normal(size=(1, TIME, WIDTH)).astype(np.float32)
    turned = whole(np.roll(x, distance, axis=1))
    assert np.abs(np.roll(whole(x), distance, axis=1) - turned).max() > 1e-3


def a_batch(seed: int):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(B, 4)).astype(np.float32)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    return (
        rng.normal(0, 2, (B, V)).astype(np.float32),
        u,
        rng.integers(0, V, B),
        rng.random(B) < 0.8,
        rng.permutation(B),
    )


def of_batch(kind: str, logits, u, label, valid, axis_name=None):
    rows = Rows.of(label, valid, V, axis_name)
    if kind == "contrastive":
        return supervised_nt_xent(u, rows, temperature=0.3, axis_name=axis_name)
    config = Config.model_validate({"loss": {"class_loss": kind, "label_smoothing": 0.1}}).loss
    return class_loss(logits, rows, config)


@functools.cache
def compiled(kind: str):
    """The loss of a whole batch, and the shares in it of three devices over which it is divided."""
    of_part = functools.partial(of_batch, kind, axis_name="batch")
    return jax.jit(functools.partial(of_batch, kind)), jax.jit(jax.vmap(of_part, axis_name="batch"))


@pytest.mark.parametrize("kind", ["balanced_focal", "focal", "cross_entropy", "contrastive"])
@settings(max_examples=12)
@given(seed=seeds)
def test_a_loss_does_not_depend_on_the_order_of_rows_nor_on_the_devices(kind, seed):
    logits, u, label, valid, order = a_batch(seed)
    of_whole, of_parts = compiled(kind)
    whole = float(of_whole(logits, u, label, valid))
    mixed = float(of_whole(*(a[order] for a in (logits, u, label, valid))))
    parts = [jnp.asarray(a.reshape(3, B // 3, *a.shape[1:])) for a in (logits, u, label, valid)]
    split = of_parts(*parts)
    np.testing.assert_allclose([mixed, np.asarray(split).sum()], whole, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["median_iqr", "instance", "zscore"])
@settings(max_examples=20)
@given(seed=seeds, power=st.integers(8, 14), shift=st.integers(-8, 8))
def test_a_normalised_window_has_no_scale_and_no_offset(how, seed, power, shift):
    # The epsilons of the variance and of the range are nothing beside values of this size, and whole numbers below
    # 2**24 leave no rounding of the offset.
    x = np.random.default_rng(seed).integers(-255, 256, (2, 3, 16)).astype(np.float32)
    ours = compiled_normalize(x * np.float32(2.0**power) + np.float32(shift * 2.0**power), how)
    np.testing.assert_allclose(ours, compiled_normalize(x * np.float32(2.0**8), how), rtol=0, atol=2e-5)


@settings(max_examples=50)
@given(pairs=st.lists(st.tuples(st.integers(0, V - 1), st.integers(0, V - 1)), min_size=1, max_size=40))
def test_scores_are_those_of_scikit_learn(pairs):
    label, predicted = np.array(pairs).T
    found = scores(confusion_matrix(label, predicted, V), [str(n) for n in range(V)])
    present = np.unique(label)
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # scikit-learn warns of classes that are only predicted
        wanted = f1_score(label, predicted, labels=present, average="macro", zero_division=0)
        balanced = balanced_accuracy_score(label, predicted)
    np.testing.assert_allclose([found.macro_f1, found.balanced_accuracy], [wanted, balanced], rtol=1e-12)
    assert found.chance == 1 / len(present)
