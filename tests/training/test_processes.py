"""Two real processes with two devices each train to the numbers of one process with four devices."""

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.arrays import INERT
from helpers.data import simulate_grouped
from helpers.processes import CONFIG, KEYS, SECONDS, SLURM_STEP, STEPS, ends, free_port, start, together
from helpers.runs import lines_of, newest_arrays, run_command, train

from demega_jax.training.service import Service
from demega_jax.training.together import LOST_AFTER

WITHIN = 20  # seconds after the end of one process in which the others end
MEANS = ("loss", "class_loss", "contrastive_loss", "ipa_loss", "grad_norm", "macro_f1")
REGROUP = ("data.feed=regroup", "data.level=5", "data.regroup.recordings=dealt", "data.shares=8")
FEEDS = {"stream": (), "resident": ("data.feed=resident", "data.shares=8"), "regroup": REGROUP}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Grouped files whose rows do not fill the last batch."""
    folder = tmp_path_factory.mktemp("processes") / "data"
    simulate_grouped(folder, levels=[100], groups=72, sensors=5, time_points=9, seed=1)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """Recordings for the regroup feed."""
    folder = tmp_path_factory.mktemp("processes") / "recordings"
    assert run_command("simulate", folder, "--recordings", "--minutes", 1, "--sensors", 5) == 0
    return folder


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory) -> Path:
    """The training run of one process with four devices."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert train(data, run, *KEYS, devices=4) == 0
    return run


def words(data: Path, run: Path, *more: object) -> list[object]:
    return [CONFIG, "--data", data, "--run", run, "--devices", 4, *KEYS, *more]


