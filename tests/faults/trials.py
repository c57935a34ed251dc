"""Faults of training runs: each ends with `train --resume`, and with the run that nothing disturbed, bit for bit."""

import contextlib
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from helpers import TINY_MODEL
from helpers.arrays import assert_same_arrays
from helpers.runs import lines_of, train_arguments

from faults.server import Server, allow

STEPS = 8
KEYS = [
    *TINY_MODEL,
    "model.dropout=0.5",
    "train.batch_size=16",
    "train.epochs=null",
    f"train.steps={STEPS}",
    f"optim.schedule_length={STEPS}",
    "train.averaging=ema",
    "train.save_every=3",
    "train.eval_every=4",
    "train.log_every=2",
]
FEEDS = {
    "stream": ["data.feed=stream", "data.memory=1K"],
    "resident": ["data.feed=resident"],
    "regroup": ["data.feed=regroup", "data.level=5"],
    "members": ["data.feed=resident", "train.members=2"],
}
TIMED = ("samples_per_second", "input_wait")
DAY = 86400.0
READING = threading.Lock()  # checkpoints are read by one thread at a time


@dataclass(frozen=True)
class Whole:
    """A training run that nothing disturbed. path: its folder.  seconds, writes: what it took, compiled before.  keys:
    of its configuration."""

    feed: str
    data: Path
    path: Path
    seconds: float
    writes: int
    nbytes: int
    keys: tuple[str, ...]

    def words(self, run: Path) -> list[str]:
        """The command that trains so in another folder."""
        return train_arguments(self.data, run, *self.keys)


def make_data(server: Server, folder: Path) -> None:
    """Small grouped files and recordings."""
    size = ["--sensors", "4", "--seed", "1"]
    for words in (
        ["simulate", str(folder / "data"), "--level", "100", "--groups", "64", "--time-points", "9", *size],
        ["simulate", str(folder / "recordings"), "--recordings", "--minutes", "3", *size],
    ):
        answer = server.run(words, log=str(folder / "log"))
        assert answer["status"] == 0, answer["log"]


def make_whole(server: Server, folder: Path, feed: str, *more: str) -> Whole:
    """The undisturbed run of a feed; a second one, whose programs are compiled already, tells how long it takes.

    more: keys of another model or run.
    """
    keys = tuple({key.partition("=")[0]: key for key in (*KEYS, *FEEDS[feed], *more)}.values())
    data = folder / ("recordings" if feed == "regroup" else "data")
    for number in (0, 1):
        path = folder / f"whole-{feed}-{number}"
        words = train_arguments(data, path, *keys)
        answer = server.run(words, log=str(folder / f"{feed}.log"), folder=str(path))
        assert answer["status"] == 0, answer["log"]
    nbytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Whole(feed, data, path, answer["seconds"], answer["writes"], nbytes, keys)


class Trial:
    """One training run that is disturbed. told: what was done to it, for whoever repeats it."""

    def __init__(self, server: Server, whole: Whole, folder: Path, rng: np.random.Generator):
        self.server, self.whole, self.folder, self.rng = server, whole, folder, rng
        self.run, self.told, self.stops = folder / "run", [], []
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)

    def command(self, **fault: object) -> dict:
        """Begin the training run, or go on with it where it has begun; the fault happens meanwhile."""
        resume = ["--resume"] if (self.run / "config.yaml").exists() else []
        words = self.whole.words(self.run) + resume
        answer = self.server.run(words, folder=str(self.run), log=str(self.folder / "log"), **fault)
        self.told.append({**fault, "status": answer["status"], "seconds": round(answer["seconds"], 2)})
        assert "Traceback" not in answer["log"], answer["log"]
        return answer

    def moment(self) -> float:
        """A random time within a run, from just before its first line on."""
        return float(self.rng.uniform(0.05, 1.0) * self.whole.seconds)

    def some_write(self) -> int:
        return int(self.rng.integers(1, self.whole.writes + 1))

    def stopped(self, answer: dict, *statuses: int) -> None:
        """The command ended as the fault lets it end, or before the fault came."""
        assert answer["status"] in (0, *statuses), (answer["status"], answer["log"])
        if answer["status"] == 2:
            errors = [line for line in answer["log"].splitlines() if line.startswith("error: ")]
            assert len(errors) == 1, answer["log"]

    def finish(self) -> None:
        """Resume without a fault, and compare with the undisturbed run."""
        self.stopped(self.command())
        with READING:
            assert_same_end(self.run, self.whole.path)


def kill_at_a_time(trial: Trial) -> None:
    trial.stopped(trial.command(signals=[[trial.moment(), signal.SIGKILL]]), -signal.SIGKILL)


def kill_at_a_write(trial: Trial) -> None:
    """In a save, a line of the log, the making of the folder: just before the n-th change of the run folder."""
    trial.stopped(trial.command(at_write=[trial.some_write(), signal.SIGKILL]), -signal.SIGKILL)


def kill_twice(trial: Trial) -> None:
    kill_at_a_write(trial)
    kill_at_a_time(trial)


def terminate(trial: Trial) -> None:
    trial.stopped(trial.command(signals=[[trial.moment(), signal.SIGTERM]]), 143, -signal.SIGTERM)


