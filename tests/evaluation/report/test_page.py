"""The page: all numbers are on it, it needs nothing else, and names from outside stay text."""

import base64
import dataclasses
import re
from html import unescape

import numpy as np
import pytest
from helpers.pages import Page
from helpers.scores import full_scores

from demega_jax.evaluation.baseline import prior_baseline
from demega_jax.evaluation.ensemble import Disagreement
from demega_jax.evaluation.ensemble_report import EnsembleReport, Score
from demega_jax.evaluation.report.html import Picture
from demega_jax.evaluation.report.intervals import score_intervals
from demega_jax.evaluation.report.page import Content, page_of
from demega_jax.evaluation.statistics import Interval
from demega_jax.metrics import scores

HOSTILE = '<script src="http://example.org/x.js">&'


def content(what, ensemble=None, title="runs/x on test", config="model:\n  width: 8\n"):
    pictures = [Picture("f1", b"<svg/>", 5, "bars", "F1 of each class.")]
    intervals = score_intervals(what.confusion, what.right_at_10)
    return Content(title, ["test split"], what, intervals, ensemble, "mean", pictures, config)


def test_scores_of_all_classes_with_intervals_and_chance():
    what = full_scores()
    page = Page(page_of(content(what)))
    rows = {row[0]: row[1:] for row in page.rows}
    intervals = score_intervals(what.confusion)
    assert rows["macro-F1"] == [f"{what.macro_f1:.4f}", str(intervals.macro_f1), f"{1 / 38:.4f}"]
    assert rows["balanced accuracy at 10"][::2] == [f"{what.balanced_accuracy_at_10:.4f}", f"{10 / 39:.4f}"]
    assert rows["accuracy"][2] == f"{what.support.max() / what.rows:.4f}"
    assert rows["ECE, expected calibration error"][0] == f"{what.calibration.ece:.4f}"
    assert rows["reference macro-F1 (best possible)"][0] == "0.4500" and rows["class loss (nats)"][0] == "2.2500"
    index = what.classes.index("sh")
    assert rows["sh"][:2] == [str(what.support[index]), f"{what.f1[index]:.2f}"]
    assert rows["zh"] == ["0", "-", "–", "-", "-", ""]
    assert set(what.classes) <= set(rows)


def test_the_scores_without_brain_data_stand_beside_those_of_the_model():
    what = full_scores()
    without = prior_baseline(np.arange(1, 40), what)
    rows = {row[0]: row[1:] for row in Page(page_of(dataclasses.replace(content(what), baseline=without))).rows}
    most = what.support[38]  # the class that training has most
    assert float(rows["macro-F1"][3]) == pytest.approx(
        2 * most / (most + what.rows) / (what.support > 0).sum(), abs=1e-4
    )
    assert float(rows["accuracy"][3]) == pytest.approx(most / what.rows, abs=1e-4)
    assert rows["class loss (nats)"][3] == "\N{EN DASH}"


def test_the_page_needs_no_other_file_and_no_network():
    page = page_of(content(full_scores()))
    found = Page(page)
    assert [address.partition(",")[0] for address in found.addresses] == ["data:image/svg+xml;base64"]
    assert base64.b64decode(found.addresses[0].partition(",")[2]) == b"<svg/>"
    assert not {"script", "link", "iframe"} & set(found.tags) and not re.search(r"https?:|@import|url\(", page)


def test_names_from_outside_stay_text():
    what = scores(np.eye(2, dtype=int), (HOSTILE, "$title"))
    page = page_of(content(what, title=f"{HOSTILE} $config", config=HOSTILE))
    found = Page(page)
    assert "script" not in found.tags and len(found.addresses) == 1
    assert [row[0] for row in found.rows[-2:]] == [HOSTILE, "$title"]
    assert f"{HOSTILE} $config" in unescape(page)


def test_models_and_ensembles_are_listed_and_the_chosen_one_is_marked():
    score = Score(0.5, Interval(0.4, 0.6))
    members = {"a": score, "b": Score(0.7, Interval(0.6, 0.8))}
    report = EnsembleReport(members, {"mean": score, "vote": score}, "vote", Disagreement(0.1, 0.8, 0.9), None)
    page = page_of(content(full_scores(), report))
    rows = {row[0]: row[1:] for row in Page(page).rows}
    assert rows["a"] == ["0.5000", "0.400 .. 0.600"]
    assert rows["mean of models"] == ["0.6000", "sd 0.1414"]  # |0.7 - 0.5| / sqrt(2)
    assert re.findall(r'class="chosen"><td>([^<]*)', page) == ["ensemble: mean"]