def assert_same_run(ours: Path, theirs: Path) -> None:
    """The logged losses and the trained parameters agree beyond rounding."""
    lines, wanted = lines_of(ours), lines_of(theirs)
    assert [(line["step"], line["split"]) for line in lines] == [(line["step"], line["split"]) for line in wanted]
    for line, want in zip(lines, wanted, strict=True):
        for name in MEANS:
            if name in want:
                np.testing.assert_allclose(line[name], want[name], rtol=2e-5, atol=1e-7, err_msg=f"{name} {want}")
    arrays, other = newest_arrays(ours), newest_arrays(theirs)
    assert arrays.keys() == other.keys()
    for name, array in arrays.items():
        if name.startswith("params.") and not name.endswith(INERT):
            np.testing.assert_allclose(array, other[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_processes_train_as_one(data, alone, tmp_path):
    """One log, one checkpoint of each step, and one of them that prints."""
    run = tmp_path / "run"
    leader, follower = together(2, *words(data, run))
    assert (leader.status, follower.status) == (0, 0), leader.err + follower.err
    assert_same_run(run, alone)
    names = {str(path.relative_to(alone)) for path in alone.rglob("*") if "checkpoints" not in path.parts}
    assert {str(path.relative_to(run)) for path in run.rglob("*") if "checkpoints" not in path.parts} == names
    assert leader.out.count(f"step {STEPS}/{STEPS}") == 2  # training and validation
    assert "Gloo" not in leader.out
    assert follower.out == follower.err == ""
    assert leader.errors == []


@pytest.mark.parametrize("faulty", [pytest.param(1, marks=pytest.mark.slow), pytest.param(0, marks=pytest.mark.long)])
def test_a_fault_in_one_process_ends_all_with_a_line_each(faulty, data, tmp_path):
    """The data are missing where one of them runs."""
    there, nothing = tmp_path / "there", tmp_path / "nothing"
    shutil.copytree(data, there / "data")
    (nothing / "data").mkdir(parents=True)
    folders = [there, nothing] if faulty == 1 else [nothing, there]
    started = start(2, *words(Path("/proc/self/cwd/data"), tmp_path / "run"), folders=folders)
    started[faulty].wait(SECONDS)
    started[1 - faulty].wait(WITHIN)
    ended = ends(started)
    assert [one.status for one in ended] == [2, 2]
    (own,), (said,) = ended[faulty].errors, ended[1 - faulty].errors
    assert own.startswith("error: ") and "grouped" in own
    and_so = f"error: process {faulty} has ended, and so does process {1 - faulty}: "
    assert said == and_so + own.removeprefix("error: ")


@pytest.mark.long
@pytest.mark.parametrize("feed", ["resident", "regroup"])
def test_feeds_on_devices_are_the_same(feed, data, recordings, tmp_path):
    source = recordings if feed == "regroup" else data
    assert train(source, tmp_path / "one", *KEYS, *FEEDS[feed], devices=4) == 0
    leader, follower = together(2, *words(source, tmp_path / "two", *FEEDS[feed]))
    assert (leader.status, follower.status) == (0, 0), leader.err + follower.err
    assert_same_run(tmp_path / "two", tmp_path / "one")


@pytest.mark.long
@pytest.mark.parametrize("feed", ["stream", "resident"])
def test_a_batch_that_does_not_divide_over_the_processes(feed, data, tmp_path):
    """16 rows on three devices of each: the rows of padding are all of the second process."""
    assert train(data, tmp_path / "one", *KEYS, *FEEDS[feed], devices=4) == 0
    asked = words(data, tmp_path / "two", *FEEDS[feed])
    asked[asked.index("--devices") + 1] = 6
    leader, follower = together(2, *asked)
    assert (leader.status, follower.status) == (0, 0), leader.err + follower.err
    assert "padding" in leader.err and not follower.err
    assert_same_run(tmp_path / "two", tmp_path / "one")


@pytest.mark.long
def test_pmap_and_accumulation_are_the_same(data, tmp_path):
    assert train(data, tmp_path / "one", *KEYS, "train.accumulate=2", devices=4) == 0
    leader, follower = together(2, *words(data, tmp_path / "two", "train.accumulate=2", "--parallel", "pmap"))
    assert (leader.status, follower.status) == (0, 0), leader.err + follower.err
    assert_same_run(tmp_path / "two", tmp_path / "one")


@pytest.mark.long
def test_members_are_the_same(data, tmp_path):
    keys = ("train.members=2", *FEEDS["resident"])
    assert train(data, tmp_path / "one", *KEYS, *keys, devices=4) == 0
    leader, follower = together(2, *words(data, tmp_path / "two", *keys))
    assert (leader.status, follower.status) == (0, 0), leader.err + follower.err
    for member in ("0", "1"):
        assert_same_run(tmp_path / "two" / "members" / member, tmp_path / "one" / "members" / member)


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory) -> Path:
    """A run of two processes, ended by SIGTERM at the second one in the middle: both end after the same step."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    started = start(2, *words(data, run, "train.save_every=1000000", "train.steps=1000000"))
    while "step 2/" not in started[0].stdout.readline():
        assert started[0].poll() is None
    started[1].send_signal(signal.SIGTERM)
    leader, follower = ends(started)
    assert (leader.status, follower.status) == (143, 143), leader.err + follower.err
    assert "interrupted and saved" in leader.out
    assert 2 <= lines_of(run)[-1]["step"] == newest_arrays(run)["step"] < 1000000
    return run


def go_on(stopped: Path, run: Path, count: int) -> Path:
    """Two steps more of a copy of that run, in so many processes with four devices together."""
    shutil.copytree(stopped, run)
    last = f"train.steps={lines_of(run)[-1]['step'] + 2}"
    again = ["--resume", "--run", run, "--devices", 4, last, "optim.schedule_length=null"]
    if count == 1:
        assert run_command("train", *again) == 0
    else:
        assert [one.status for one in together(count, *again)] == [0] * count
    return run


@pytest.mark.long
def test_a_run_of_two_goes_on_in_any_number(stopped, tmp_path):
    one = go_on(stopped, tmp_path / "one", 1)
    for count in (2, 4):
        assert_same_run(go_on(stopped, tmp_path / str(count), count), one)


@pytest.mark.long
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_with_a_line(lost, data, tmp_path):
    started = start(2, *words(data, tmp_path / "run", "train.steps=100000", "train.eval_every=50000"))
    while "step 2/" not in started[0].stdout.readline():
        assert started[0].poll() is None
    started[lost].kill()
    began = time.monotonic()
    ended = ends(started)
    assert time.monotonic() - began < LOST_AFTER + 10
    assert ended[lost].status == -signal.SIGKILL
    assert ended[1 - lost].status == 2
    (line,) = ended[1 - lost].errors
    assert line.startswith(f"error: process {lost} is lost")


@pytest.mark.long
@pytest.mark.parametrize("ended", [0, 1])
def test_sigterm_before_the_first_step_is_told_at_once(ended, data, tmp_path):
    """While the run folder is begun, one process has its signal; the other ends long before it would count as lost."""
    run = tmp_path / "run"
    started = start(2, *words(data, run, "train.steps=100000"))
    while not (run / "checkpoints").exists():
        assert started[0].poll() is None
        time.sleep(0.01)
    started[ended].send_signal(signal.SIGTERM)
    began = time.monotonic()
    found = ends(started)
    assert time.monotonic() - began < LOST_AFTER - 10
    assert found[ended].status == 143
    assert found[1 - ended].status == 2
    (line,) = found[1 - ended].errors
    assert line.startswith(f"error: process {ended} has ended") and "SIGTERM" in line


@pytest.mark.slow
def test_the_service_goes_on_where_every_process_is_told_to_end():
    """As SLURM does with a job that is preempted: its processes still need it, to stop after the same step."""
    port = free_port()
    service = Service(f"[::]:{port}", 1, 100, 10)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(service._child.pid, number)
    time.sleep(0.5)
    assert service._child.poll() is None
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    service.shutdown()
    assert service._child.wait(20) == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT}


@pytest.mark.long
def test_a_reader_who_goes_away_ends_training_everywhere(data, tmp_path):
    """As in `srun .. | head -1`: process 0 ends with the status of any command there, and the other says why."""
    started = start(2, *words(data, tmp_path / "run"))
    started[0].stdout.close()
    errors = started[1].communicate(timeout=SECONDS)[1]
    said = started[0].stderr.read()
    assert started[0].wait(SECONDS) == 141 and "Traceback" not in said and "error:" not in said
    lines = [line for line in errors.splitlines() if not line.startswith("warning:")]
    assert started[1].returncode != 0 and len(lines) == 1 and "nobody reads its output" in lines[0]


@pytest.mark.long
def test_tasks_of_slurm_find_each_other(data, alone, tmp_path):
    """As `srun --ntasks 2` starts them, without any option."""
    ended = together(2, *words(data, tmp_path / "run"), env=SLURM_STEP)
    assert [one.status for one in ended] == [0, 0], ended
    assert_same_run(tmp_path / "run", alone)
