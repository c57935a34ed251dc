"""Training runs and commands that are disturbed in real processes: `make faults` does 200 of these trials."""

import pytest

from faults.campaign import Campaign, chosen, main
from faults.outputs import COMMANDS
from faults.server import Server
from faults.trials import FEEDS, KINDS, assert_same_log

# The first kills at two moments; the second is a full disk; the third kills a command that writes.
QUICK = {"SIGKILL twice in a row": "stream", "disk full": "stream", "command": "shard"}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    for above in (folder, folder.parent):
        above.chmod(0o755)
    found = Campaign(folder, 0, 1, folder / "cache", folder / "trials.jsonl")
    found.prepare(["stream"])
    yield found
    found.close()


@pytest.mark.long
@pytest.mark.parametrize("kind", QUICK)
def test_a_disturbed_run_ends_as_if_nothing_had_happened(campaign, kind):
    number = next(number for number in range(1000) if chosen(number) == (kind, QUICK[kind]))
    campaign.run([number], float("inf"))
    (result,) = [each for each in campaign.results if each["number"] == number]
    assert result["survived"], f"{result['wrong']}\n{result['told']}\nrepeat: {result['again']}"


@pytest.mark.long
def test_two_hundred_trials(monkeypatch):
    monkeypatch.setattr("sys.argv", ["campaign", "--trials", "200"])
    assert main() == 0


def test_every_kind_meets_every_feed_and_every_command_comes():
    found = {chosen(number) for number in range(200)}
    assert found >= {(kind, feed) for kind in KINDS for feed in FEEDS} | {("command", name) for name in COMMANDS}


def test_a_log_with_a_gap_a_repeat_or_another_value_is_seen(tmp_path):
    lines = [f'{{"step": {step}, "split": "train", "loss": {step}.5}}\n' for step in (2, 4, 6)]
    for name, content in {
        "whole": lines,
        "gap": lines[::2],
        "repeat": [*lines, lines[1]],
        "value": [*lines[:2], lines[2].replace("6.5", "6.25")],
        "extra": [lines[0], lines[0].replace("2", "3", 1), *lines[1:]],
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(content))
    for name in ("gap", "repeat", "value"):
        with pytest.raises(AssertionError):
            assert_same_log(tmp_path / name, tmp_path / "whole")
    assert_same_log(tmp_path / "extra", tmp_path / "whole")  # a run that was asked to end logs its last step


@pytest.mark.slow
def test_the_server_kills_just_before_a_chosen_write(tmp_path):
    """Of a command with known writes: before the first nothing is there, whatever the clock says."""
    server, out = Server(tmp_path / "cache"), tmp_path / "out"
    words = ["simulate", str(out), "--level", "5", "--groups", "16", "--sensors", "2", "--time-points", "3"]
    answer = server.run(words, folder=str(out), log=str(tmp_path / "log"), at_write=[1, 9])
    assert answer["status"] == -9 and not out.exists()
    assert server.run(words, folder=str(out), log=str(tmp_path / "log"))["status"] == 0
    assert len(list(out.rglob("*.h5"))) == 3
    server.close()
