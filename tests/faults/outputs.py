"""Faults of other commands that write: what they leave is whole or nothing, and the same command then succeeds."""

import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np

from faults.server import Server
from faults.trials import Whole

Words = Callable[[Path, Mapping[str, Whole], Path], list]
COMMANDS: dict[str, Words] = {
    "simulate": lambda base, wholes, out: [
        "simulate",
        out,
        "--level",
        "5,100",
        "--groups",
        "40",
        "--sensors",
        "3",
        "--time-points",
        "7",
        "--seed",
        "2",
    ],
    "shard": lambda base, wholes, out: ["shard", base / "data", out],
    "group": lambda base, wholes, out: ["group", base / "recordings", out, "--level", "5"],
    "evaluate": lambda base, wholes, out: ["evaluate", wholes["stream"].path, "--json", out / "scores.json"],
    "predict": lambda base, wholes, out: [
        "predict",
        wholes["stream"].path,
        "--input",
        base / "data",
        "--output",
        out / "probabilities.npz",
    ],
}

THERE = (
    "not empty",
    "the file exists",
    "holds files already",
)  # what a command says that never writes over what is there


class Output:
    """A command that writes, in folders of a trial. told: what was done to it, for whoever repeats it.

    wanted, writes, seconds: what it leaves where nothing disturbs it, and what that took.
    """

    def __init__(self, server: Server, name: str, base: Path, wholes: Mapping[str, Whole], folder: Path, told: list):
        self._server, self._folder, self._told = server, folder, told
        self._words = lambda out: [str(word) for word in COMMANDS[name](base, wholes, out)]
        folder.mkdir(parents=True, exist_ok=True)
        first = self.run(folder / "undisturbed")
        assert first["status"] == 0, first["log"]
        self.wanted, self.writes, self.seconds = (
            visible_files(folder / "undisturbed"),
            first["writes"],
            first["seconds"],
        )

    def run(self, out: Path, **fault: object) -> dict:
        answer = self._server.run(self._words(out), folder=str(out), log=str(self._folder / "log"), **fault)
        self._told.append({**fault, "status": answer["status"], "seconds": round(answer["seconds"], 2)})
        assert "Traceback" not in answer["log"], answer["log"]
        return answer

    def try_fault(self, number: int, **fault: object) -> bool:
        """End the command by a signal and repeat it; returns whether the signal came before its end.

        AssertionError: a visible file is there that is not whole, or the repeated command does not give the same files.
        """
        out = self._folder / "out"
        stopped = self.run(out, **fault)
        assert stopped["status"] in (0, -number, 128 + number), stopped["log"]
        for path, content in visible_files(out).items():
            assert content == self.wanted[path], f"{path} is there, and is not whole"
        again = self.run(out)
        if again["status"] == 2 and any(
            words in again["log"] for words in THERE
        ):  # and names the way out: a new folder
            shutil.rmtree(out)
            again = self.run(out)
        assert again["status"] == 0, again["log"]
        assert visible_files(out) == self.wanted
        shutil.rmtree(out)
        return stopped["status"] != 0


def try_command(
    server: Server,
    name: str,
    base: Path,
    wholes: Mapping[str, Whole],
    folder: Path,
    rng: np.random.Generator,
    told: list,
) -> None:
    """End the command at a random change of its output or at a random time. AssertionError: as `Output.try_fault`."""
    output = Output(server, name, base, wholes, folder, told)
    number = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT][int(rng.integers(3))]
    if rng.random() < 0.7:
        output.try_fault(number, at_write=[int(rng.integers(1, output.writes + 1)), number])
    else:
        output.try_fault(number, signals=[[float(rng.uniform(0.02, output.seconds)), number]])


def visible_files(folder: Path) -> dict[str, object]:
    """What is in every file of an output, by its path: not what is hidden or is said to be a part of a file."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    named = {str(path.relative_to(folder)): path for path in paths}
    return {name: content_of(path) for name, path in named.items() if not is_aside(name)}


def content_of(path: Path) -> object:
    """The bytes of a file; of HDF5 all that it holds, without the time at which it was made.

    OSError: an HDF5 file is not whole.
    """
    if path.suffix != ".h5":
        return path.read_bytes()
    with h5py.File(path) as file:
        attributes = {name: str(value) for name, value in file.attrs.items() if name != "created_time"}
        return attributes | {name: [np.asarray(row).tobytes() for row in file[name][:]] for name in file}


def is_aside(path: str) -> bool:
    return path.endswith((".partial", ".tmp")) or any(part.startswith(".") for part in Path(path).parts)
