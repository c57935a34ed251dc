"""The time to train a model to a stated macro-F1 on the validation split, for each of several seeds.

    python benchmarks/speed_run.py DATA --config configs/grouped_20.yaml --to 0.5 --seeds 3 --json speed_run.json

DATA is a folder of grouped files or shards, or a recording tree. Each seed is a training run of its own, one after the
other, which ends at the first validation that reaches the score, or at the end of the configuration. The clock starts
when the data are open, before anything is compiled, put on the devices or trained; validations count. Programs are
compiled anew for the first seed and taken from the process's memory or disk for the others, if jax keeps them.

On a CPU at reduced size, in about a minute:

    demega-jax simulate small --level 100 --groups 2000 --sensors 12 --seed 0
    python benchmarks/speed_run.py small --config configs/tiny.yaml --to 0.3 --seeds 2 train.eval_every=20
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import logging
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from demega_jax.benchmark.machine import hardware
from demega_jax.config import Config
from demega_jax.config.load import load_config, override
from demega_jax.evaluation.evaluate import Validate, validation_of
from demega_jax.evaluation.fit import open_experiment
from demega_jax.metrics import Scores
from demega_jax.training.loop import Loop
from demega_jax.training.restore import start_state
from demega_jax.training.run import RunFolder
from demega_jax.training.signals import Interrupted, Signals


@dataclasses.dataclass
class Watch:
    """A validation that notes when each score came, and asks training to stop at the wanted one."""

    validate: Validate
    wanted: float
    signals: Signals
    began: float = 0.0
    log: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def __call__(self, params: Any, buffers: Any) -> Scores:
        """The scores of the validation split."""
        scores = self.validate(params, buffers)
        self.log.append({"seconds": time.perf_counter() - self.began, "macro_f1": scores.macro_f1})
        if scores.macro_f1 >= self.wanted:
            self.signals.received = signal.SIGINT
        return scores

    @property
    def seconds(self) -> float | None:
        """Seconds until the wanted score; None: it was not reached."""
        last = self.log[-1] if self.log else None
        return last["seconds"] if last is not None and last["macro_f1"] >= self.wanted else None


def run(config: Config, folder: Path, wanted: float, devices: int | None) -> dict[str, Any]:
    """Train one seed; returns its time and its log."""
    experiment, signals, run_folder = open_experiment(config, devices), Signals(), RunFolder(folder)
    watch = Watch(validation_of(experiment), wanted, signals, time.perf_counter())
    state, metas = start_state(experiment, run_folder, None, lambda text: None, resume=False)
    loop = Loop(experiment, run_folder, state, metas, watch)
    try:
        loop.run(resumed=False, signals=signals)
    except Interrupted:
        pass  # the score is reached
    return {"seed": config.train.seed, "seconds": watch.seconds, "validations": watch.log}


def main() -> None:
    """Train every seed, print the times, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--to", type=float, required=True, help="macro-F1 on validation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    asked = parser.parse_intermixed_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax logs much that nobody needs
    base = load_config(asked.config, asked.overrides)
    keys = {"data.path": str(asked.data.absolute()), "train.members": 1}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seeds):
            config = override(base, keys | {"train.seed": base.train.seed + seed}, "speed_run")
            found.append(run(config, Path(folder) / str(seed), asked.to, asked.devices))
            seconds = found[-1]["seconds"]
            print(
                f"seed {config.train.seed}: " + ("not reached" if seconds is None else f"{seconds:.1f} s"), flush=True
            )
    times = [each["seconds"] for each in found if each["seconds"] is not None]
    if times:
        print(f"macro-F1 {asked.to} by {len(times)} of {len(found)} seeds, median {statistics.median(times):.1f} s")
    if asked.json is not None:
        content = {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "hardware": hardware(jax.devices()[0]),
            "versions": {name: importlib.metadata.version(name) for name in ("demega-jax", "jax")},
            "to_macro_f1": asked.to,
            "config": base.model_dump(mode="json"),
            "seeds": found,
        }
        asked.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
