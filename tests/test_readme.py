"""The commands of the README and of docs/ are those of the program, and run, in their order, with small windows and as
they stand.

The outputs that they show are those that docs/readme_outputs.py wrote: unchanged, and of the current code. Their tables
of modelled figures are those of benchmarks/results.
"""

import importlib.util
import re
import shlex
import subprocess
import sys
from types import ModuleType

import jax
import numpy as np
import pytest
import typer
from helpers import ROOT, TINY_MODEL
from rich.console import Console

from demega_jax.benchmark.doctor import hub, self_test, software
from demega_jax.cli import build_app, main
from demega_jax.commands.shared.process import Process
from demega_jax.config.load import load_config, override, parse_overrides
from demega_jax.evaluation.baseline import baseline_table, prior_baseline
from demega_jax.evaluation.report.tables import print_scores
from demega_jax.metrics import scores
from demega_jax.phonemes import PHONEMES

SMALL_DATA = ["--sensors", "5", "--time-points", "9"]
# One schedule for all: its length is a constant of the compiled step, which they then share by the tests' cache.
SMALL_MODEL = [*TINY_MODEL, "train.batch_size=16", "train.log_every=4", "optim.schedule_length=18"]
DEMO = "make demo"
WITHOUT_PATHS = ("versions", "cores", "memory", "devices", "precision", "self-test")  # findings of `doctor`


def load_script(name: str) -> ModuleType:
    """A script of docs/, which no package holds."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


readme_outputs, readme_tables = load_script("readme_outputs"), load_script("readme_tables")
# The pages in the order in which a reader goes through them: their commands go on from each other.
PAGES = readme_outputs.PAGES
TEXT = "\n".join((ROOT / page).read_text() for page in PAGES)
OUTPUTS = {block.command: block for block in readme_outputs.blocks(TEXT)}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def commands() -> list[list[str]]:
    """The lines of the pages' shell blocks, less the two make commands."""
    whole = (block.replace("\\\n", " ") for block in blocks("bash"))
    lines = [line for block in whole for line in block.splitlines() if line.strip()]
    split = [shlex.split(line, comments=True) for line in lines]
    assert [words for words in split if words[0] == "make"] == [["make", "demo"], ["make", "test"]]
    return [words for words in split if words[0] != "make"]


def shown_commands() -> list[list[str]]:
    """Commands of this program that are shown and not run: above their output, or indented."""
    lines = [line.removeprefix("$ ") for block in blocks("text") for line in block.splitlines() if line[:2] == "$ "]
    lines += re.findall(r"^    (demega-jax .*)$", TEXT, re.MULTILINE)
    return [shlex.split(line) for line in lines if line.startswith("demega-jax ")]


def small(words: list[str]) -> list[str]:
    """A command on small windows and with a small model; what the README says still comes last, and so wins."""
    if words[1] == "simulate":
        fewer = [("48" if before == "--groups" else word) for before, word in zip(words, words[1:], strict=False)]
        return fewer if "--sensors" in words else fewer + SMALL_DATA
    if words[1] == "train":
        overrides = [w for w in words[3:] if re.match(r"\w+\.\w+=", w) and not w.startswith("model.")]
        kept = [w for w in words[1:] if not re.match(r"\w+\.\w+=", w)]
        return [*kept, *([] if "--devices" in words else ["--devices", "1"]), *SMALL_MODEL, *overrides]
    if words[1] == "sweep":
        one_seed = [*words[1 : words.index("--seeds") + 1], "1", *words[words.index("--seeds") + 2 :]]
        return [*one_seed, "--devices", "1", *SMALL_MODEL]
    if words[1] == "stack":
        return [*words[1:], "stack.epochs=2", "stack.folds=2", "stack.seeds=1", "stack.best=1", "stack.width=16"]
    if words[1] == "benchmark":
        return [*words[1:], "--devices", "1", "--steps", "3", *SMALL_MODEL, "model.sensors=5", "model.time_points=9"]
    return words[1:]


def test_every_command_has_options_and_keys_that_exist():
    """Each line is parsed as the program parses it; `make test-long` runs them."""
    app = typer.main.get_command(build_app())
    group = app.make_context("demega-jax", [], resilient_parsing=True)
    assert ["demega-jax", "doctor"] in shown_commands()
    for words in commands() + shown_commands():
        if words[0] == "demega-jax":
            command = app.get_command(group, words[1])
            assert command is not None, words
            command.make_context(words[1], words[2:], parent=group, obj=Process(tuple(words), False))
            overrides = [word for word in words[2:] if re.match(r"\w+\.\w+=", word)]
            configs = [word for word in words[2:] if word.startswith("configs/")]
            config = load_config(ROOT / (configs or ["configs/default.yaml"])[0])
            override(config, parse_overrides(overrides), "README.md")  # UserError: a key or a value that is not known


