"""`load(run)` in Python: any number of windows, the same numbers as `evaluate`, and errors that name shapes."""

import json

import h5py
import jax
import numpy as np
import pytest
from helpers import ONE_SCHEDULE, TINY_MODEL
from helpers.data import simulate_grouped
from helpers.errors import refused
from helpers.runs import evaluate, train

import demega_jax
from demega_jax.data.arrays import array_split
from demega_jax.evaluation.model import Model
from demega_jax.evaluation.predict import Predictor, predict_split
from demega_jax.evaluation.tta import TestTimeAugmentation
from demega_jax.training.parallel import make_placement

MORE = [*TINY_MODEL, ONE_SCHEDULE, "train.batch_size=16", "train.epochs=null", "train.steps=4", "train.eval_every=4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate_grouped(folder, levels=[10], groups=93, sensors=5, time_points=9, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert train(data, folder, *MORE) == 0
    return folder


def windows(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 5, 9)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 8, 31, 200])
@pytest.mark.slow
def test_any_number_of_windows(run, count):
    model, x = demega_jax.load(run), windows(count)
    p = model.predict(x)
    assert p.shape == (count, 39)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    one_by_one = np.concatenate([model.predict(window[None]) for window in x[-3:]])
    np.testing.assert_allclose(p[-3:], one_by_one, rtol=1e-4, atol=1e-7)
    odds = np.exp(model.predict_logits(x))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), p, rtol=1e-4)
    assert model.embed(x).shape == (count, 8)


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(run, data, monkeypatch):
    """Outputs and augmented copies, which depend on the number of a row, and the counts; the last batch is not full."""
    model = demega_jax.load(run)
    split = demega_jax.open_levels(data, 10, "test", classes=model.classes)
    assert split.rows % 16 not in (0, 8)
    found, counted = [], []
    for devices in (1, 8):
        placement = make_placement("jit", devices, 16)
        predictor = Predictor(model, placement, embedding=True, tta=TestTimeAugmentation(seed=3))
        found.append(predict_split([predictor], split, 16))
        monkeypatch.setattr(Model, "placement", lambda self, rows, placement=placement: (placement, 16))
        counted.append(model.count(split).to_json())
    one, eight = found
    for ours, theirs in ((eight.logits, one.logits), (eight.tta, one.tta), (*eight.embeddings, *one.embeddings)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert counted[0]["confusion"] == counted[1]["confusion"]
    np.testing.assert_allclose(counted[1]["loss"], counted[0]["loss"], rtol=1e-5)


def test_few_programs_for_any_number_of_windows(run, monkeypatch):
    """The sizes of batches are powers of two, so that numbers from 1 to 200 need few of them."""
    model, seen = demega_jax.load(run), set()
    start = Predictor.start

    def spy(self, split, first, batch):
        seen.add(batch["x"].shape[0])
        return start(self, split, first, batch)

    monkeypatch.setattr(Predictor, "start", spy)
    for count in (1, 2, 5, 9, 17, 40, 64, 65, 130, 200):
        model.predict(windows(count))
    assert seen == {8, 16, 32, 64}  # of the eight virtual devices, each has at least one row


def test_scores_are_those_of_the_command(run, data, tmp_path):
    model = demega_jax.load(run)
    split = demega_jax.open_levels(data, 10, "test", classes=model.classes)
    scores = json.loads(json.dumps(model.evaluate(split).to_json()))
    told = evaluate(run, tmp_path / "scores.json", "--split", "test")
    assert {key: told[key] for key in scores} == scores


@pytest.mark.parametrize(
    ("x", "facts"),
    [
        (windows(1)[0], ["[5, 9]", "[windows, 5, 9]"]),
        (windows(2)[:, :4], ["4 sensors x 9 time points", "5 x 9"]),
        (windows(0)[:, :4], ["4 sensors x 9 time points", "5 x 9"]),
        (np.ma.masked_greater(windows(2), 0), ["masked", "[windows, 5, 9]"]),
        ([[1, 2], [3]], ["array of numbers"]),
        (np.full((1, 5, 9), np.nan), ["row 0"]),
    ],
)
def test_errors_name_the_shape(run, x, facts):
    with refused(*facts):
        demega_jax.load(run).predict(x)


@pytest.mark.parametrize("x", [windows(0), [], windows(0).astype(np.int16)])
def test_no_windows_give_no_predictions(run, x):
    model = demega_jax.load(run)
    one = windows(1)
    for of in (model.predict, model.predict_logits, model.embed):
        assert of(x).shape == (0, of(one).shape[1]) and of(x).dtype == of(one).dtype
    with refused("no rows"):
        model.evaluate(array_split(windows(0), model.classes, model.window))


def test_a_dataset_of_h5py_is_an_array(run, tmp_path):
    model = demega_jax.load(run)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("x", data=windows(3))
        np.testing.assert_array_equal(model.predict(data), model.predict(windows(3)))
    with refused("[windows, 5, 9]", "array of numbers"):
        model.predict(data)  # the file is closed


def test_splits_that_do_not_fit_are_refused(run, tmp_path):
    model = demega_jax.load(run)
    simulate_grouped(tmp_path, levels=[10], groups=48, sensors=4, time_points=9, seed=1)
    with refused("4 sensors"):
        model.evaluate(demega_jax.open_levels(tmp_path, 10, "test"))
    with refused("label"):
        model.evaluate(array_split(windows(2), model.classes, model.window))


def test_programs_are_kept_where_nothing_else_is_said(run, monkeypatch, own_cache):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        demega_jax.load(run)
        assert "demega-jax" in jax.config.jax_compilation_cache_dir
        jax.config.update("jax_compilation_cache_dir", "/elsewhere")
        demega_jax.load(run)
        assert jax.config.jax_compilation_cache_dir == "/elsewhere"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
