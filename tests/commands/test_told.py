"""What reaches the user: no password, no log line of a library, sizes in a unit that shows them, no idle option."""

import logging
import os
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.errors import fails_with, has_fact
from helpers.recordings import GOLDEN_TREE
from helpers.runs import leave_on_disk, process, run_command

from demega_jax.commands.shared.process import Process, quiet_libraries
from demega_jax.config import Config
from demega_jax.data.hub.environment import check_addresses
from demega_jax.errors import UserError, warn, without_secrets
from demega_jax.training.run import RunFolder

SECRET = "geheim-123"
WITH_PASSWORD = f"http://anna:{SECRET}@127.0.0.1:9"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"GET {WITH_PASSWORD}/api failed", "GET http://127.0.0.1:9/api failed"),
        (f"{WITH_PASSWORD} and https://{SECRET}@b.c/d", "http://127.0.0.1:9 and https://b.c/d"),
        (f"https://a.b/c?X-Amz-Signature={SECRET}&y=1 (again)", "https://a.b/c?.. (again)"),
        ("mail anna@b.c, https://a.b/c@d, a/b: 5", "mail anna@b.c, https://a.b/c@d, a/b: 5"),
        (f"token {SECRET}!", "token ..!"),
    ],
)
def test_a_text_without_its_secrets(monkeypatch, warnings, text, shown):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert without_secrets(text) == shown
    assert str(UserError(text, "x", "y", text)).startswith(f"{shown}: x. Expected: y.")
    assert SECRET not in str(UserError("a", text, text, text))
    warn(text)
    assert warnings == [f"warning: {shown}"]


@pytest.mark.parametrize("variable", ["HF_ENDPOINT", "HTTP_PROXY", "https_proxy"])
def test_a_password_is_never_printed(tmp_path, variable):
    """In a process of its own, as the hub's client reads its environment but once."""
    env = {name: text for name, text in os.environ.items() if "proxy" not in name.lower()}
    scheme = "https" if variable.startswith("https") else "http"
    env |= {"HF_ENDPOINT": f"{scheme}://127.0.0.1:9", variable: WITH_PASSWORD}
    words = process("download", tmp_path / "out", "--level", 5)
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert done.returncode == 2 and len(lines) == 1 and has_fact(lines[0], "cannot be reached"), done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("variable", ["HF_ENDPOINT", "HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("line", ["download {out} --level 5", "pull a/b {out}"])
def test_what_is_no_address_is_refused_and_not_shown(tmp_path, capsys, monkeypatch, variable, line):
    words = line.format(out=tmp_path / "out").split()
    for address in (f"http://anna:{SECRET}/x@127.0.0.1:9", f"ftp://{SECRET}@b", f"http://{SECRET}:x@b:port", "http://"):
        monkeypatch.setenv(variable, address)
        assert SECRET not in fails_with(capsys, words, variable, "address")
    monkeypatch.setenv(variable, WITH_PASSWORD)
    check_addresses()
    for proxy in ("localhost:3128", "https://localhost:9", "http://[::1]:80/"):
        monkeypatch.setenv("ALL_PROXY", proxy)
        check_addresses()


LOGGING = """
import logging
from demega_jax.commands.shared.process import Process, quiet_libraries
quiet_libraries(Process((), {own}))
import absl.logging
for name in ("absl", "jax._src.xla_bridge", "huggingface_hub", None):
    logging.getLogger(name).error("not for the user")
logging.error("nor this")
absl.logging.error("nor that")
"""


@pytest.mark.parametrize("own", [True, False])
def test_libraries_log_to_nobody_in_a_process_of_ours(own):
    code = LOGGING.format(own=own)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stderr == "") == own


def test_the_logging_of_another_program_stays():
    before = list(logging.getLogger().handlers)
    quiet_libraries(Process((), False))
    assert logging.getLogger().handlers == before


@pytest.mark.long
def test_a_damaged_checkpoint_is_told_in_our_lines_alone(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").glob("*/*/*/ocdbt.process_0/d/*"):
        file.write_bytes(file.read_bytes()[:100])
    for command in ("evaluate", "audit", "compare", "export-torch"):
        more = {"export-torch": [tmp_path / "x.safetensors"], "compare": ["--against", run]}
        words = [command, tmp_path / "run", *more.get(command, [])]
        done = subprocess.run(process(*words), capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 2, done.stderr
        assert all(line.startswith(("warning: ", "error: ")) for line in done.stderr.splitlines()), done.stderr


def test_free_space_is_shown_in_a_unit_that_shows_it(tmp_path, capsys, monkeypatch):
    leave_on_disk(monkeypatch, 3000)
    words = ["group", GOLDEN_TREE, tmp_path / "out", "--level", 2, "--tmax", 0.2]
    capsys.readouterr()
    assert run_command(*words) == 2
    told = capsys.readouterr()
    assert "2.9 KiB free" in told.out and has_fact(told.err, "2.9 KiB are free") and "0.0" not in told.err


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("evaluate {run} --splits f", "--splits"),
        ("report {run} --splits f", "--splits"),
        ("evaluate {run} --seed 3", "--seed"),
        ("predict {run} --input {data} --output {new}.csv --seed 0", "--seed"),
        ("predict {run} --input {data} --output {new}.csv --data {data}", "--data"),
        ("predict {run} --input {file} --output {new}.csv --split test", "--split"),
        ("submit {run} --holdout {file} --output {new} --data {data}", "--data"),
        ("submit {run} --holdout {file} --output {new} --seed 3", "--seed"),
        ("submit --check {file} --tta", "--tta"),
        ("submit --check {file} --ensemble mean", "--ensemble"),
        ("submit --check {file} --denoise", "--denoise"),
        ("submit --check {file} --seed 1", "--seed"),
        ("group {data} {new} --level 5 --no-shuffle --seed 777", "--seed"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(data, tmp_path, capsys, line, option):
    file, folder = data / "grouped_100" / "train_grouped.h5", RunFolder(tmp_path / "run")
    folder.create(Config.model_validate({"data": {"path": str(data)}}))
    words = line.format(run=folder.path, data=data, new=tmp_path / "new", file=file).split()
    assert f"error: {option}: given" in fails_with(capsys, words, option, "leave out")
    assert list(tmp_path.iterdir()) == [folder.path]
