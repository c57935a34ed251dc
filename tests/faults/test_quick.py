"""Twenty faults of real processes in a minute: several in one training run, and those of commands without a model.

The model is the one that jax traces fastest, since a start takes the time here. `make faults` has 200 faults of all
kinds and feeds, each in a training run of its own.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from faults.outputs import Output
from faults.server import Server, allow
from faults.trials import DAY, Trial, Whole, make_data, make_whole

FAST = (
    "model.encoder=lstm",
    "model.projection_width=0",
    "model.ipa_width=0",
    "loss.contrastive_weight=0",
    "loss.ipa_weight=0",
    "train.steps=6",
    "optim.schedule_length=6",
    "train.save_every=2",
    "train.eval_every=3",
)
CONFIG_ROOM, CHECKPOINT_ROOM = 2048, 8192  # bytes of the largest file: less than config.yaml has, and more


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("quick")
    for above in (found, found.parent):
        above.chmod(0o755)
    return found


@pytest.fixture(scope="module")
def server(folder) -> Iterator[Server]:
    found = Server(folder / "cache")
    make_data(found, folder)
    yield found
    found.close()


@pytest.fixture(scope="module")
def whole(server, folder) -> Whole:
    return make_whole(server, folder, "stream", *FAST)


def at_write(number: int, **more: object) -> Callable[[Trial, int], dict]:
    """A signal just before one of so many changes of the run folder."""

    def fault(trial: Trial, most: int) -> dict:
        return trial.command(at_write=[int(trial.rng.integers(1, most + 1)), number], **more)

    return fault


def at_a_time(trial: Trial, most: int) -> dict:
    moment = float(trial.rng.uniform(0.1, 0.5) * trial.whole.seconds)
    return trial.command(signals=[[moment, signal.SIGKILL]])


def full_disk(room: int) -> Callable[[Trial, int], dict]:
    return lambda trial, most: trial.command(room=room)


def forbidden(trial: Trial, most: int) -> dict:
    """Whoever may not write as the administrator finds a run folder that is read-only from the start on."""
    answer = trial.command(user=True, forbid=0.0)
    allow(trial.run, 0o777)
    return answer


KILL, TERM, INT = at_write(signal.SIGKILL), at_write(signal.SIGTERM), at_write(signal.SIGINT)
YESTERDAY = at_write(signal.SIGKILL, clock=[0.0, DAY])
# What happens to a training run, one after the other, and the exit status that tells that it did.
RUNS = {
    "one": ((KILL, -9), (TERM, 143), (full_disk(CONFIG_ROOM), 2), (at_a_time, -9)),
    "two": ((INT, 130), (YESTERDAY, -9), (full_disk(CHECKPOINT_ROOM), 2), (TERM, 143)),
    "three": ((KILL, -9), (KILL, -9), (forbidden, 2), (INT, 130)),
}
OUTPUTS = {
    "simulate": (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
    "shard": (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
    "group": (signal.SIGKILL, signal.SIGTERM),
}


def test_there_are_twenty():
    assert sum(map(len, RUNS.values())) + sum(map(len, OUTPUTS.values())) == 20


@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_disturbed_four_times_ends_as_if_nothing_had_happened(name, server, whole, folder):
    """Each fault comes before the n-th change of the run folder, n so small that the run lasts to the last of them."""
    trial = Trial(server, whole, folder / name, np.random.default_rng(list(RUNS).index(name)))
    most = whole.writes // len(RUNS[name])
    for fault, status in RUNS[name]:
        answer = fault(trial, most)
        trial.stopped(answer, status)
        assert answer["status"] == status, f"the fault did not come\n{trial.told}\n{answer['log']}"
    trial.finish()


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_what_a_command_leaves_is_whole_and_it_succeeds_when_it_is_repeated(name, server, folder):
    told: list = []
    output = Output(server, name, folder, {}, folder / name, told)
    rng = np.random.default_rng(list(OUTPUTS).index(name))
    for number in OUTPUTS[name]:
        place = int(rng.integers(1, output.writes + 1))
        assert output.try_fault(number, at_write=[place, number]), f"the fault did not come\n{told}"
