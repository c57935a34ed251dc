"""Training curves that bear any number of points."""

import json

import pytest
from helpers.errors import refused
from matplotlib.image import imread

from demega_jax.evaluation.report.curves import draw_training, plot_training_curve


def train(step, loss):
    return {"step": step, "epoch": step / 10, "split": "train", "loss": loss, "class_loss": loss}


def validation(step, macro_f1):
    return {
        "step": step,
        "epoch": step / 10,
        "split": "validation",
        "loss": 2.0,
        "macro_f1": macro_f1,
        "balanced_accuracy": macro_f1,
        "accuracy": macro_f1,
    }


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [train(1, 3.0)],
        [validation(1, 0.1)],
        [train(1, None), validation(2, None)],
        [train(s, 3 - s / 100) for s in range(1, 100)] + [validation(s, s / 200) for s in range(10, 100, 10)],
    ],
    ids=["none", "one of train", "one of validation", "nulls", "many"],
)
def test_curves_bear_any_number_of_points(tmp_path, lines):
    source, png = tmp_path / "metrics.jsonl", tmp_path / "report" / "curve.png"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "torn')
    assert plot_training_curve(source, png, title="run", chance=1 / 39, reference=0.45) == png
    assert imread(png).shape == (540, 1200, 4)
    assert [p.name for p in png.parent.iterdir()] == ["curve.png"]  # nothing left aside


def test_the_best_step_is_the_first_highest_macro_f1(tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.legend", lambda axes, **_: texts.extend(axes.get_legend_handles_labels()[1])
    )
    source = tmp_path / "metrics.jsonl"
    lines = [validation(10, 0.2), validation(20, 0.4), validation(30, 0.4), validation(40, 0.3)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_training_curve(source, tmp_path / "c.png", title="run", chance=1 / 39, reference=None)
    assert "best 0.400 at step 20" in texts
    assert "chance 0.026" in texts
    assert not any("reference" in text for text in texts)


@pytest.mark.parametrize(("monitor", "place", "step"), [("loss", 0, 30), ("balanced_accuracy_at_10", 1, 10)])
def test_the_best_step_by_another_score(monitor, place, step):
    """By hand: the smallest loss is 0.2 at step 30; the largest score at 10 is 0.6 at step 10."""
    lines = [
        validation(step, 0.5) | {"loss": loss, "balanced_accuracy_at_10": at_10}
        for step, loss, at_10 in ((10, 0.9, 0.6), (20, None, 0.5), (30, 0.2, 0.4), (40, 0.2, 0.6))
    ]
    figure = draw_training([lines], "run", monitor=monitor, chance=None, reference=None)
    (star,) = [line for line in figure.axes[place].lines if line.get_marker() == "*"]
    assert star.get_xdata() == [step]


def test_a_curve_of_no_file_is_refused_and_leaves_nothing(tmp_path):
    with refused("no such file", where=tmp_path / "metrics.jsonl"):
        plot_training_curve(tmp_path / "metrics.jsonl", tmp_path / "c.png", title="", chance=None, reference=None)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written(tmp_path):
    source = tmp_path / "metrics.jsonl"
    source.write_text(json.dumps(train(1, 3.0)) + "\n")
    (tmp_path / "report").write_text("a file where the folder would be")
    with refused("c.png", "cannot be written"):
        plot_training_curve(source, tmp_path / "report" / "c.png", title="", chance=None, reference=None)


def test_the_learning_rate_of_every_step_and_the_curves_of_every_member():
    members = [[train(step, 2.0) | {"learning_rate": step / 1000 * scale} for step in (1, 2, 3)] for scale in (1, 2)]
    losses, _, rates = draw_training(members, "run", chance=None, reference=None).axes
    assert [line.get_ydata().tolist() for line in rates.lines] == [[0.001, 0.002, 0.003], [0.002, 0.004, 0.006]]
    assert len(losses.lines) == 4  # total and class loss of two members
    assert losses.get_legend_handles_labels()[1] == ["train, total", "train, class loss"]
