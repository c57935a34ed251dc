"""The network against plain numpy: padding, attention scores, pools, convolutions, normalisation, compute types."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import ROOT

from demega_jax.config import ModelConfig
from demega_jax.config.load import load_config
from demega_jax.model.attention import DisentangledAttention, disentangled_scores, expanded
from demega_jax.model.conformer import ConformerEncoder
from demega_jax.model.demega import DeMEGa
from demega_jax.model.heads import Aggregator, feature_similarity
from demega_jax.model.layers import DepthwiseConv, conv
from demega_jax.model.layers import linear as linear_layer
from demega_jax.model.lstm import LSTM, BidirectionalLSTM
from demega_jax.signal.normalize import normalize

TOLERANCE = dict(rtol=2e-5, atol=2e-6)
SENSORS, TIME, WIDTH = 3, 9, 8
LENGTHS = (9, 5, 1, 0)  # of the samples of a padded batch: whole, part, one position, nothing
KEEP = np.arange(TIME) < np.array(LENGTHS)[:, None]


def tiny(**changes) -> ModelConfig:
    base = dict(
        sensors=SENSORS,
        time_points=TIME,
        classes=("aa", "b", "d"),
        width=WIDTH,
        heads=2,
        layers=2,
        embedding_width=6,
        projection_width=4,
        ipa_width=4,
        dropout=0.0,
        num_buckets=4,
        max_distance=6,
    )
    return ModelConfig.model_validate(base | changes)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def draw(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def weights(module: nnx.Module) -> np.ndarray:
    return np.asarray(module[...], np.float64)


def linear(module: nnx.Linear, x: np.ndarray) -> np.ndarray:
    return x @ weights(module.kernel) + weights(module.bias)


# --- padding ---------------------------------------------------------------------------------------------------------

ENCODERS = {
    "pre": (ConformerEncoder, tiny()),
    "post": (ConformerEncoder, tiny(norm="post", position_terms=[])),
    "lstm": (BidirectionalLSTM, tiny(encoder="lstm")),
}


@pytest.mark.parametrize("case", ENCODERS)
@pytest.mark.slow
def test_encoders_do_not_see_padding(case):
    kind, config = ENCODERS[case]
    encoder = kind(config, SENSORS, rng=generator())
    call = jax.jit(lambda x, keep: encoder(x, keep=keep))
    x = draw(len(LENGTHS), SENSORS, TIME)
    at_bct = np.broadcast_to(KEEP[:, None, :], x.shape)
    clean = np.asarray(call(np.where(at_bct, x, 0), KEEP))
    for rubbish in (1e4 * draw(*x.shape, seed=2), np.full_like(x, np.nan)):
        other = np.asarray(call(np.where(at_bct, x, rubbish), KEEP))
        np.testing.assert_array_equal(other[KEEP], clean[KEEP])
    # What was kept is what the shorter window gives alone, and a whole sample what it gives without a mask.
    length = LENGTHS[1]
    alone = np.asarray(call(x[1:2, :, :length], np.ones((1, length), bool)))
    np.testing.assert_allclose(clean[1, :length], alone[0], **TOLERANCE)
    np.testing.assert_allclose(clean[:1], jax.jit(lambda x: encoder(x))(x[:1]), **TOLERANCE)
    assert np.isfinite(clean).all()


def test_lstm_is_0_and_holds_its_state_at_padding():
    """Gates written out in numpy, over the kept positions alone; a hole in the middle is stepped over."""
    lstm = LSTM(SENSORS, 4, dtype=jnp.float32, rng=generator())
    x, keep = draw(1, 6, SENSORS), np.array([[True, True, False, True, False, True]])
    w, u, b = (weights(p) for p in (lstm.input_kernel, lstm.hidden_kernel, lstm.bias))

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    for reverse in (False, True):
        hidden = cell = np.zeros(4)
        want = np.zeros((6, 4))
        for t in range(6)[:: -1 if reverse else 1]:
            if keep[0, t]:
                i, f, g, o = np.split(x[0, t] @ w + hidden @ u + b, 4)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                hidden = want[t] = sigmoid(o) * np.tanh(cell)
        ours = lstm(jnp.asarray(x), keep=jnp.asarray(keep), reverse=reverse)
        np.testing.assert_allclose(ours[0], want, **TOLERANCE)


def test_attention_is_0_at_padding():
    attention = DisentangledAttention(tiny(), rng=generator())
    x = draw(len(LENGTHS), TIME, WIDTH)
    whole = jax.jit(lambda x: (attention(x, keep=KEEP), attention.probabilities(x, keep=KEEP)))
    y, probabilities = map(np.asarray, whole(jnp.asarray(x)))
    assert (y[~KEEP] == 0).all() and np.isfinite(y).all() and (y[KEEP] != 0).any()
    pairs = KEEP[:, None, :, None] & KEEP[:, None, None, :]
    assert (probabilities[np.broadcast_to(~pairs, probabilities.shape)] == 0).all()
    np.testing.assert_allclose(
        probabilities.sum(-1), np.broadcast_to(KEEP[:, None], probabilities.shape[:3]), rtol=1e-6
    )
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(attention(x, keep=KEEP) ** 2)))(jnp.asarray(x))
    assert np.isfinite(gradient).all() and (np.asarray(gradient)[~KEEP] == 0).all()


@pytest.mark.parametrize("pool", ["flatten", "mean", "attention"])
def test_pools_do_not_see_padding(pool):
    aggregator = Aggregator(tiny(pool=pool), WIDTH, TIME, rng=generator())
    x = draw(len(LENGTHS), TIME, WIDTH)
    got = np.asarray(aggregator.pooled(jnp.asarray(x), KEEP))
    for rubbish in (np.float32(1e4), np.float32(np.nan)):
        other = aggregator.pooled(jnp.asarray(np.where(KEEP[..., None], x, rubbish)), KEEP)
        np.testing.assert_array_equal(other, got)
    for row, length in enumerate(LENGTHS):
        kept = x[row, :length].astype(np.float64)
        if pool == "flatten":
            want = np.concatenate([kept, np.zeros((TIME - length, WIDTH))]).ravel()
        elif pool == "mean":
            want = kept.sum(0) / max(length, 1)
        else:
            share = np.exp(kept @ weights(aggregator.score))
            want = (share / max(share.sum(), 1e-30)) @ kept
        np.testing.assert_allclose(got[row], want, **TOLERANCE)


# --- attention -------------------------------------------------------------------------------------------------------


def bucket(distance: int, buckets: int, furthest: int) -> int:
    """b(d) of model.md section 4, in words of its own."""
    middle, size = buckets // 2, abs(distance)
    if not buckets or size <= middle:
        return distance
    log = math.ceil(math.log(size / middle) / math.log((furthest - 1) / middle) * (middle - 1)) + middle
    return int(math.copysign(log, distance))


@pytest.mark.parametrize("terms", [["c2p", "p2c"], ["c2p"], ["p2c"], []])
@pytest.mark.parametrize(("share_key", "buckets"), [(False, 4), (True, 0)])
def test_scores_pair_by_pair(terms, share_key, buckets):
    """q_t . k_s / sqrt(D (1 + n)) + q_t . kr[c(t-s)] / sqrt(D n) + k_s . qr[c'(s-t)] / sqrt(D n)."""
    config = tiny(position_terms=terms, share_key=share_key, num_buckets=buckets, max_distance=6)
    attention = DisentangledAttention(config, rng=generator())
    heads, wide, time, n = 2, WIDTH // 2, 11, len(terms)
    q, k = draw(2, time, heads, wide), draw(2, time, heads, wide, seed=2)
    size = buckets or 6
    keys = queries = None
    if terms:
        attention.position_norm.scale[...] = jnp.asarray(1 + 0.1 * draw(WIDTH, seed=3))
        table = weights(attention.position_table)
        assert table.shape == (2 * size, WIDTH)
        centred = table - table.mean(-1, keepdims=True)
        table = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        table = table * weights(attention.position_norm.scale) + weights(attention.position_norm.bias)
        if "c2p" in terms:
            keys = linear(attention.key if share_key else attention.position_key, table).reshape(-1, heads, wide)
        if "p2c" in terms:
            queries = linear(attention.query if share_key else attention.position_query, table).reshape(-1, heads, wide)
    want = np.zeros((2, heads, time, time))
    for t in range(time):
        for s in range(time):
            for h in range(heads):
                want[:, h, t, s] = (q[:, t, h] * k[:, s, h]).sum(-1) / math.sqrt(wide * (1 + n))
                if keys is not None:
                    row = min(max(bucket(t - s, buckets, 6) + size, 0), 2 * size - 1)
                    want[:, h, t, s] += q[:, t, h] @ keys[row, h] / math.sqrt(wide * n)
                if queries is not None:
                    row = min(max(-bucket(s - t, buckets, 6) + size, 0), 2 * size - 1)
                    want[:, h, t, s] += k[:, s, h] @ queries[row, h] / math.sqrt(wide * n)
    ours = disentangled_scores(jnp.asarray(q), jnp.asarray(k), expanded(*attention.tables(time)))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, want, **TOLERANCE)


