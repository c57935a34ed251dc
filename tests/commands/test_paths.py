"""Paths that cannot be used, in every command: too long, a file for a folder, a folder for a file, a FIFO, a device."""

import errno
import os
import subprocess
import time
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.data import grouped_path, write_grouped
from helpers.errors import fails_with, refused
from helpers.runs import files_in, process

from demega_jax.config import Config
from demega_jax.training.run import RunFolder

LONG = "n" * 300
TINY = ROOT / "configs" / "tiny.yaml"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with the data folder D, the run folder R, a file, a folder and a FIFO."""
    import numpy as np

    x = np.ones((6, 3, 5), np.float32)
    for split in ("train", "validation"):
        write_grouped(grouped_path(tmp_path / "D", 5, split), x, np.arange(6), level=5)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text\n")
    os.mkfifo(tmp_path / "fifo")
    RunFolder(tmp_path / "R").create(Config.model_validate({"data": {"path": str(tmp_path / "D"), "level": 5}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# {p}: a path that cannot be used. The first list needs a file to read there, the second a folder to read, the third a
# folder to write into, the fourth a file to write.
FILES = [
    "train {p} --data D",
    "sweep {p} --data D",
    "stack {p} --data D --run new --level 5,10",
    "benchmark --config {p}",
    "group rec new --level 5 --splits {p}",
    "group rec new --level 5 --classes-file {p}",
    "submit --check {p}",
    "submit R --holdout {p} --output new.csv",
    "import-torch {p} new",
    "push R a/b --dry-run --scores {p}",
]
FOLDERS = [
    "train {tiny} --data {p}",
    "train {tiny} --data D --init {p}",
    "train --resume --run {p}",
    "sweep {tiny} --data {p}",
    "stack --base {p} --base R --run new",
    "evaluate {p}",
    "evaluate R --data {p}",
    "report {p}",
    "report R --data {p}",
    "compare {p} --against R",
    "compare R --against {p}",
    "audit {p}",
    "audit R --data {p}",
    "submit {p} --holdout file --output new.csv",
    "predict {p} --input D --output new.csv",
    "export-torch {p} new.safetensors",
    "group {p} new --level 5",
    "import-bids {p} new",
    "shard {p} new",
    "push {p} a/b --dry-run",
    "benchmark --data {p}",
]
NEW_FOLDERS = [
    "simulate {p} --level 5 --groups 8",
    "simulate {p} --recordings --minutes 3",
    "group D {p} --level 5",
    "shard D {p}",
    "download {p} --level 5",
    "train {tiny} --data D --run {p}",
    "sweep {tiny} --data D --run {p}",
    "import-bids D {p}",
    "pull a/b {p}",
    "benchmark --target v5e --dump {p}",
    "stack --base R --base R --run {p}",
    "import-torch file {p}",
]
NEW_FILES = [
    "evaluate R --json {p}",
    "audit R --json {p}",
    "compare R --against R2 --json {p}",
    "inspect D --json {p}",
    "predict R --input D --output {p}",
    "submit R --holdout file --output {p}",
    "benchmark --json {p}",
    "sweep {tiny} --data D --json {p}",
    "stack --base R --base R --run new --json {p}",
]
CASES = [
    *((line, wrong) for line in FILES for wrong in (LONG, "folder", "fifo", "/dev/zero", "file/x")),
    *((line, wrong) for line in FOLDERS for wrong in (LONG, "file", "fifo", "/dev/zero", "file/x")),
    *(
        (line, wrong)
        for line in NEW_FOLDERS
        for wrong in (LONG, "file", "fifo", "/dev/zero", "file/x", "folder/" + LONG)
    ),
    *((line, wrong) for line in NEW_FILES for wrong in (LONG, "folder", "file/x", "folder/" + LONG)),
]


@pytest.mark.parametrize(("line", "wrong"), CASES, ids=lambda text: text[:40])
def test_it_is_one_line_at_once_and_nothing_is_written(place, capsys, line, wrong):
    os.makedirs("rec", exist_ok=True)
    os.makedirs("R2", exist_ok=True)
    before, began = files_in(place), time.perf_counter()
    fails_with(capsys, line.format(p=wrong, tiny=TINY).split())
    assert files_in(place) == before and time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "words",
    [
        ["train", TINY, "--data", ""],
        ["train", "", "--data", "D"],
        ["inspect", ""],
        ["simulate", "", "--level", "5"],
        ["evaluate", "R", "--json="],
        ["shard", "D", ""],
        ["train", TINY, "--data", "D", "--run", ""],
    ],
)
def test_an_empty_word_is_not_the_working_folder(place, capsys, words):
    """Such as a variable of the shell that is not set."""
    fails_with(capsys, words, "empty", "variable")


def test_a_run_folder_whose_name_is_no_text(place):
    """The library of the checkpoints has no such paths."""
    with refused("UTF-8", "--run"):
        RunFolder(Path(os.fsdecode(b"sur\xff"))).create(Config())


def test_a_name_that_is_no_text_is_printed_as_a_code(place):
    """Whatever the terminal can show."""
    name = os.fsdecode(b"sur\xff")
    os.rename("D", name)
    for encoding in ("ascii", "utf-8"):
        env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(process("inspect", name), env=env, capture_output=True, check=False)
        assert b"sur\\udcff/grouped_5" in done.stdout and b"Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", [LONG, "fifo", "/dev/zero", "none"])
def test_inspect_says_what_is_there(place, capsys, name):
    assert name[:60] in fails_with(capsys, ["inspect", name])


def test_a_run_folder_that_holds_only_an_empty_report_is_used(place, capsys):
    """A training run that is ended before it has its configuration leaves it; and it is not one to resume."""
    (place / "new" / "report").mkdir(parents=True)
    fails_with(capsys, ["train", "--resume", "--run", "new"], "config.yaml", "another folder")
    RunFolder(Path("new")).create(Config())
    assert RunFolder(Path("new")).read_config() == Config()
    (place / "other" / "report").mkdir(parents=True)
    (place / "other" / "report" / "figure.png").write_text("")
    assert "--resume" not in fails_with(capsys, ["train", TINY, "--data", "D", "--run", "other"], "not empty", "--run")
    assert "--resume" in fails_with(capsys, ["train", TINY, "--data", "D", "--run", "R"], "not empty")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.EIO])
def test_what_a_file_system_refuses_anywhere_is_one_line(place, capsys, monkeypatch, number):
    """Also where no command looks for it. A bug is no such error, and keeps its traceback."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "D/grouped_5")

    monkeypatch.setattr("demega_jax.data.inspect.folder.inspect_data", refuse)
    fails_with(capsys, ["inspect", "D"], "D/grouped_5", os.strerror(number))
    monkeypatch.setattr("demega_jax.data.inspect.folder.inspect_data", lambda *_: os.close(-1))
    with pytest.raises(OSError, match="descriptor"):
        fails_with(capsys, ["inspect", "D"])
