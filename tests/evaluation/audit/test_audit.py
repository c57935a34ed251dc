"""Planted leaks are found by the line that they fit, and clean data have every control at chance."""

from pathlib import Path

import numpy as np
import pytest
from helpers.data import grouped_path, open_shards, open_split, write_grouped, write_shards
from helpers.errors import refused

from demega_jax.data.simulate.grouped import simulate_grouped
from demega_jax.evaluation.audit.controls import noise_level, power
from demega_jax.evaluation.audit.lines import judged
from demega_jax.evaluation.audit.run import Audit, audit
from demega_jax.metrics import macro_f1

V, C, T = 4, 6, 40
ROWS = {"train": 800, "validation": 600}
NAMES = list("abcd")
CONTROLS = [
    ("model", "labels"),
    ("model", "phases"),
    ("model", "moments"),
    ("model", "level"),
    ("probe", "labels"),
    ("probe", "phases"),
    ("probe", "moments"),
    ("probe", "level"),
    ("prior", "frequent"),
    ("prior", "drawn"),
    ("prior", "accuracy"),
]


def response(labels: np.ndarray) -> np.ndarray:
    """One wave, which comes later in each class. Mean, size and amplitude spectrum of a window tell no class."""
    wave = np.sin(2 * np.pi * 3 * np.arange(T) / T) * np.exp(-0.5 * np.square((np.arange(T) - 8) / 4))
    return np.stack([np.roll(wave - wave.mean(), 10 * label) for label in labels])[:, None]


def write(folder: Path, leak) -> Path:
    """Windows with a response in white noise. leak: (windows, labels, rng) -> windows, labels."""
    for number, (name, rows) in enumerate(ROWS.items()):
        rng = np.random.default_rng(number)
        labels = np.sort(rng.integers(0, V, rows))
        x = rng.standard_normal((rows, C, T))
        x, labels = leak(x, labels, rng)
        x = (x + 1.5 * response(labels)).astype(np.float32)
        write_grouped(grouped_path(folder, 1, name), x, labels, attributes={"classes": NAMES})
    return folder


def by_template(split) -> np.ndarray:
    """An honest model: the response that a normalised window is most like."""
    x = split.reader().read(np.arange(split.rows))
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    return np.einsum("nct,vct->nv", x, np.repeat(response(np.arange(V)), C, axis=1)).argmax(1)


def run(folder: Path, predict=by_template, rows: int = 10_000, seed: int = 0) -> Audit:
    train, split = (open_split(folder, 1, name) for name in ROWS)
    return audit(predict, train, split, rows=rows, seed=seed, tell=lambda line: None)


def above(found: Audit) -> set[tuple[str, str]]:
    return {(line.kind, line.control) for line in found.lines if line.word == "above chance"} - {("model", "windows")}


def clean(x, labels, rng):
    return x, labels


def leak_in_size(x, labels, rng):
    """The pattern of deviations over sensors depends on the class; their product does not."""
    size = 1.5 ** np.where(np.arange(C) % V == labels[:, None], 3.0, -1.0)
    size /= np.exp(np.log(size).mean(axis=1, keepdims=True))
    return x * size[:, :, None], labels


def leak_in_level(x, labels, rng):
    """K windows were averaged, and K depends on the class."""
    return x / np.sqrt(1 + 0.5 * labels)[:, None, None], labels


def leak_in_mean(x, labels, rng):
    return x + 0.4 * np.eye(C)[labels][:, :, None], labels


def leak_in_spectrum(x, labels, rng):
    """A hum whose frequency depends on the class, with a random phase, in place of noise of the same power."""
    phase = rng.uniform(0, 2 * np.pi, (*x.shape[:2], 1))
    hum = np.sqrt(2) * np.cos(2 * np.pi * (2 + labels)[:, None, None] * np.arange(T) / T + phase)
    return 0.9 * x + np.sqrt(1 - 0.81) * hum, labels


def leak_in_prior(x, labels, rng):
    return x, np.sort(np.where(rng.random(len(labels)) < 0.7, 2, labels))


def test_every_control_of_clean_data_is_at_chance(tmp_path):
    """The response is strong, and the model finds it; nothing else tells the class."""
    found = run(write(tmp_path, clean), seed=1)
    assert found.line("model", "windows").score > 0.9
    assert found.line("model", "windows").word == "above chance"
    for kind, control in CONTROLS:
        line = found.line(kind, control)
        assert abs(line.errors) <= 2 and line.verdict == "at chance", line


@pytest.mark.parametrize(
    ("leak", "lines"),
    [
        (leak_in_size, {("probe", "moments"), ("probe", "phases")}),
        (leak_in_level, {("probe", "level"), ("probe", "moments"), ("probe", "phases")}),
        (leak_in_mean, {("probe", "moments")}),
        (leak_in_spectrum, {("probe", "phases")}),
        (leak_in_prior, {("prior", "accuracy")}),
    ],
)
def test_a_leak_is_found_by_the_lines_that_it_fits_and_by_no_other(tmp_path, leak, lines):
    """The model normalises windows and knows the response, so it uses no leak."""
    assert above(run(write(tmp_path, leak))) == lines