# --- pools and heads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_other_lengths_fit(pool):
    model = DeMEGa(tiny(pool=pool, layers=1), rngs=nnx.Rngs(0))
    outputs = jax.jit(lambda x: model(x))(draw(2, SENSORS, TIME + 4))
    assert (outputs.logits.shape, outputs.features.shape) == ((2, 3), (2, TIME + 4, WIDTH))


def test_flatten_refuses_other_lengths():
    aggregator = Aggregator(tiny(), WIDTH, TIME, rng=generator())
    with pytest.raises(ValueError, match="pool=flatten fixes 9 time points, 13 came"):
        aggregator(jnp.zeros((2, 13, WIDTH)))


def test_similarity_to_features():
    logits, table = 2 * draw(5, 4), np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]], np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))

    def unit(v: np.ndarray) -> np.ndarray:
        return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)

    want = {
        "dot": p @ table.T,
        "cosine": 10 * unit(p) @ unit(table).T,
        "hamming": 10 * ((p[:, None] > 0.5) == (table[None] > 0.5)).mean(-1),
    }
    for metric, numbers in want.items():
        ours = feature_similarity(jnp.asarray(logits), jnp.asarray(table), metric)
        np.testing.assert_allclose(ours, numbers, **TOLERANCE, err_msg=metric)


