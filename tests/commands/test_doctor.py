"""`doctor`: all findings in lines and in a file, and an exit status that says whether something is broken."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.errors import fails_with
from helpers.runs import run_command

from demega_jax.benchmark.doctor import self_test
from demega_jax.benchmark.doctor.finding import Finding


@pytest.fixture
def sound(monkeypatch):
    """Devices whose self-test passes at once; what it computes has tests of its own."""
    right = self_test.Result(self_test.EXPECTED, 0.0, 1e-5)
    monkeypatch.setattr(self_test, "run", lambda devices: right)


def test_findings_in_lines_and_in_a_file(sound, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command("doctor", "--offline", "--json", "doctor.json") == 0
    content = json.loads((tmp_path / "doctor.json").read_text())
    assert (content["format"], content["sound"]) == (1, True)
    names = list(dict.fromkeys(finding["name"] for finding in content["findings"]))
    order = ["versions", "cores", "memory", "runs", "temporary", "cache", "data", "hub", "devices", "precision"]
    assert [name for name in names if name in order] == order
    assert sum(finding["name"] == "self-test" for finding in content["findings"]) == 9  # eight alone, and together
    lines = capsys.readouterr().out.splitlines()
    grades = [line.split()[:2] for line in lines if not line.startswith(" ")]
    assert grades == [[finding["grade"], finding["name"]] for finding in content["findings"]]


def test_what_is_broken_ends_with_status_2(sound, tmp_path, monkeypatch, capsys):
    """All the same every finding is shown, and written."""
    monkeypatch.chdir(tmp_path)
    fails_with(capsys, ["doctor", "--offline", "--data", "none", "--json", "doctor.json"], "1 of", "broken", "data")
    content = json.loads((tmp_path / "doctor.json").read_text())
    assert not content["sound"]
    assert [finding["name"] for finding in content["findings"] if finding["grade"] == "broken"] == ["data"]
    assert content["findings"][-1]["name"] == "self-test"


def test_where_jax_does_not_start_the_rest_is_told(sound, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpuu")
    fails_with(capsys, ["doctor", "--offline", "--json", "doctor.json"], "broken", "jax")
    findings = json.loads((tmp_path / "doctor.json").read_text())["findings"]
    assert findings[-1]["name"] == "jax" and "cpuu" in findings[-1]["found"] and "cpu" in findings[-1]["way_out"]


def test_no_password_and_no_long_line():
    """A finding is text from outside: secrets are left out, and a line fits the terminal."""
    finding = Finding(
        "hub", "warning", "http://anna:geheim@host cannot be reached " + 20 * "again ", "Check it.\x1b[2J"
    )
    lines = finding.lines(80)
    assert all(len(line) <= 80 for line in lines) and len(lines) > 3
    assert "geheim" not in str(finding.to_json()) + "".join(lines) and "\x1b" not in "".join(lines)


HANGING = """
import sys, time
from demega_jax.benchmark.doctor import devices, watch
from demega_jax.cli import main
watch.SECONDS = 1
devices.jax.local_devices = lambda: time.sleep(1000)
sys.exit(main())
"""


@pytest.mark.slow
def test_a_machine_whose_devices_hang_ends_the_command(tmp_path):
    """Nothing waits for the thread that still asks, and the file is written all the same."""
    words = [sys.executable, "-c", HANGING, "doctor", "--offline", "--json", tmp_path / "doctor.json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: demega-jax doctor") and "devices" in line
    last = json.loads((tmp_path / "doctor.json").read_text())["findings"][-1]
    assert (last["name"], last["grade"]) == ("devices", "broken") and "no answer within 1 s" in last["found"]
    assert "no answer" in done.stdout
