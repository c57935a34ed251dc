"""Many inputs of every kind: python -m fuzz.campaign --cases 20000 --seed 0 --json FILE [--only KIND:NUMBER]

Each is made in a worker process, which is killed where an input takes too long, and whose memory is measured.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from faults.workers import Workers

from fuzz.inputs import KINDS

PACKAGES = ("jax", "h5py", "numpy", "pydantic", "safetensors", "typer")
MOST_MIB = 1024  # that a worker may need beyond what its imports need


def one(kind: str, number: int, seed: int, folder: Path) -> tuple[str, str]:
    """What comes of an input, and in which words."""
    from demega_jax.errors import UserError

    try:
        KINDS[kind](Random(f"{seed}:{kind}:{number}"), folder)
    except UserError as error:
        return ("refused", "") if "\n" not in str(error) else ("several lines", str(error)[:300])
    except BaseException:  # also SystemExit, which must not end the worker, is a fault here
        return "traceback", traceback.format_exc()[-1500:]
    return "taken", ""


def worker(connection: Connection, seed: int, folder: Path) -> None:
    """Answer numbers with (kind, outcome, words, seconds, peak memory in MiB beyond the start)."""
    to = os.open(os.devnull, os.O_WRONLY)
    os.dup2(to, 1)
    os.dup2(to, 2)
    folder.mkdir()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(folder)}  # no network
    os.environ["XDG_CACHE_HOME"] = str(folder)
    os.chdir(folder)
    names = list(KINDS)
    for kind in names:  # everything is imported
        one(kind, -1, seed, folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection.send("ready")
    while (number := connection.recv()) is not None:
        began, kind = time.monotonic(), names[number % len(names)]
        outcome, words = one(kind, number // len(names), seed, folder)
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        if outcome in ("taken", "refused") and peak > MOST_MIB:
            outcome = "memory"
        connection.send((kind, number // len(names), outcome, words, time.monotonic() - began, peak))


def summary(results: list[tuple], seed: int, seconds: float) -> dict:
    """What is kept of a campaign. results: (number, *answer of the worker)."""
    counts = Counter((each[1], each[3]) for each in results)
    return {
        "format": 1,
        "date": datetime.date.today().isoformat(),
        "command": f"make fuzz (python -m fuzz.campaign --cases {len(results)} --seed {seed})",
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "torch": "installed" if find_spec("torch") else "not installed: checkpoints of Lightning are refused unread",
        "seed": seed,
        "cases": len(results),
        "outcomes": dict(Counter(each[3] for each in results)),
        "by_kind": [{"kind": k, "outcome": outcome, "cases": n} for (k, outcome), n in sorted(counts.items())],
        "slowest_case_seconds": round(max((each[5] for each in results), default=0.0), 2),
        "peak_memory_mib": max((each[6] for each in results), default=0),
        "seconds": round(seconds),
        "faults": [
            {"again": f"--seed {seed} --only '{each[1]}:{each[2]}'", "outcome": each[3], "words": each[4]}
            for each in results
            if each[3] not in ("taken", "refused")
        ][:100],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="KIND:NUMBER")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=240)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="demega-jax-fuzz-"))
    try:
        if arguments.only is not None:
            kind, number = arguments.only.split(":")
            print(one(kind, int(number), arguments.seed, folder))
            return 0
        pool = Workers(lambda number: (worker, (arguments.seed, folder / str(number))), arguments.workers)
        results = pool.run(list(range(arguments.cases)), began + arguments.minutes * 60)
        pool.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = summary(results, arguments.seed, time.monotonic() - began)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in ("outcomes", "by_kind", "faults")}, indent=1))
    return int(bool(found["faults"]))


if __name__ == "__main__":
    sys.exit(main())
