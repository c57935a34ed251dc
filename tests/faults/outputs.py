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
        "simulate", out, "--level", "5,100", "--groups", "40", "--sensors", "3", "--time-points", "7", "--seed", "2",
    ],
    "shard": lambda base, wholes, out: ["shard", base / "data", out],
    "group": lambda base, wholes, out: ["group", base / "recordings", out, "--level", "5"],
    "evaluate": lambda base, wholes, out: ["evaluate", wholes["stream"].path, "--json", out / "scores.json"],
    "predict": lambda base, wholes, out: [
        "predict", wholes["stream"].path, "--input", base / "data", "--output", out / "probabilities.npz",
    ],
}  # fmt: skip

THERE = (
    "not empty",
    "the file exists",
    "holds files already",
)  # what a command says that never writes over what is there


def try_command(
    server: Server,
    name: str,
    base: Path,
    wholes: Mapping[str, Whole],
    folder: Path,
    rng: np.random.Generator,
    told: list,
) -> None:
    """Kill the command at a random change of its output or at a random time, and repeat it.

    AssertionError: a visible file is there that is not whole, or the repeated command does not give the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def command(out: Path, **fault: object) -> dict:
        words = [str(word) for word in COMMANDS[name](base, wholes, out)]
        answer = server.run(words, folder=str(out), log=str(folder / "log"), **fault)
        told.append({**fault, "status": answer["status"], "seconds": round(answer["seconds"], 2)})
        assert "Traceback" not in answer["log"], answer["log"]
        return answer

    first = command(folder / "undisturbed")
    assert first["status"] == 0, first["log"]
    wanted, out = visible_files(folder / "undisturbed"), folder / "out"
    number = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT][int(rng.integers(3))]
    if rng.random() < 0.7:
        fault: dict[str, object] = {"at_write": [int(rng.integers(1, first["writes"] + 1)), number]}
    else:
        fault = {"signals": [[float(rng.uniform(0.02, first["seconds"])), number]]}
    stopped = command(out, **fault)
    assert stopped["status"] in (0, -number, 128 + number), stopped["log"]
    for path, content in visible_files(out).items():
        assert content == wanted[path], f"{path} is there, and is not whole"
    again = command(out)
    if again["status"] == 2 and any(words in again["log"] for words in THERE):  # and names the way out: another folder
        shutil.rmtree(out)
        again = command(out)
    assert again["status"] == 0, again["log"]
    assert visible_files(out) == wanted


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