# --- convolutions and depth ------------------------------------------------------------------------------------------


def taps(x: np.ndarray, size: int) -> np.ndarray:
    """[B, T, size, I]: what a convolution of that length sees at each position; even ones see more of the future."""
    before = (size - 1) // 2
    padded = np.concatenate([0 * x[:, :1]] * before + [x] + [0 * x[:, :1]] * (size - 1 - before), axis=1)
    return np.stack([padded[:, i : i + x.shape[1]] for i in range(size)], axis=2)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 12])
def test_convolutions_keep_the_length(size):
    x = draw(2, TIME, SENSORS)
    flax_conv = conv(SENSORS, 5, size, dtype=jnp.float32, rng=generator())
    want = np.einsum("btki,kio->bto", taps(x, size), weights(flax_conv.kernel)) + weights(flax_conv.bias)
    np.testing.assert_allclose(flax_conv(jnp.asarray(x)), want, **TOLERANCE)
    depthwise = DepthwiseConv(SENSORS, size, dtype=jnp.float32, rng=generator())
    want = np.einsum("btki,ki->bti", taps(x, size), weights(depthwise.kernel)) + weights(depthwise.bias)
    np.testing.assert_allclose(depthwise(jnp.asarray(x)), want, **TOLERANCE)


@pytest.mark.parametrize("layers", [1, 3])
def test_depth_and_kernel_sizes(layers):
    model = DeMEGa(tiny(layers=layers, stem_kernel_sizes=[4, 2], kernel_size=6), rngs=nnx.Rngs(0))
    assert len(model.encoder.layers) == layers
    assert [c.kernel.shape[0] for c in (model.encoder.stem.conv1, model.encoder.stem.conv2)] == [4, 2]
    assert {layer.conv.depthwise.kernel.shape for layer in model.encoder.layers} == {(6, WIDTH)}
    if layers == 1:
        assert jax.eval_shape(lambda x: model(x), draw(2, SENSORS, TIME)).features.shape == (2, TIME, WIDTH)


# --- initial values --------------------------------------------------------------------------------------------------


def test_initial_values_are_numpy_draws_in_order():
    """Kernel first, then bias, uniform in +-1/sqrt(fan in): a seed gives the values that it always gave."""
    for make, shape, fan_in in (
        (lambda rng: linear_layer(6, 4, dtype=jnp.float32, rng=rng), (6, 4), 6),
        (lambda rng: conv(6, 4, 3, dtype=jnp.float32, rng=rng), (3, 6, 4), 18),
        (lambda rng: DepthwiseConv(4, 3, dtype=jnp.float32, rng=rng), (3, 4), 3),
    ):
        rng, bound = generator(), 1 / math.sqrt(fan_in)
        kernel, bias = (rng.uniform(-bound, bound, size).astype(np.float32) for size in (shape, (4,)))
        layer = make(generator())
        np.testing.assert_array_equal(layer.kernel[...], kernel)
        np.testing.assert_array_equal(layer.bias[...], bias)