def interrupt(trial: Trial) -> None:
    trial.stopped(trial.command(at_write=[trial.some_write(), signal.SIGINT]), 130)


def two_signals(trial: Trial) -> None:
    """A second signal soon after the first: while it saves."""
    first = trial.moment()
    second = first + float(trial.rng.uniform(0.0, 1.0))
    signals = [[first, signal.SIGTERM], [second, signal.SIGINT]]
    trial.stopped(trial.command(signals=signals), 143, 130, -signal.SIGTERM)


def full_disk(trial: Trial) -> None:
    """A disk of a random size; without the right to mount one, files that cannot be larger than some size."""
    room = int(trial.rng.integers(1, max(2, trial.whole.nbytes // 4096)) * 4096)
    with disk(trial.run, room) as grow:
        if grow is None:
            largest = int(trial.rng.integers(64, trial.whole.nbytes // 4))
            trial.stopped(trial.command(room=largest), 2)
        else:
            trial.stopped(trial.command(), 2)
            grow()
        trial.told.append({"room": room if grow else largest})
        trial.finish()


def read_only_disk(trial: Trial) -> None:
    """Killed, then resumed on a disk that became read-only, then resumed on one that can be written to again."""
    with disk(trial.run, 2**26) as grow:
        kill_at_a_write(trial)
        began = (trial.run / "config.yaml").exists()
        if grow is not None:
            remount(trial.run, "ro")
            answer = trial.command()
            remount(trial.run, "rw")
        else:
            allow(trial.run, 0o555)
            answer = trial.command(user=True)
            allow(trial.run, 0o755)
        assert answer["status"] == 2, (began, answer["log"])
        trial.stopped(answer, 2)
        trial.finish()


def forbidden_folder(trial: Trial) -> None:
    """An unprivileged user whose run folder becomes read-only at some moment."""
    answer = trial.command(user=True, forbid=trial.moment())
    if trial.run.exists():
        allow(trial.run, 0o777)
    trial.stopped(answer, 2)
    trial.finish()


def clock_goes_back(trial: Trial) -> None:
    """By a day while it trains, until it is killed; by a year when it is resumed and killed once more."""
    for days in (1, 365):
        turn = float(trial.rng.uniform(0, 1) * trial.whole.seconds) if days == 1 else 0.0
        clock, signals = [turn, days * DAY], [[trial.moment(), signal.SIGKILL]]
        trial.stopped(trial.command(clock=clock, signals=signals), -signal.SIGKILL)


KINDS: dict[str, Callable[[Trial], None]] = {
    "SIGKILL at a time": kill_at_a_time,
    "SIGKILL at a write": kill_at_a_write,
    "SIGKILL twice in a row": kill_twice,
    "SIGTERM": terminate,
    "SIGINT at a write": interrupt,
    "SIGTERM, then SIGINT": two_signals,
    "disk full": full_disk,
    "disk read-only": read_only_disk,
    "run folder forbidden": forbidden_folder,
    "clock goes back": clock_goes_back,
}
FINISHED = ("disk full", "disk read-only", "run folder forbidden")  # kinds that finish by themselves


def try_one(kind: str, trial: Trial) -> None:
    """A fault and what comes after it. AssertionError: the run did not survive it."""
    KINDS[kind](trial)
    if kind not in FINISHED:
        trial.finish()


@contextlib.contextmanager
def disk(folder: Path, room: int) -> Iterator[Callable[[], None] | None]:
    """A disk of `room` bytes at a folder, and what makes it large; None where this user may mount none."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", folder], capture_output=True)
    if made.returncode:
        yield None
        return
    folder.chmod(0o777)
    try:
        yield lambda: remount(folder, f"size={2**26}")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def assert_same_end(run: Path, whole: Path) -> None:
    """The same parameters, averages and state of the optimizer, the same best checkpoint, the same log."""
    members = sorted(path.name for path in (whole / "members").glob("*"))
    for ours, theirs in [(run / "members" / m, whole / "members" / m) for m in members] or [(run, whole)]:
        for kind, items in (("latest", ("model", "training")), ("best", ("model",))):
            assert_same_arrays(read_newest(ours, kind, items), read_newest(theirs, kind, items))
        assert_same_log(ours, theirs)


def read_newest(run: Path, kind: str, items: tuple[str, ...]) -> dict[str, np.ndarray]:
    from demega_jax.training.checkpoint import Checkpoints

    with contextlib.closing(Checkpoints(run / "checkpoints")) as checkpoints:
        step = checkpoints.steps(kind)[-1]
        return checkpoints.read(kind, step, items)[0] | {"step in its name": np.array(step)}


def assert_same_log(run: Path, whole: Path) -> None:
    """Every line of the undisturbed log, once and in order; a run that was asked to end logs its last step too."""

    def columns(path: Path) -> list[dict]:
        return [{name: v for name, v in line.items() if name not in TIMED} for line in lines_of(path)]

    ours, theirs = columns(run), columns(whole)
    extra = [line for line in ours if line not in theirs]
    assert [line for line in ours if line in theirs] == theirs
    assert all(line["split"] == "train" and line["step"] % 2 == 1 for line in extra), extra
    assert len({line["step"] for line in extra}) == len(extra)


def clear(folder: Path) -> None:
    """Remove the folder of a trial."""
    shutil.rmtree(folder, ignore_errors=True)
