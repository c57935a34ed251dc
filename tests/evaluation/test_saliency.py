"""Saliency against finite differences, and the places of its maps."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import ONE_SCHEDULE, TINY_MODEL
from helpers.data import simulate_grouped
from helpers.runs import train

import demega_jax
from demega_jax.evaluation.report.saliency import draw_saliency, places
from demega_jax.evaluation.saliency import saliency_of
from demega_jax.signal.normalize_numpy import normalize_rows

STEP = 5e-3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of two members, and the test rows."""
    folder = tmp_path_factory.mktemp("saliency")
    simulate_grouped(folder / "data", levels=[10], groups=64, sensors=3, time_points=5, seed=1)
    more = [
        *TINY_MODEL,
        "train.members=2",
        "data.feed=resident",
        "train.batch_size=16",
        "train.epochs=null",
        ONE_SCHEDULE,
    ]
    assert train(folder / "data", folder / "run", *more, "train.steps=4", "train.eval_every=4") == 0
    model = demega_jax.load(folder / "run")
    return model, demega_jax.open_levels(folder / "data", 10, "test", classes=model.classes)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(graphdef, tree, x):
    return nnx.merge(graphdef, *tree)(x, normalized=True).logits


def log_probability(model, x, label):
    """log p(label) [N] of normalised windows, p averaged over members."""
    p = []
    for member in range(2):
        tree = jax.tree.map(lambda leaf, member=member: leaf[member], (model.member_params, model.member_buffers))
        logits = np.asarray(logits_of(model.graphdef, tree, x), np.float64)
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        p.append((odds / odds.sum(-1, keepdims=True))[np.arange(len(x)), label])
    return np.log(np.mean(p, axis=0))


@pytest.mark.slow
def test_saliency_is_the_mean_of_absolute_differences(trained, monkeypatch):
    """In batches of 5, of which the last is padded."""
    model, split = trained
    monkeypatch.setattr("demega_jax.evaluation.saliency.BATCH", 5)
    found = saliency_of(model, split, most=7)
    rows = np.linspace(0, split.rows - 1, 7).round().astype(int)
    x = np.asarray(normalize_rows(split.reader().read(rows), model.config.model.input_norm), np.float32)
    label = split.labels[rows]
    want = np.zeros((3, 5))
    for c, t in np.ndindex(3, 5):
        up, down = x.copy(), x.copy()
        up[:, c, t] += STEP
        down[:, c, t] -= STEP
        difference = log_probability(model, up, label) - log_probability(model, down, label)
        want[c, t] = np.abs(difference / (2 * STEP)).mean()
    np.testing.assert_allclose(found, want, rtol=0.02, atol=2e-4)
    assert want.max() > 0.01


def test_saliency_of_other_sensors_is_one_curve_in_milliseconds():
    figure = draw_saliency(np.arange(15.0).reshape(3, 5), 8, 250.0, tmin=-0.004)
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), [-4, 0, 4, 8, 12])
    np.testing.assert_allclose(line.get_ydata(), [5, 6, 7, 8, 9])


def test_magnetometers_are_the_last_of_each_triplet_and_gradiometers_a_root_mean_square(warnings, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no mne
    x = np.tile(np.array([[3.0], [4.0], [7.0]]), (102, 4))
    lines = {line.get_label(): line.get_ydata() for line in draw_saliency(x, 8, 250.0).axes[0].lines}
    np.testing.assert_allclose(lines["magnetometers"], 7)
    np.testing.assert_allclose(lines["gradiometers"], np.sqrt((9 + 16) / 2))
    assert len(warnings) == 1 and ".[topo]" in warnings[0]


def test_places_of_the_triplets():
    """The helmet's first triplet is over the left temple, number 26 (MEG 1441) on the right, the last at the back."""
    mne = pytest.importorskip("mne")
    found = places()
    names = sorted(mne.channels.read_layout("Vectorview-mag").names)
    assert found.shape == (102, 2) and np.linalg.norm(found, axis=1).max() == pytest.approx(0.095)
    assert found[names.index("MEG 0111")][0] < -0.05 and found[names.index("MEG 1441")][0] > 0.05
    assert found[names.index("MEG 0811")][1] > 0.02 > -0.05 > found[names.index("MEG 2141")][1]
    figure = draw_saliency(np.random.default_rng(0).random((306, 10)), 8, 250.0)
    assert len(figure.axes) == 1 + 2 * 5 + 2  # the curves, five maps of each kind, two scales
