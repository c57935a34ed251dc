"""Tables that fit a terminal and say what was counted."""

import io
import re

import numpy as np
import pytest
from helpers.scores import PHONEMES, full_scores
from rich.console import Console

from demega_jax.evaluation.report.tables import print_scores
from demega_jax.metrics import scores


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
    for value in (
        f"{what.macro_f1:.4f}",
        f"{what.balanced_accuracy:.4f}",
        f"{1 / 38:.4f}",
        f"{what.rows:,}",
        "2.2500",
        "0.8125",
        f"0.4500 ({what.macro_f1 - 0.45:+.4f})",
        "diphthong 0.630",
    ):
        assert value in text
    assert re.search(rf"balanced accuracy at 10 +{what.balanced_accuracy_at_10:.4f}", text)
    assert "\x1b[" in printed(what, force_terminal=True)


def test_a_line_gives_support_scores_and_the_most_frequent_mistake():
    # By hand: aa has 10 rows, 6 right, 3 taken for b; 12 rows are called aa.
    text = printed(scores(np.array([[6, 1, 3], [2, 8, 0], [4, 0, 0]]), ("aa", "ae", "b")))
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["aa"] == ["aa", "10", "0.55", "0.50", "0.60", "b", "30%"]
    assert rows["ae"] == ["ae", "10", "0.84", "0.89", "0.80", "aa", "20%"]
    assert rows["b"] == ["b", "4", "0.00", "0.00", "0.00", "aa", "100%"]
    assert "loss" not in text and "reference" not in text and "IPA" not in text


def test_a_class_without_rows_shows_dashes_and_a_perfect_one_no_mistake():
    rows = printed(scores(np.diag([5, 0]), ("aa", "zh"))).splitlines()
    assert any(line.split() == ["zh", "0", "-", "-", "-"] for line in rows)
    assert any(line.split() == ["aa", "5", "1.00", "1.00", "1.00"] for line in rows)


def test_the_summary_comes_last():
    lines = [line for line in printed(full_scores()).splitlines() if line.strip()]
    title = lines.index("validation of runs/x")
    assert len(lines) - title <= 6 and "macro-F1" in lines[title + 1]
    assert not any("seen as" in line for line in lines[title:])


@pytest.mark.parametrize("count", [3, 20])
def test_long_names_are_whole(count):
    names = tuple(f"a_class_with_a_long_name_{number}" for number in range(count))
    text = printed(scores(np.ones((count, count), int), names))
    assert all(text.count(name) >= 1 for name in names) and "…" not in text
