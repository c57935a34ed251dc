"""`DemegaClassifier`: scikit-learn's own checks and tools, and windows whose classes are known."""

import pickle
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from helpers.errors import refused
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import demega_jax
from demega_jax import DemegaClassifier
from demega_jax.config import Config, ModelConfig
from demega_jax.interop.estimator import hold_out

TINY = {
    "model.width": 8,
    "model.layers": 1,
    "model.heads": 2,
    "model.embedding_width": 8,
    "model.projection_width": 8,
    "model.ipa_width": 8,
    "model.dropout": 0.1,
    "train.batch_size": 32,
    "train.epochs": 8,
    "optim.learning_rate": 1e-2,
}


def classifier(**more: Any) -> DemegaClassifier:
    changes = TINY | more.pop("changes", {})
    return DemegaClassifier(changes=changes, devices=1, **{"random_state": 0} | more)


@pytest.fixture(scope="module")
def windows() -> tuple[np.ndarray, np.ndarray]:
    """Three responses [5, 9] in noise of half their size: float64 windows and labels that are text."""
    rng = np.random.default_rng(0)
    responses, ids = rng.normal(size=(3, 5, 9)), rng.integers(0, 3, 150)
    return responses[ids] + 0.5 * rng.normal(size=(150, 5, 9)), np.array(["left", "right", "foot"])[ids]


@pytest.fixture(scope="module")
def fitted(windows) -> DemegaClassifier:
    return classifier().fit(*windows)


@pytest.mark.slow
def test_it_learns_windows_that_differ(fitted, windows):
    x, y = windows
    assert fitted.classes_.tolist() == ["foot", "left", "right"] == np.unique(y).tolist()
    assert (fitted.n_features_in_, fitted.n_times_in_) == (5, 9)
    p = fitted.predict_proba(x)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(fitted.predict(x), fitted.classes_[p.argmax(1)])
    assert fitted.score(x, y) == accuracy_score(y, fitted.predict(x)) > 0.95
    assert {line["split"] for line in fitted.history_} == {"train", "validation"}


@pytest.mark.long
@pytest.mark.parametrize("labels", [[4, 0, 7], [True, False, True], ["aa", "b", "zh"], [0.0, 1.0, 2.0]])
def test_labels_of_any_kind_come_back(windows, labels):
    x, y = windows
    of = np.array(labels)[np.searchsorted(["foot", "left", "right"], y)]
    model = classifier(changes={"train.epochs": 1}).fit(x, of)
    np.testing.assert_array_equal(model.classes_, np.unique(of))
    found = model.predict(x[:7])
    assert found.dtype == of.dtype and set(found) <= set(of)
    phonemes = isinstance(labels[0], str)
    assert (model.model_.config.model.ipa_width == 8) == phonemes  # a head for features, where there are any


