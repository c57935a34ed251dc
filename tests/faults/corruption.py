"""Every file of every folder, damaged in every way: python -m faults.corruption --cases 3000 --seed 0 --json FILE

A damaged file is found and named, or survived with a warning, or it makes no difference; it never gives other numbers
in silence, a traceback, or a wait. Each case runs in a worker process, which is killed where it takes too long.
"""

import argparse
import contextlib
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
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from faults.damage import DAMAGES, damaged
from faults.readers import READERS, Digests
from faults.workers import Workers

FINE = ("refused", "survived with a warning", "no difference")
FOLDERS = {
    "run, for prediction": "run",
    "run, for training": "run",
    "grouped files": "data",
    "shards": "shards",
    "recordings": "recordings",
}
SHARES = {"run, for prediction": 4, "run, for training": 4, "grouped files": 4, "shards": 5, "recordings": 3}
# A file that is whole, and of another run or data, cannot be told from the right one where it stands for itself.
STAND_ALONE = ("grouped files", "recordings")
TURN = [what for what, share in SHARES.items() for _ in range(share)]


def make_folders(base: Path, seed: int, *more: str) -> None:
    """A run, grouped files, shards of them and recordings of a seed. more: keys of the run."""
    from helpers.runs import train
    from helpers.small_run import KEYS

    from demega_jax.cli import main

    size = ["--sensors", "4", "--seed", str(seed)]
    base.mkdir(parents=True)
    for words in (
        ["simulate", str(base / "data"), "--level", "5", "--groups", "64", "--time-points", "9", *size],
        ["shard", str(base / "data"), str(base / "shards")],
        ["simulate", str(base / "recordings"), "--recordings", "--minutes", "2", *size],
    ):
        assert main(words) == 0
    assert train(base / "data", base / "run", *KEYS, f"train.seed={seed}", *more) == 0


class Case:
    """One damage to one file. All of it follows from the seed and the number."""

    def __init__(self, seed: int, number: int, base: Path, other: Path):
        self.rng = np.random.default_rng([seed, number])
        self.what = TURN[number % len(TURN)]
        self.folder = base / FOLDERS[self.what]
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name != ".lock")
        self.path = files[int(self.rng.integers(len(files)))]
        name = self.path.relative_to(self.folder)
        self.other = counterpart(other / FOLDERS[self.what], name)
        alone = self.what in STAND_ALONE or self.other is None
        self.how = str(self.rng.choice([how for how in DAMAGES if how != "replaced" or not alone]))
        if self.rng.random() < 0.4:
            self.how = "bit"  # there are far more bits than files

    def run(self, wanted: Digests, seen: list[Digests]) -> tuple[str, str]:
        """What came of it, and in which words."""
        from demega_jax.errors import UserError, set_warning_sink

        warnings: list[str] = []
        set_warning_sink(warnings.append)
        with damaged(self.path, self.how, self.other or self.path, self.rng) as said:
            try:
                found = READERS[self.what](self.folder)
            except UserError as error:
                return "refused", f"{said}: {error}"
            except Exception:
                return "traceback", f"{said}: {traceback.format_exc()[-1500:]}"
            finally:
                set_warning_sink(None)
        if found == wanted:
            return "no difference", said
        allowed = all(any(value == each.get(name) for each in [wanted, *seen]) for name, value in found.items())
        if warnings and allowed:
            return "survived with a warning", f"{said}: {warnings[0]}"
        return "silent", f"{said}: {[name for name in found if found[name] != wanted.get(name)]} {warnings[:1]}"


def counterpart(folder: Path, name: Path) -> Path | None:
    """The file of the same name of another run or of other data, if there is one."""
    found = [folder / name] if (folder / name).is_file() else sorted(folder.glob(f"**/{name.name}"))
    return found[0] if found else None


class Cases:
    """Cases of a seed, on folders of this process. The cache, in which statistics of recordings are remembered, is
    below them."""

    def __init__(self, seed: int, base: Path, other: Path):
        self._seed, self._base, self._other = seed, base, other
        os.environ["XDG_CACHE_HOME"] = str(base / "cache")
        self._wanted = {what: READERS[what](base / folder) for what, folder in FOLDERS.items()}
        self._seen = {what: survivals(what, base / FOLDERS[what]) for what in READERS}

    def run(self, number: int) -> tuple[str, str, str, str]:
        """(folder, damage, outcome, words) of a case."""
        shutil.rmtree(self._base / "cache", ignore_errors=True)
        case = Case(self._seed, number, self._base, self._other)
        outcome, words = case.run(self._wanted[case.what], self._seen[case.what])
        return case.what, case.how, outcome, f"{case.path.relative_to(self._base)}: {words}"


