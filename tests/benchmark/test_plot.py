"""The pictures of a benchmark: every measured step is a dot, and the points of the roofline are named by level."""

import json

import numpy as np
import pytest
from helpers import ROOT

from demega_jax.benchmark import plot


@pytest.fixture
def drawn(monkeypatch):
    """The figure of a result, and the committed result that it is of."""
    found = json.loads((ROOT / "benchmarks/results/benchmark_cpu.json").read_text())
    monkeypatch.setattr(plot, "save_figure", lambda figure, path, write: figure)

    def draw(change=lambda cases: None):
        change(found["cases"])
        return plot.plot_result(found, ROOT), found

    return draw


def points_named(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text().startswith("K ")]


def test_every_step_is_a_dot_and_the_line_goes_through_medians(drawn):
    figure, found = drawn()
    median, *dots = figure.axes[0].lines
    assert len(dots) == len(found["cases"]) == 3
    for case, line in zip(found["cases"], dots, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), case["step_seconds"]["all"])
    np.testing.assert_allclose(median.get_ydata(), [np.median(case["step_seconds"]["all"]) for case in found["cases"]])
    title = figure.get_suptitle()
    assert all(fact in title for fact in ("AMD EPYC, 2 cores", "2026-11-25", "n = 15 to 16 steps", "306 x 125"))


def test_points_of_the_roofline_are_named_together_where_they_lie_on_each_other(drawn):
    assert points_named(drawn()[0]) == ["K 5, 20, 100"]

    def apart(cases):
        cases[2]["flops_per_second"] *= 1.5  # 0.18 decades

    assert points_named(drawn(apart)[0]) == ["K 5, 20", "K 100"]