@pytest.mark.long
def test_every_command_with_small_windows(tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    for words in commands():
        if words[0] == "demega-jax":
            assert main(small(words)) == 0, words
        if words[1] == "group":
            assert "have no window" not in capsys.readouterr().err, words
    code = (
        blocks("python")[0].replace("306", "5").replace("125", "9").replace("runs/first", str(tmp_path / "runs/first"))
    )
    names: dict = {}
    exec(code, names)  # noqa: S102  (the README's own lines)
    assert names["probabilities"].shape == (4, 39)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "Makefile"])
def test_make_targets_that_pages_name_exist(page):
    named = set(re.findall(r"`make ([a-z0-9-]+)", (ROOT / page).read_text()))
    assert named <= make_targets()


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_files_that_pages_link_to_exist(page):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text())
    made = ["glossary.md"]  # by docs/build.py
    here = (ROOT / page).parent
    assert not [link for link in links if not (here / link).exists() and link not in made]


def test_every_output_is_marked_and_as_the_script_wrote_it():
    assert len(OUTPUTS) == TEXT.count("<!-- output of") == TEXT.count("<!-- end of output")
    for block in OUTPUTS.values():
        assert block.command.removeprefix("make ") in make_targets(), block.command
        assert readme_outputs.checksum(block.text) == block.checksum, f"changed by hand: {block.command}; make readme"
    unmarked = readme_outputs.BLOCK.sub("", TEXT)
    fenced = re.findall(r"^```(\w*)\n(.*?)^```\n", unmarked, re.DOTALL | re.MULTILINE)
    assert not [text for language, text in fenced if not language and not text.startswith("demega-jax ")]


def test_tables_of_modelled_figures_are_those_of_the_files():
    assert set(readme_tables.TABLES) == set(re.findall(r"<!-- table: (\w+) -->", TEXT))
    page = readme_tables.PAGE.read_text()
    assert readme_tables.written(page) == page, "a table is not what its file says: python docs/readme_tables.py"


def test_memory_and_epoch_of_a_level_by_hand():
    """At level 100, 16,000 windows of 306 x 125 numbers of 4 bytes beside 7 GB; at level 20, 80,000 of 2 bytes, and 157
    steps of 512 rows in an epoch."""
    window = 306 * 125
    case = {
        "feed_memory_bytes": 16_000 * window * 4,
        "memory_bytes": 16_000 * window * 4 + 7_000_000_000,
        "batch_size": 512,
        "modelled_step_ms": 10.0,
    }
    assert readme_tables.memory_at(case, 20, "float16") == 80_000 * window * 2 + 7_000_000_000
    assert readme_tables.epoch_at(case, 20) == pytest.approx(1.57)


def numbers_left_out(lines: list[str]) -> list[list[str]]:
    """The words of lines, without what has a digit in it."""
    return [[word for word in line.split() if not re.search(r"\d", word)] for line in lines]


def test_demo_output_has_the_form_that_the_code_prints():
    """Head of the table, title, summary and baseline word for word; between them the phonemes in their order."""
    confusion = np.eye(len(PHONEMES), dtype=np.int32)
    known = {"right_at_10": np.diagonal(confusion), "loss": 1.0, "ipa_accuracy": 1.0, "reference_macro_f1": 1.0}
    made_up = scores(confusion, PHONEMES, **known)
    console = Console(width=80, record=True)
    print_scores(made_up, title="demo/run on test, step 0", console=console)
    most = np.where(np.array(PHONEMES) == "ah", 2, 1)  # rows of each class in train
    baseline = prior_baseline(most, made_up)
    assert baseline is not None
    console.print(baseline_table(baseline, made_up))
    block = OUTPUTS[DEMO]
    printed = readme_outputs.lines_between(console.export_text(), block.first, block.last)
    foot = next(number for number, line in enumerate(printed) if line.startswith("seen as"))
    assert numbers_left_out(block.lines[:2]) == numbers_left_out(printed[:2])
    left = [[line.split()[0] for line in lines[2:foot]] for lines in (block.lines, printed)]
    assert left[0] == left[1]
    assert block.lines[foot] == printed[foot]
    assert numbers_left_out(block.lines[foot + 1 :]) == numbers_left_out(printed[foot + 1 :])


def test_demo_output_agrees_with_itself():
    """macro-F1 and balanced accuracy are the means of the table's columns; its rows add up."""
    text = "\n".join(OUTPUTS[DEMO].lines)
    table = re.findall(r"\b([a-z]{1,2}) +(\d+) (\d\.\d\d) \d\.\d\d (\d\.\d\d)", text)
    names, rows, f1, recall = zip(*table, strict=True)
    assert sorted(names) == sorted(PHONEMES)

    def shown(name: str) -> float:
        found = re.search(rf"(?<!reference ){re.escape(name)} +([\d.]+)", text)
        assert found
        return float(found.group(1))

    assert sum(map(int, rows)) == shown("rows")
    assert np.mean(list(map(float, f1))) == pytest.approx(shown("macro-F1"), abs=0.005)
    assert np.mean(list(map(float, recall))) == pytest.approx(shown("balanced accuracy"), abs=0.005)
    assert shown("chance") == pytest.approx(1 / len(PHONEMES), abs=5e-5)


