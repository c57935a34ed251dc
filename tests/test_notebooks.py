"""The notebooks in examples/ run from their first cell to their last, and are committed without outputs."""

import json
from pathlib import Path

import pytest
from helpers import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_committed(path):
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def run(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The names that the code cells define, run one after the other in a folder."""
    monkeypatch.chdir(folder)
    names: dict = {}
    for cell in cells(path):
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102  (our own notebooks)
    return names


@pytest.mark.slow(seconds=20)
def test_own_data(tmp_path, monkeypatch, capsys):
    names = run(ROOT / "examples" / "own_data.ipynb", tmp_path, monkeypatch)
    scores = names["found"].scores
    assert scores.chance == 0.25 and abs(scores.rows - 50) <= 4  # an eighth of each class
    assert scores.macro_f1 > 0.5  # the patterns are there to be found
    assert names["predicted"].probabilities.shape == (3, 4)
    assert "best step" in capsys.readouterr().out


@pytest.mark.slow(seconds=20)
@pytest.mark.long
def test_recordings_to_report(tmp_path, monkeypatch):
    names = run(ROOT / "examples" / "recordings_to_report.ipynb", tmp_path, monkeypatch)
    assert names["found"].report == Path("runs/recordings/report/index.html")
    assert (tmp_path / "runs/recordings/report/index.html").is_file()
    assert names["scores"].confusion.sum() == names["scores"].rows > 0
