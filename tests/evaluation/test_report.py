"""Tables that fit a terminal and say what was counted; charts that bear any number of points."""

import io
import json

import numpy as np
import pytest
from helpers.errors import refused
from matplotlib.image import imread
from rich.console import Console

from demega_jax.evaluation.report import plot_confusion, plot_training_curve, print_scores
from demega_jax.metrics import Scores

PHONEMES = (
    "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh".split()
)


def full_scores():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 300, (39, 39)) + np.diag(rng.integers(10_000, 90_000, 39))
    counts[38] = 0  # no zh in this split
    features = {f"feature{i}": 0.5 + i / 100 for i in range(14)}
    return Scores(
        counts, PHONEMES, loss=2.25, ipa_accuracy=0.8125, ipa_feature_accuracy=features, reference_macro_f1=0.45
    )


def printed(what, **options):
    out = io.StringIO()
    print_scores(what, title="validation of runs/x", console=Console(file=out, width=80, **options))
    return out.getvalue()


def test_39_phonemes_fit_80_by_50_and_pipes_get_no_colour_codes():
    what = full_scores()
    text = printed(what)
    lines = text.splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text and "…" not in text
    for name in PHONEMES:
        assert sum(f" {name} " in f" {line}" for line in lines) >= 1
    for value in (f"{what.macro_f1:.4f}", f"{what.balanced_accuracy:.4f}", f"{1 / 38:.4f}", f"{what.rows:,}", "2.2500",
                  "0.8125", f"0.4500 ({what.macro_f1 - 0.45:+.4f})", "feature13 0.630"):  # fmt: skip
        assert value in text
    assert "\x1b[" in printed(what, force_terminal=True)


def test_a_line_gives_support_scores_and_the_most_frequent_mistake():
    # By hand: aa has 10 rows, 6 right, 3 taken for b; 12 rows are called aa.
    text = printed(Scores(np.array([[6, 1, 3], [2, 8, 0], [4, 0, 0]]), ("aa", "ae", "b")))
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["aa"] == ["aa", "10", "0.55", "0.50", "0.60", "b", "30%"]
    assert rows["ae"] == ["ae", "10", "0.84", "0.89", "0.80", "aa", "20%"]
    assert rows["b"] == ["b", "4", "0.00", "0.00", "0.00", "aa", "100%"]
    assert "loss" not in text and "reference" not in text and "IPA" not in text


def test_a_class_without_rows_shows_dashes_and_a_perfect_one_no_mistake():
    rows = printed(Scores(np.diag([5, 0]), ("aa", "zh"))).splitlines()
    assert any(line.split() == ["zh", "0", "-", "-", "-"] for line in rows)
    assert any(line.split() == ["aa", "5", "1.00", "1.00", "1.00"] for line in rows)


def train(step, loss):
    return {"step": step, "epoch": step / 10, "split": "train", "loss": loss, "class_loss": loss}


def validation(step, macro_f1):
    return {
        "step": step, "epoch": step / 10, "split": "validation", "loss": 2.0, "macro_f1": macro_f1,
        "balanced_accuracy": macro_f1, "accuracy": macro_f1,
    }  # fmt: skip


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


def test_a_curve_of_no_file_is_refused_and_leaves_nothing(tmp_path):
    with refused("no such file", where=tmp_path / "metrics.jsonl"):
        plot_training_curve(tmp_path / "metrics.jsonl", tmp_path / "c.png", title="", chance=None, reference=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", [full_scores(), Scores(np.eye(2, dtype=int), ("a", "b"))], ids=["39", "2"])
def test_confusion_is_a_picture(tmp_path, what):
    png = plot_confusion(what, tmp_path / "confusion.png")
    height, width, _ = imread(png).shape
    assert width > height > 300
    assert [p.name for p in tmp_path.iterdir()] == ["confusion.png"]


def test_confusion_shows_shares_of_each_row(tmp_path, monkeypatch):
    shown = []
    from matplotlib.axes import Axes

    real = Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda axes, x, **options: shown.append(x) or real(axes, x, **options))
    plot_confusion(Scores(np.array([[3, 1, 0], [5, 5, 0], [0, 0, 0]]), ("a", "b", "c")), tmp_path / "c.png")
    np.testing.assert_allclose(shown[0], [[0.75, 0.25, 0], [0.5, 0.5, 0], [np.nan] * 3])


def test_a_picture_that_cannot_be_written(tmp_path):
    source = tmp_path / "metrics.jsonl"
    source.write_text(json.dumps(train(1, 3.0)) + "\n")
    (tmp_path / "report").write_text("a file where the folder would be")
    with refused("c.png", "cannot be written"):
        plot_training_curve(source, tmp_path / "report" / "c.png", title="", chance=None, reference=None)