def by_deviation(split):
    """A model that reads the class from which sensor is large."""
    size = split.reader().read(np.arange(split.rows)).std(-1)
    return np.log(np.maximum(size, 1e-9))[:, :V].argmax(1)


def by_level(split):
    level = noise_level(power(split.reader().read(np.arange(split.rows))))
    return np.abs(level[:, None] - (np.log(T) - np.log(1 + 0.5 * np.arange(V)))).argmin(1)


def by_mean(split):
    return split.reader().read(np.arange(split.rows)).mean(-1)[:, :V].argmax(1)


def by_hum(split):
    return power(split.reader().read(np.arange(split.rows))).mean(1)[:, 1 : 1 + V].argmax(1)


@pytest.mark.parametrize(
    ("leak", "predict", "lines"),
    [
        (leak_in_size, by_deviation, {"phases", "moments"}),
        (leak_in_level, by_level, {"phases", "moments", "level"}),
        (leak_in_mean, by_mean, {"phases", "moments"}),
        (leak_in_spectrum, by_hum, {"phases"}),
    ],
)
def test_a_model_that_uses_a_leak_is_found(tmp_path, leak, predict, lines):
    found = run(write(tmp_path, leak), predict)
    assert found.line("model", "windows").word == "above chance"
    assert {control for kind, control in above(found) if kind == "model"} == lines


def test_lines_by_hand(tmp_path):
    """Scores by the metric itself, on the rows that are there; the prior by arithmetic."""
    folder = write(tmp_path, leak_in_prior)
    found, split = run(folder), open_split(folder, 1, "validation")
    assert found.line("model", "windows").score == pytest.approx(macro_f1(split.labels, by_template(split)))
    share = (split.labels == 2).mean()
    assert found.most_frequent == "c" and found.chance == 0.25
    assert found.line("prior", "accuracy").score == pytest.approx(share)
    assert found.line("prior", "frequent").score == pytest.approx(2 * share / (1 + share) / V)
    assert found.line("prior", "accuracy").permuted == 0.25
    assert found.line("prior", "drawn").score == pytest.approx(0.25, abs=0.05)  # at most chance, whatever the shares
    permuted = found.line("model", "windows")
    rng = np.random.default_rng(3)
    drawn = [macro_f1(rng.permutation(split.labels), by_template(split)) for _ in range(300)]
    assert permuted.permuted == pytest.approx(np.mean(drawn), abs=0.004)
    assert permuted.error == pytest.approx(np.std(drawn), rel=0.15)


def test_scores_at_chance_have_the_error_that_is_said():
    """Of predictions that know nothing, the errors have mean 0 and deviation 1, and few lines are called above."""
    lines = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels, predicted = rng.choice(5, 200, p=[0.4, 0.3, 0.1, 0.1, 0.1]), rng.integers(0, 5, 200)
        lines.append(judged("model", "phases", labels, predicted, 5))
    errors = np.array([line.errors for line in lines])
    assert abs(errors.mean()) < 0.25 and errors.std() == pytest.approx(1, abs=0.15)
    assert np.mean([line.word != "at chance" for line in lines]) < 0.07
    assert sum(line.word == "above chance" for line in lines) <= 2


def test_rows_are_bounded(tmp_path):
    found = run(write(tmp_path, clean), rows=100)
    assert (found.rows, found.all_rows, found.train_rows) == (100, 600, 100)
    assert run(tmp_path, rows=100).to_json() == found.to_json()


def by_mean_response(train):
    """A model that predicts the class whose mean window is nearest."""
    x = train.reader().read(np.arange(train.rows))
    means = np.stack([x[train.labels == c].mean(axis=0) for c in range(len(train.classes))]).reshape(39, -1)

    def predict(split):
        rows = split.reader().read(np.arange(split.rows)).reshape(split.rows, -1)
        return (rows @ means.T - np.square(means).sum(1) / 2).argmax(1)

    return predict


@pytest.mark.long
def test_simulated_data_at_a_low_level_have_every_control_at_chance(tmp_path):
    """One window a row: responses are so weak that their own mean and size are lost in the noise."""
    simulate_grouped(tmp_path, levels=[1], groups=3200, sensors=9, time_points=125, seed=3)
    found = run(tmp_path, by_mean_response(open_split(tmp_path, 1, "train")))
    for kind, control in CONTROLS[:-1]:  # phonemes are not equally frequent, which accuracy counts
        line = found.line(kind, control)
        assert abs(line.errors) <= 2, line
    assert above(found) == {("prior", "accuracy")}


def test_normalised_windows_are_refused(tmp_path):
    write(tmp_path / "data", clean)
    write_shards(tmp_path / "data", tmp_path / "shards")
    shards = open_shards(tmp_path / "shards/grouped_1", "train")
    with refused("normalised", "median_iqr"):
        audit(by_template, shards, shards, rows=10, tell=lambda line: None)