def worker(connection: Connection, seed: int, base: Path, other: Path) -> None:
    """Answer case numbers with (folder, damage, outcome, words, seconds, peak memory in MiB)."""
    to = os.open(os.devnull, os.O_WRONLY)
    os.dup2(to, 1)
    os.dup2(to, 2)
    cases = Cases(seed, base, other)
    connection.send("ready")
    while (number := connection.recv()) is not None:
        began = time.monotonic()
        answer = cases.run(number)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        connection.send((*answer, time.monotonic() - began, peak))


def survivals(what: str, folder: Path) -> list[Digests]:
    """What else is right, with a warning: an earlier checkpoint of the run, the latest for the best, no log; of
    recordings, the session runs that are left.

    Each is read from a copy in which the newer one, or the session run, is gone.
    """
    from demega_jax.errors import UserError, set_warning_sink

    set_warning_sink(lambda line: None)
    found: list[Digests] = []
    for gone in missing(what, folder):
        copy = folder.parent / "survival" / folder.name
        shutil.copytree(folder, copy)
        for name in gone:
            shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
        with contextlib.suppress(UserError):
            found.append(READERS[what](copy))
        shutil.rmtree(copy.parent)
    set_warning_sink(None)
    return found


def missing(what: str, folder: Path) -> list[list[Path]]:
    """Files and folders without which something else is right."""
    if what == "recordings":
        events = sorted(folder.rglob("*_events.tsv"))
        stems = [path.name.removesuffix("_events.tsv") for path in events]
        return [[path.relative_to(folder) for path in folder.rglob(f"{stem}*")] for stem in stems]
    if FOLDERS[what] != "run":
        return []
    log, best = Path("metrics.jsonl"), Path("checkpoints/best")
    steps = (folder / "checkpoints" / "latest").iterdir()
    last = max(steps, key=lambda path: int(path.name)).relative_to(folder)
    return [[log], [best], [best, last], [last], [last, log]]


def campaign(cases: list[int], seed: int, workers: int, minutes: float) -> list[tuple]:
    """(number, folder, damage, outcome, words, seconds, peak memory) of each case."""
    with tempfile.TemporaryDirectory(prefix="demega-jax-corruption-") as folder:
        base = Path(folder)
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            make_folders(base / "one", 1)
            make_folders(base / "other", 2)

        def start(number: int) -> tuple:
            mine = base / f"worker-{number}"
            shutil.copytree(base / "one", mine)
            return worker, (seed, mine, base / "other")

        pool = Workers(start, workers)
        try:
            return pool.run(cases, time.monotonic() + minutes * 60)
        finally:
            pool.close()


def summary(results: list[tuple], seed: int, seconds: float) -> dict:
    """What is kept of a campaign."""
    counts = Counter((what, how, outcome) for _, what, how, outcome, *_ in results)
    return {
        "format": 1,
        "date": datetime.date.today().isoformat(),
        "command": f"make corruption (python -m faults.corruption --cases {len(results)} --seed {seed})",
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("jax", "orbax-checkpoint", "h5py", "numpy")},
        "seed": seed,
        "cases": len(results),
        "outcomes": dict(Counter(outcome for _, _, _, outcome, *_ in results)),
        "seconds": round(seconds),
        "slowest_case_seconds": round(max((result[5] for result in results), default=0.0), 2),
        "peak_memory_mib": max((result[6] for result in results), default=0),
        "by_folder_and_damage": [
            {"folder": what, "damage": how, "outcome": outcome, "cases": count}
            for (what, how, outcome), count in sorted(counts.items())
        ],
        "not_fine": [
            {"number": number, "outcome": outcome, "words": words}
            for number, _, _, outcome, words, *_ in results
            if outcome not in FINE
        ][:200],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=240)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    numbers = list(range(arguments.cases)) if arguments.only is None else [arguments.only]
    results = campaign(numbers, arguments.seed, arguments.workers, arguments.minutes)
    found = summary(results, arguments.seed, time.monotonic() - began)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({"outcomes": found["outcomes"], "not_fine": found["not_fine"]}, indent=1))
    return int(bool(found["not_fine"]))


if __name__ == "__main__":
    sys.exit(main())