def findings(text: str) -> dict[tuple[str, str], str]:
    """{(grade, name): what was found and what to do} of the output of `doctor` at 80 columns."""
    found: dict[tuple[str, str], str] = {}
    last = ("", "")
    for line in text.splitlines():
        if not line.startswith(" "):
            last = (line[:9].strip(), line[9:20].strip())
        found[last] = f"{found.get(last, '')} {line[20:]}".strip()
    return found


def test_doctor_output_has_the_form_that_the_code_prints(tmp_path, monkeypatch, capsys):
    """Every finding in its order, word for word but for numbers; where there is a path, its name and grade alone."""
    (shown,) = (block for block in blocks("text") if block.startswith("$ demega-jax doctor\n"))
    wanted = findings(shown.partition("\n")[2])
    for level in (20, 100):
        (tmp_path / "data" / f"grouped_{level}").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name in software.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    right = self_test.Result(self_test.EXPECTED, 6e-7, self_test.TOLERANCE["cpu"])
    monkeypatch.setattr(self_test, "run", lambda group: right)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    monkeypatch.setattr(hub, "_asked", lambda repo: hub.Finding("hub", "warning", "unknown", "Check the network."))
    assert main(["doctor"]) == 0
    printed = findings(capsys.readouterr().out)
    assert list(printed) == list(wanted)
    ours, theirs = (
        [numbers_left_out([text]) for (_, name), text in each.items() if name in WITHOUT_PATHS]
        for each in (wanted, printed)
    )
    assert ours == theirs and len(ours) == len(WITHOUT_PATHS)
    losses = [float(word) for word in re.findall(r"\d\.\d{5}", wanted["ok", "self-test"])]
    np.testing.assert_allclose(losses, self_test.EXPECTED, rtol=self_test.TOLERANCE["cpu"])


@pytest.mark.long
def test_demo_prints_what_the_readme_shows(tmp_path):
    """On the machine and with the versions that the README names, every line; elsewhere what no rounding changes."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    recipe = subprocess.run(["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [shlex.split(line) for line in recipe.splitlines() if re.match(r"\S*/demega-jax ", line)]
    assert [words[1] for words in lines] == ["simulate", "train", "evaluate"]
    env = readme_outputs.environment(str(tmp_path / "cache"))
    for words in lines:
        command = [sys.executable, "-m", "demega_jax", *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
    block = OUTPUTS[DEMO]
    printed = readme_outputs.lines_between(done.stdout, block.first, block.last)
    assert [re.findall(r"\b([a-z]{1,2}) +(\d+) \d\.", line) for line in printed] == [
        re.findall(r"\b([a-z]{1,2}) +(\d+) \d\.", line) for line in block.lines
    ]
    if readme_outputs.machine() in block.text:
        assert printed == block.lines, "the README shows the output of older code; make readme"


@pytest.mark.long
def test_every_command_as_it_stands(tmp_path):
    for folder in ("configs", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for words in commands():
        if "--original" in words:
            continue  # needs a checkout of the published system and torch
        command = (
            [sys.executable, "-m", "demega_jax", *words[1:]]
            if words[0] == "demega-jax"
            else [sys.executable, *words[1:]]
        )
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
    done = subprocess.run([sys.executable, "-c", blocks("python")[0]], cwd=tmp_path, check=False)
    assert done.returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_demo_on_eight_devices_is_the_demo_on_one(tmp_path, parallel):
    """Full size: the first losses within 1e-6, the final macro-F1 within 0.02.

    From the same parameters, the gradients of the sixth batch agree within 2e-7 on one device and on eight. Adam
    divides gradients that are rounding alone by their own size; from the seventh step on that shows in the losses.
    """
    import json

    def run(name: str, *more: str) -> list[dict]:
        arguments = [
            "train",
            "configs/demo.yaml",
            "--data",
            str(data),
            "--run",
            str(tmp_path / name),
            "train.log_every=1",
        ]
        command = [sys.executable, "-m", "demega_jax", *arguments, *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    data = tmp_path / "data"
    assert main(["simulate", str(data), "--level", "100", "--groups", "2000"]) == 0
    one, eight = run("one", "--devices", "1"), run("eight", "--devices", "8", "--parallel", parallel)
    for ours, theirs in list(zip(eight, one, strict=True))[:6]:
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
    finals = [[m for m in metrics if m["split"] == "validation"][-1]["macro_f1"] for metrics in (one, eight)]
    assert finals[0] == pytest.approx(finals[1], abs=0.02)