@pytest.mark.parametrize("spread", [0.02, 1.0])
def test_position_tables_start_with_the_spread_of_the_configuration(spread):
    wide = dict(width=64, num_buckets=32, max_distance=128)
    attention = DisentangledAttention(tiny(position_init=spread, **wide), rng=generator())
    table = weights(attention.position_table)
    # 64 x 64 numbers: their standard deviation is off by 1 / sqrt(2 x 4096), about 1 %; five times that is allowed.
    assert table.std() == pytest.approx(spread, rel=0.055)
    usual = DisentangledAttention(tiny(**wide), rng=generator())
    np.testing.assert_allclose(table / spread, weights(usual.position_table) / 0.02, rtol=1e-6)


def test_the_published_training_starts_as_it_was_published():
    """torch.nn.Embedding starts at a standard deviation of 1, and PyTorch multiplies float32 in full precision."""
    published = load_config(ROOT / "configs" / "original.yaml")
    assert (published.model.position_init, published.train.matmul_precision) == (1.0, "highest")
    assert ModelConfig().position_init == 0.02


# --- normalisation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "axes"), [("instance", -1), ("zscore", (-2, -1))])
def test_standard_scores(how, axes):
    x = draw(3, SENSORS, TIME) * [[[1.0], [10.0], [0.1]]] + [[[5.0], [0.0], [-3.0]]]
    want = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    ours = normalize(jnp.asarray(x, jnp.float32), how)
    np.testing.assert_allclose(ours, want, rtol=2e-5, atol=2e-5)


def test_median_and_quartiles():
    """The lower middle value is the median of an even number; quartiles interpolate as numpy's do."""
    x = draw(2, SENSORS, 10)
    lower, upper = np.quantile(x.astype(np.float64), [0.25, 0.75], axis=-1, keepdims=True)
    want = (x - np.sort(x, -1)[..., 4:5]) / (upper - lower + 1e-6)
    np.testing.assert_allclose(normalize(jnp.asarray(x), "median_iqr"), want, **TOLERANCE)


def test_none_is_the_identity():
    x = draw(2, SENSORS, TIME)
    assert np.asarray(normalize(jnp.asarray(x), "none")).tobytes() == x.tobytes()


@pytest.mark.parametrize("how", ["median_iqr", "instance", "zscore", "none"])
def test_silent_sensors_are_finite(how):
    x = draw(2, SENSORS, TIME)
    x[0, 1], x[1] = 1e6, 0.0
    y = np.asarray(normalize(jnp.asarray(x), how))
    assert np.isfinite(y).all()
    if how in ("median_iqr", "instance"):
        np.testing.assert_array_equal(y[0, 1], 0.0)
    np.testing.assert_array_equal(y[1], 0.0)
    gradient = jax.grad(lambda x: normalize(x, how).sum())(jnp.asarray(x))
    np.testing.assert_array_equal(gradient, 0.0)


# --- compute types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["conformer", "lstm"])
@pytest.mark.slow
def test_bfloat16_is_close(encoder):
    """bfloat16 has 8 bits: values about 1 are off by some 1/256 a product; 1/16 allows for those of two layers."""
    config = tiny(encoder=encoder)
    exact = DeMEGa(config, rngs=nnx.Rngs(0))
    half = DeMEGa(config.model_copy(update={"dtype": "bfloat16"}), rngs=nnx.Rngs(0))
    x = jnp.asarray(draw(4, SENSORS, TIME))
    ours, theirs = (jax.jit(lambda x, model=model: model(x))(x) for model in (half, exact))
    for name in ("logits", "ipa_logits", "projection"):
        assert getattr(ours, name).dtype == jnp.float32
    assert ours.features.dtype == ours.embedding.dtype == jnp.bfloat16
    for name in ("logits", "ipa_logits", "projection", "embedding", "features"):
        got, want = (np.asarray(getattr(o, name), np.float32) for o in (ours, theirs))
        np.testing.assert_allclose(got, want, rtol=1 / 16, atol=1 / 16, err_msg=name)
        assert (got != want).any(), "the compute type acts"
    params = jax.tree.leaves(nnx.to_pure_dict(nnx.state(half, nnx.Param)))
    assert {leaf.dtype for leaf in params} == {jnp.dtype(jnp.float32)}
