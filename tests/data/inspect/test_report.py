"""`inspect`. What is printed and written, and what is no data at all."""

import json
import shutil
from pathlib import Path

import numpy as np
from helpers.errors import assert_facts
from helpers.runs import inspect

from demega_jax.data.inspect.folder import inspect_data
from demega_jax.data.inspect.report import plain


def test_folders_by_any_name_and_empty_ones(simulated, tmp_path, capsys):
    shutil.copytree(simulated / "grouped_2", tmp_path / "mine")
    assert [report.path.name for report in inspect_data(tmp_path / "mine")][0] == "train_grouped.h5"
    (tmp_path / "grouped_9").mkdir()
    status, _, err = inspect(capsys, tmp_path / "grouped_9")
    assert status == 2
    assert_facts(err, tmp_path / "grouped_9", ".h5", "manifest.json")


def test_what_is_neither_data_nor_a_run(tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    status, out, err = inspect(capsys, tmp_path / "letters", tmp_path / "absent")
    assert status == 2 and err.startswith("error: ")
    assert_facts(out, "a.txt", "no such file")
    assert_facts(err, tmp_path / "letters", "a.txt", "1 more")


def test_output_fits_80_columns_and_says_what_matters(simulated, whole_tree, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = inspect(capsys, simulated, whole_tree)
    assert status == 0 and err == ""
    lines = [line for line in out.splitlines() if not line.startswith("/")]  # headings are long paths
    assert max(map(len, lines)) <= 80 and "…" not in out
    assert out.count("█") > 39 and out.count("batches read in order hold few classes") == 6
    (most,) = [line for line in lines if " ah " in line and "█" in line][:1]
    assert "█" * 20 in most  # the most frequent phoneme has the longest bar


def test_json_is_strict_and_holds_all(simulated, tmp_path, capsys):
    target = tmp_path / "new" / "all.json"
    assert inspect(capsys, simulated, "--json", target)[0] == 0

    def refuse(name: str) -> None:
        raise AssertionError(name)

    content = json.loads(target.read_text(), parse_constant=refuse)
    assert content["sound"] and content["format"] == 1
    assert [Path(report["path"]).name for report in content["reports"]][:3] == [
        f"{split}_grouped.h5" for split in ("train", "validation", "test")
    ]
    assert sum(content["reports"][0]["facts"]["counts"]) == 120
    assert [found["levels"] for found in content["comparisons"]] == [[2, 4]] * 3
    assert [path.name for path in target.parent.iterdir()] == ["all.json"]
    assert plain({"a": np.float32("nan"), "b": (np.int64(3), float("inf")), 3: Path("x")}) == {
        "a": None,
        "b": [3, None],
        "3": "x",
    }


def test_json_that_cannot_be_written(simulated, tmp_path, capsys):
    (tmp_path / "file").touch()
    status, _, err = inspect(capsys, simulated / "grouped_2", "--json", tmp_path / "file" / "a.json")
    assert status == 2
    assert_facts(err, "cannot be written")
