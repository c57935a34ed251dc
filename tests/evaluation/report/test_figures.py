"""Figures show the numbers that numpy and scikit-learn give, in phonetic order, and nothing is cut off."""

import datetime
import os
import re

import numpy as np
import pytest
from helpers.errors import refused
from helpers.scores import PHONEMES, full_scores
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from sklearn.metrics import f1_score

import demega_jax
from demega_jax.evaluation.report.confusion import draw_confusion
from demega_jax.evaluation.report.curves import draw_training
from demega_jax.evaluation.report.f1 import draw_f1
from demega_jax.evaluation.report.features import draw_features
from demega_jax.evaluation.report.figure import new_figure, plain, save_figure, stamp
from demega_jax.evaluation.report.folder import write_folder
from demega_jax.evaluation.report.intervals import score_intervals
from demega_jax.evaluation.report.levels import draw_levels
from demega_jax.evaluation.report.reliability import draw_reliability
from demega_jax.metrics import Calibration, scores
from demega_jax.phonemes import FEATURES, feature_table

TWO = scores(np.array([[3, 1], [2, 2]]), ("left", "right"), calibration=Calibration(*np.ones((3, 15), int)))


def texts(figure: Figure) -> list[Text]:
    """Everything that is written in a figure and can be seen."""
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def bars(figure: Figure) -> list[float]:
    """The lengths of the horizontal bars, in their order."""
    return [patch.get_width() for patch in figure.axes[0].patches]


DRAWN = {
    "f1": lambda: draw_f1(full_scores(), np.zeros((39, 2))),
    "f1 of two": lambda: draw_f1(TWO, np.zeros((2, 2))),
    "confusion": lambda: draw_confusion(full_scores()),
    "confusion of two": lambda: draw_confusion(TWO),
    "reliability": lambda: draw_reliability(full_scores().calibration),
    "features": lambda: draw_features(full_scores()),
    "levels": lambda: draw_levels({5: (0.2, 0.1, 0.3), 100: (0.7, 0.6, 0.8)}, chance=1 / 39, references={5: 0.5}),
    "curves": lambda: draw_training(
        [[{"step": 3, "split": "train", "loss": 1.0}]], "a" * 60, chance=1 / 39, reference=1
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_is_cut_off_and_the_stamp_covers_nothing(name):
    figure = DRAWN[name]()
    stamp(figure, "runs/with-a-long-name/on-a-long-path on the validation split of simulated data; " * 3)
    figure.canvas.draw()
    (stamped,) = [text.get_window_extent() for text in figure.texts if text.get_rotation() == 90]
    others = [*figure.axes, *figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert not [each for each in others if each.get_tightbbox().overlaps(stamped)]
    box = figure.get_tightbbox()  # in inches, of everything that is drawn
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_bars_are_the_f1_of_scikit_learn_in_phonetic_order():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 200)
    said = np.where(rng.random(200) < 0.5, label, rng.integers(0, 4, 200))
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (label, said), 1)
    names = ("iy", "m", "b", "p")
    found = scores(counts, names)
    figure = draw_f1(found, score_intervals(counts).f1)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["p", "b", "m", "iy"]
    np.testing.assert_allclose(bars(figure), f1_score(label, said, average=None)[[3, 2, 1, 0]])
    rows = [int(text.get_text()) for text in figure.axes[0].child_axes[0].get_yticklabels()]
    assert rows == np.bincount(label)[[3, 2, 1, 0]].tolist()
    assert any("1/4 = 0.250" in text.get_text() for text in texts(figure))


def test_confusion_is_a_picture_of_the_shares_of_each_row():
    figure = draw_confusion(scores(np.array([[3, 1, 0], [5, 5, 0], [0, 0, 0]]), ("a", "b$", "c")))
    (image,) = figure.axes[0].images
    np.testing.assert_allclose(image.get_array().filled(np.nan), [[0.75, 0.25, 0], [0.5, 0.5, 0], [np.nan] * 3])


def test_confusion_of_phonemes_is_in_phonetic_order():
    counts = np.array([[9, 1, 0], [2, 6, 0], [0, 0, 4]])
    figure = draw_confusion(scores(counts, ("iy", "p", "b")))
    (image,) = figure.axes[0].images
    np.testing.assert_allclose(image.get_array(), [[6 / 8, 0, 2 / 8], [0, 1, 0], [1 / 10, 0, 9 / 10]])
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["p", "b", "iy"]


def test_reliability_shows_accuracy_and_confidence_of_each_bin():
    rows, right = np.array([0, 10, 30]), np.array([0, 4, 27])
    figure = draw_reliability(Calibration(rows, right, np.array([0.0, 5.0, 24.0])))
    accuracy, gap = figure.axes[0].patches[:2], figure.axes[0].patches[2:]
    np.testing.assert_allclose([bar.get_height() for bar in accuracy], [0.4, 0.9])
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in gap], [0.5, 0.8])
    np.testing.assert_allclose([bar.get_height() for bar in figure.axes[1].patches], [0, 0.25, 0.75])
    assert "ECE 0.100" in figure.axes[0].get_title()  # (|4 - 5| + |27 - 24|) / 40