@pytest.mark.long
def test_the_seed_decides(windows):
    x, y = windows
    few = {"train.epochs": 1}
    one, same, other = (classifier(changes=few, random_state=seed).fit(x, y).predict_proba(x) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    drawn = classifier(changes=few, random_state=np.random.RandomState(1)).fit(x, y).predict_proba(x)
    np.testing.assert_array_equal(one, drawn)


@pytest.mark.long
def test_early_stopping_and_the_last_step(windows):
    """With a learning rate that changes nothing, no validation is better than the first: patience 2 ends at epoch 3."""
    x, y = windows
    still = {"optim.learning_rate": 1e-12, "train.early_stopping": 2, "train.epochs": 9}
    stopped = classifier(changes=still).fit(x, y)
    assert [line["epoch"] for line in stopped.history_ if line["split"] == "validation"] == [1, 2, 3]
    last = classifier(changes={"train.epochs": 2}, validation_share=0).fit(x, y)
    assert last.model_.steps == (2 * -(-150 // 32),)
    assert sum(line["split"] == "validation" for line in last.history_) == 1


@pytest.mark.long
def test_members_are_averaged(windows):
    x, y = windows
    more = {"train.epochs": 1, "train.members": 2, "data.feed": "resident", "data.shares": 4}
    both = classifier(changes=more).fit(x, y).model_
    assert both.members and both.predict(x[:3]).shape == (3, 3)


def test_clone_parameters_and_pickle(fitted, windows):
    x, _ = windows
    assert set(fitted.get_params()) == {"config", "changes", "validation_share", "random_state", "devices", "verbose"}
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "classes_")
    assert clone(DemegaClassifier(Config())).config == Config()
    assert copy.set_params(validation_share=0.3).validation_share == 0.3
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301  (our own)
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    with pytest.raises(NotFittedError):
        copy.predict(x)


def test_saved_as_a_run_folder(fitted, windows, tmp_path):
    x, _ = windows
    fitted.save(tmp_path / "run")
    np.testing.assert_array_equal(demega_jax.load(tmp_path / "run").predict(x), fitted.predict_proba(x))
    with refused("not empty"):
        fitted.save(tmp_path / "run")


@pytest.mark.long
def test_cross_validation_and_a_search(windows):
    x, y = windows
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    assert cross_val_score(classifier(), x, y, cv=folds, error_score="raise").min() > 0.9
    grid = {"changes": [TINY, TINY | {"optim.learning_rate": 1e-9}]}
    search = GridSearchCV(classifier(), grid, cv=[next(folds.split(x, y))], error_score="raise", refit=False).fit(x, y)
    learned, still = search.cv_results_["mean_test_score"]
    assert learned > 0.9 > still


@pytest.mark.long
def test_epochs_in_tesla(windows, warnings):
    """As `epochs.get_data()` gives them: a warning says that they are too small. Scaled in a pipeline they work."""
    x, y = windows
    classifier(changes={"train.epochs": 1}).fit(x * 1e-12, y)
    assert "tesla" in warnings[0]
    warnings.clear()
    pipeline = make_pipeline(FunctionTransformer(lambda x: x * 1e12), classifier())
    assert pipeline.fit(x * 1e-12, y).score(x * 1e-12, y) > 0.95
    assert not warnings


def test_what_is_refused(fitted, windows):
    x, y = windows
    for bad, fact in [
        (x[0], "[5, 9]"),
        (x[:, :3], "3 features"),
        (x[..., :4], "4 time points"),
        (np.where(x > 1, np.nan, x), "NaN"),
        (x * 1e300, "infinity"),
        (x * 1j, "Complex"),
        (x[:0], "0 sample"),
        (x[:, :0], "[150, 0, 9]"),
    ]:
        with pytest.raises(ValueError, match=fact.replace("[", r"\[")):
            fitted.predict(bad)
    with pytest.raises(TypeError, match="[Ss]parse"):
        fitted.predict(scipy.sparse.csr_array(x[0]))
    new = classifier()
    for values, labels, fact in [
        (x, y[:9], "inconsistent"),
        (x, np.repeat("a", 150), "one class"),
        (x[0], y[:5], "sensors, times"),
        (x, np.linspace(0, 1, 150), "continuous"),
        (x, None, "requires y"),
    ]:
        with pytest.raises(ValueError, match=fact):
            new.fit(values, labels)
    with refused("99 devices", "use devices=8", where="devices"):  # not the --devices of a command
        DemegaClassifier(changes=TINY, devices=99).fit(x, y)
    for arguments, facts in [
        ({"changes": {"model.widht": 3}}, ["model.widht", "did you mean model.width"]),
        ({"changes": {"data.feed": "regroup"}}, ["data.feed=regroup"]),
        ({"validation_share": 1.0}, ["validation_share=1.0"]),
        ({"config": {"modle": {}}}, ["modle", "did you mean model"]),
        ({"config": "no/such.yaml"}, ["no/such.yaml"]),
    ]:
        with refused(*facts):
            classifier(**arguments).fit(x, y)


def test_a_configuration_is_a_file_a_mapping_or_a_config(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("model: {width: 12, heads: 3, sensors: 306}\n")
    asked = Config().model_copy(update={"model": ModelConfig(width=12, heads=3, sensors=306)})
    for config in (file, str(file), {"model": {"width": 12, "heads": 3}}, asked):
        found = DemegaClassifier(config, changes={"train.epochs": 4})._config(("aa", "left"))
        assert (found.model.width, found.model.sensors, found.model.ipa_width) == (12, None, 0)
        assert (found.train.epochs, found.train.seed) == (4, 777)


def test_held_out_rows():
    ids = np.repeat([0, 1, 2], [20, 10, 1])
    kept, held = hold_out(ids, 0.2, seed=3)
    assert sorted([*kept, *held]) == list(range(31))
    assert np.bincount(ids[held], minlength=3).tolist() == [4, 2, 0]  # a fifth of each, never all
    assert not np.array_equal(held, hold_out(ids, 0.2, seed=4)[1])
    assert np.bincount(hold_out(np.array([0, 1, 1]), 0.1, 0)[1], minlength=2).sum() == 1  # at least one row
    for share, few in ((0.0, ids), (0.5, np.arange(4))):
        kept, held = hold_out(few, share, 0)
        np.testing.assert_array_equal(kept, np.arange(len(few)))
        np.testing.assert_array_equal(held, kept)


def test_without_scikit_learn(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "demega_jax.interop.estimator")
    with pytest.raises(ImportError, match=r"pip install -e '\.\[sklearn\]'"):
        _ = demega_jax.DemegaClassifier


class OnFeatures(DemegaClassifier):
    """The classifier for the tables [n, features] of scikit-learn's checks: a column is a sensor with one time point.

    Whatever is not such a table goes to the classifier as it is, which must refuse it.
    """

    def fit(self, X, y):
        return super().fit(as_windows(X), y)

    def predict_proba(self, X):
        return super().predict_proba(as_windows(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def as_windows(X: Any) -> Any:
    if scipy.sparse.issparse(X) or X is None:
        return X
    table = np.asarray(X)
    return table[..., None] if table.ndim == 2 else X


# Checks that do not apply, and why.
EXEMPT: Mapping[str, str] = {
    "check_estimators_empty_data_messages": "the message that is wanted for no columns names a shape of two numbers, "
    "and windows have three; that an empty array is refused, test_what_is_refused checks",
}


@pytest.mark.long
def test_checks_of_scikit_learn():
    """With input of three axes, scikit-learn leaves most out and says so; they run on columns as sensors."""
    tables = {
        "model.width": 8,
        "model.layers": 1,
        "model.heads": 1,
        "model.embedding_width": 8,
        "model.projection_width": 0,
        "loss.contrastive_weight": 0.0,
        "model.dropout": 0.0,
        "model.input_norm": "none",
        "train.batch_size": 64,
        "train.epochs": 10,
        "optim.learning_rate": 1e-2,
    }
    with pytest.warns(match="Can't test estimator"):
        assert {result["status"] for result in check_estimator(DemegaClassifier())} == {"passed"}
    results = check_estimator(
        OnFeatures(changes=tables, devices=1), expected_failed_checks=dict(EXEMPT), on_fail=None, on_skip=None
    )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    print({r["check_name"]: r["status"] for r in results})
    assert not failed
    xfailed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert xfailed == set(EXEMPT)  # no exemption that is not needed
