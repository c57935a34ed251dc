"""Many trials, chosen by a seed: python -m faults.campaign --trials 200 --seed 0 --json FILE [--only NUMBER]

The trial of a number is the same in every campaign of that seed, whatever ran before it.
"""

import argparse
import datetime
import json
import os
import platform
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np

from faults.outputs import COMMANDS, try_command
from faults.server import Server
from faults.trials import FEEDS, KINDS, Trial, Whole, make_data, make_whole, try_one

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "h5py", "numpy")


def chosen(number: int) -> tuple[str, str]:
    """(kind, feed) of a trial: all kinds with all feeds come in turn, and every fifth trial is another command."""
    if number % 5 == 4:
        return "command", list(COMMANDS)[number // 5 % len(COMMANDS)]
    place = number - number // 5
    kinds, feeds = list(KINDS), list(FEEDS)
    return kinds[place % len(kinds)], feeds[(place + place // len(kinds)) % len(feeds)]


class Campaign:
    """Trials side by side, each worker with a server of its own."""

    def __init__(self, folder: Path, seed: int, workers: int, cache: Path, log: Path):
        self.folder, self.seed, self.log = folder, seed, log
        self.servers = [Server(cache) for _ in range(workers)]
        make_data(self.servers[0], folder)
        self.wholes: dict[str, Whole] = {}
        lines = log.read_text().splitlines() if log.exists() else []
        earlier = [json.loads(line) for line in lines if line.startswith("{")]
        self.results = [each for each in earlier if each["survived"]]
        self._lock = threading.Lock()

    def prepare(self, feeds: list[str]) -> None:
        """Make the undisturbed runs."""
        self._side_by_side(
            feeds, lambda server, feed: self.wholes.update({feed: make_whole(server, self.folder, feed)})
        )

    def run(self, numbers: list[int], until: float) -> None:
        """Do the trials of these numbers, as long as there is time."""

        def one(server: Server, number: int) -> None:
            if time.monotonic() < until:
                result = self._try(server, number)
                with self._lock:
                    self.results.append(result)
                    with self.log.open("a") as log:
                        log.write(json.dumps(result) + "\n")

        self._side_by_side(numbers, one)

    def _side_by_side(self, items: list, do) -> None:
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        for item in items:
            waiting.put(item)

        def work(server: Server) -> None:
            while True:
                try:
                    do(server, waiting.get_nowait())
                except queue.Empty:
                    return

        threads = [threading.Thread(target=work, args=(server,)) for server in self.servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _try(self, server: Server, number: int) -> dict:
        kind, feed = chosen(number)
        rng, folder = np.random.default_rng([self.seed, number]), self.folder / f"trial-{number}"
        began, told, wrong = time.monotonic(), [], ""
        try:
            if kind == "command":
                try_command(server, feed, self.folder, self.wholes, folder, rng, told)
            else:
                trial = Trial(server, self.wholes[feed], folder, rng)
                told = trial.told
                try_one(kind, trial)
        except Exception as error:  # one trial that fails must not end the others: it is reported, and counted
            wrong = f"{type(error).__name__}: {error}"
        if not wrong:
            shutil.rmtree(folder, ignore_errors=True)
        again = f"python -m faults.campaign --seed {self.seed} --only {number}"
        return {
            "number": number,
            "kind": kind,
            "feed": feed,
            "survived": not wrong,
            "told": told,
            "wrong": wrong[:3000],
            "seconds": round(time.monotonic() - began, 1),
            "again": again,
        }

    def close(self) -> None:
        for server in self.servers:
            server.close()


def summary(results: list[dict], arguments: argparse.Namespace, seconds: float) -> dict:
    """What is kept of a campaign."""
    counts = Counter((each["kind"], each["feed"]) for each in results)
    survived = Counter((each["kind"], each["feed"]) for each in results if each["survived"])
    hit = sum(any(step.get("status", 0) != 0 for step in each["told"]) for each in results)
    return {
        "format": 1,
        "date": datetime.date.today().isoformat(),
        "command": f"make faults (python -m faults.campaign --trials {arguments.trials} --seed {arguments.seed})",
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "seed": arguments.seed,
        "asked": arguments.trials,
        "trials": len(results),
        "survived": sum(each["survived"] for each in results),
        "disturbed": hit,
        "seconds_of_all_trials": round(seconds),
        "by_kind_and_feed": [
            {"kind": kind, "feed": feed, "trials": counts[kind, feed], "survived": survived[kind, feed]}
            for kind, feed in sorted(counts)
        ],
        "failed": [each for each in results if not each["survived"]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=240)
    parser.add_argument("--cache", type=Path, help="folder of compiled programs, kept for the next campaign")
    parser.add_argument("--log", type=Path, help="a line for each trial; those that survived are not repeated")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="demega-jax-faults-"))
    folder.chmod(0o755)
    numbers = list(range(arguments.trials)) if arguments.only is None else [arguments.only]
    log = arguments.log or folder / "trials.jsonl"
    campaign = Campaign(folder, arguments.seed, arguments.workers, arguments.cache or folder / "cache", log)
    done = {each["number"] for each in campaign.results}
    numbers = [number for number in numbers if number not in done]
    needed = {"stream" if feed in ("evaluate", "predict") else feed for _, feed in map(chosen, numbers)}
    campaign.prepare([feed for feed in FEEDS if feed in needed])
    campaign.run(numbers, began + arguments.minutes * 60)
    campaign.close()
    found = summary(campaign.results, arguments, sum(each["seconds"] for each in campaign.results))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{found['survived']} of {found['trials']} trials survived, {found['disturbed']} of them disturbed")
    if found["survived"] < found["trials"]:
        print(f"what failed is left in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