def test_features_are_those_of_the_predicted_phoneme():
    """Of 4 p, 3 are called b, which differs in voice alone; m is always called m."""
    found = scores(np.array([[1, 3, 0], [0, 0, 0], [0, 0, 6]]), ("p", "b", "m"))
    accuracy = dict(zip(FEATURES, bars(draw_features(found)), strict=True))
    assert accuracy["voice"] == pytest.approx(0.7)
    assert all(value == 1 for name, value in accuracy.items() if name != "voice")
    marks = draw_features(found).axes[0].collections[0].get_segments()
    voiced = feature_table(("p", "b", "m"))[:, FEATURES.index("voice")]
    assert marks[FEATURES.index("voice")][0][0] == pytest.approx(max(6, 4) / 10) and voiced.tolist() == [0, 1, 1]
    assert draw_features(TWO) is None


def test_levels_are_drawn_in_order_with_their_intervals():
    figure = draw_levels({100: (0.7, 0.6, 0.75), 5: (0.2, 0.1, 0.3)}, chance=0.25)
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [5, 100] and line.get_ydata().tolist() == [0.2, 0.7]
    np.testing.assert_allclose(
        figure.axes[0].collections[0].get_segments(), [[[5, 0.1], [5, 0.3]], [[100, 0.6], [100, 0.75]]]
    )
    with pytest.raises(ValueError, match="no level"):
        draw_levels({})


@pytest.mark.parametrize("text", ["runs/first on test", "runs/$a$ " + "long/" * 40])
def test_a_stamp_covers_nothing_and_is_not_cut_off(text):
    """Everything else ends left of it, and it lies within the figure."""
    figure = draw_reliability(full_scores().calibration)
    stamp(figure, text)
    figure.draw_without_rendering()
    (found,) = figure.texts
    box = found.get_window_extent()
    others = [axes.get_tightbbox() for axes in figure.axes] + [each.get_window_extent() for each in figure.legends]
    assert max(other.x1 for other in others) <= box.x0
    assert box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    assert found.get_text().replace("\n", "").replace(" ", "") == text.replace("$", r"\$").replace(" ", "")


def test_the_figures_of_a_folder_say_where_they_come_from(tmp_path):
    figure = draw_confusion(TWO)
    write_folder(tmp_path, {"confusion": figure}, {"confusion": ""}, {"confusion": ""}, lambda pictures: "", of="a run")
    said = figure.texts[0].get_text().replace("\n", " ")
    facts = ("a run", demega_jax.__version__, datetime.date.today().isoformat(), f"{os.cpu_count()} cores")
    assert all(fact in said for fact in facts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.png", "index.html"]


@pytest.mark.parametrize(
    ("ending", "first"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_the_ending_decides_and_the_same_figure_gives_the_same_bytes(tmp_path, ending, first):
    made = [save_figure(draw_confusion(TWO), tmp_path / f"{name}.{ending}").read_bytes() for name in "ab"]
    assert made[0].startswith(first) and made[0] == made[1]
    if ending == "svg":
        assert not re.search(rb"href=.http|@import|<text", made[0])  # no network, no fonts of another machine
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{ending}", f"b.{ending}"]


def test_dots_per_inch(tmp_path):
    assert imread(save_figure(new_figure(2, 1), tmp_path / "a.png", dpi=300)).shape[:2] == (300, 600)


def test_an_ending_that_is_not_known_is_refused(tmp_path):
    with refused("ending", ".png", ".svg", ".pdf", where=tmp_path / "a.jpg"):
        save_figure(new_figure(1, 1), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_names_are_never_formulas_and_never_too_long():
    figure = draw_confusion(scores(np.eye(2, dtype=int), ("$x^2$", "n" * 50)))
    figure.canvas.draw()
    shown = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert shown == [r"\$x^2\$", "n" * 19 + "…"] and plain("aa") == "aa"
    assert set(PHONEMES) == {plain(name) for name in PHONEMES}
