"""Long training runs, each twice: python -m soak.soak --steps 5000 --json FILE [--only stream,resident,..]

A run passes if, after its first fifth, its memory grows by less than 2 %, its open files stay as many, nothing is
compiled any more, it is not slower at its end, and a second run from the same seed ends with the same bits.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from helpers import ROOT, TINY_MODEL
from helpers.runs import lines_of

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "h5py", "numpy")
WARM = 0.2  # share of the steps after which nothing may grow
GROWTH, SLOWER = 0.02, 0.25  # largest shares; the speed of a machine that others use varies
FEEDS = {
    "stream": ("data.feed=stream", "data.memory=1K"),
    "resident": ("data.feed=resident",),
    "regroup": ("data.feed=regroup", "data.level=5"),
    "two processes": ("data.feed=stream", "data.memory=1K"),
}
TIMED = ("samples_per_second", "input_wait")


def keys(steps: int) -> list[str]:
    """Of a run of so many steps: twenty validations and checkpoints, a hundred lines of the log."""
    return [
        *TINY_MODEL,
        "model.dropout=0.1",
        "train.batch_size=16",
        "train.epochs=null",
        f"train.steps={steps}",
        f"train.eval_every={max(1, steps // 20)}",
        f"train.save_every={max(1, steps // 20)}",
        f"train.log_every={max(1, steps // 100)}",
        "train.averaging=ema",
    ]


def make_data(folder: Path) -> None:
    """Small grouped files and recordings."""
    size = ["--sensors", "5", "--seed", "1"]
    for words in (
        ["simulate", folder / "data", "--level", "100", "--groups", "312", "--time-points", "9", *size],
        ["simulate", folder / "recordings", "--recordings", "--minutes", "3", *size],
    ):
        subprocess.run([sys.executable, "-m", "demega_jax", *map(str, words)], check=True, cwd=ROOT, env=environment())


def environment() -> dict[str, str]:
    """Variables of a process that compiles everything itself."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": ""}


def train(folder: Path, case: str, number: int, steps: int, devices: int) -> tuple[Path, list[dict], float]:
    """(run folder, what each process found, seconds) of a training run."""
    run = folder / f"{case.replace(' ', '-')}-{number}"
    data = folder / ("recordings" if case == "regroup" else "data")
    words = ["train", "configs/tiny.yaml", "--data", data, "--run", run, "--devices", devices]
    processes, began = 2 if case == "two processes" else 1, time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        join = ["--coordinator", f"127.0.0.1:{server.getsockname()[1]}", "--processes", processes]
    found, started = [], []
    for each in range(processes):
        found.append(folder / f"{run.name}-{each}.json")
        whole = [*words, *(join + ["--process-id", each] if processes > 1 else ()), *keys(steps), *FEEDS[case]]
        command = [sys.executable, "-m", "soak.watched", str(found[-1]), *map(str, whole)]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL))
    assert [one.wait() for one in started] == [0] * processes, case
    return run, [json.loads(path.read_text()) for path in found], time.monotonic() - began


def judged(watched: dict, run: Path, steps: int) -> dict:
    """What one process of a run did from the first fifth of its steps to the last."""
    warm, late = WARM * steps, (1 - WARM / 2) * steps
    early = [each for each in watched["samples"] if warm <= each["step"] < warm + steps / 10]
    last = [each for each in watched["samples"] if each["step"] >= late]
    begin, end = (statistics.median(each["bytes"] for each in some) for some in (early, last))
    rates = [(line["step"], line["samples_per_second"]) for line in lines_of(run) if line["split"] == "train"]
    fast = statistics.median(rate for step, rate in rates if warm <= step < 0.5 * steps)
    slow = statistics.median(rate for step, rate in rates if step >= 0.7 * steps)
    found = {
        "memory_mib": [round(begin / 2**20, 1), round(end / 2**20, 1)],
        "memory_growth": round(end / begin - 1, 4),
        # Medians, as a sample can fall into the saving of a checkpoint. What leaks stays open in every later sample.
        "open_files": [int(statistics.median(each["files"] for each in some)) for some in (early, last)],
        "rows_per_second": [round(fast, 1), round(slow, 1)],
        "compiled": len(watched["compiled"]),
        "compiled_after_warm_up": [each["name"] for each in watched["compiled"] if each["step"] >= warm],
        "samples": len(watched["samples"]),
    }
    passed = {
        "memory": found["memory_growth"] < GROWTH,
        "open files": found["open_files"][1] <= found["open_files"][0],
        "speed": slow > fast * (1 - SLOWER),
        "compilations": not found["compiled_after_warm_up"],
    }
    return found | {"failed": [name for name, right in passed.items() if not right]}


def same_bits(one: Path, other: Path) -> bool:
    """Whether two runs have the same log, but for times, and the same arrays in their last checkpoint."""
    logs = [[{k: v for k, v in line.items() if k not in TIMED} for line in lines_of(run)] for run in (one, other)]
    arrays = [newest(run) for run in (one, other)]
    equal = all(np.array_equal(array, arrays[1][name]) for name, array in arrays[0].items())
    return logs[0] == logs[1] and arrays[0].keys() == arrays[1].keys() and equal


def newest(run: Path) -> dict[str, np.ndarray]:
    """The arrays of the last checkpoint of a run."""
    from demega_jax.training.checkpoint import Checkpoints

    with contextlib.closing(Checkpoints(run / "checkpoints")) as checkpoints:
        found = checkpoints.read_newest("latest", ("model", "training"))
    assert found is not None
    return found[0]


def soak(folder: Path, case: str, steps: int, devices: int) -> dict:
    """A case: two runs, of which each process of the first is judged."""
    run, watched, seconds = train(folder, case, 0, steps, devices)
    again, _, _ = train(folder, case, 1, steps, devices)
    processes = [judged(each, run, steps) for each in watched]
    same = same_bits(run, again)
    passed = same and not any(each["failed"] for each in processes)
    found = {"case": case, "steps": steps, "devices": devices, "seconds": round(seconds), "passed": passed}
    return found | {"same_bits_twice": same, "processes": processes}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--only", default=",".join(FEEDS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cases = []
    with tempfile.TemporaryDirectory(prefix="demega-jax-soak-") as name:
        make_data(Path(name))
        for case in arguments.only.split(","):
            cases.append(soak(Path(name), case, arguments.steps, arguments.devices))
            print(json.dumps(cases[-1]), flush=True)
            result = {
                "format": 1,
                "date": datetime.date.today().isoformat(),
                "command": f"make soak (python -m soak.soak --steps {arguments.steps} --devices {arguments.devices} "
                f"--only {','.join(each['case'] for each in cases)})",
                "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
                "python": platform.python_version(),
                "versions": {package: version(package) for package in PACKAGES},
                "limits": {"memory_growth": GROWTH, "slower": SLOWER, "warm_up": WARM},
                "cases": cases,
            }
            if arguments.json is not None:  # after each case, so that what was run is kept
                arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(not all(case["passed"] for case in cases))


if __name__ == "__main__":
    sys.exit(main())
