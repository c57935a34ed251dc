"""What each part of configs/leaderboard.yaml changes on simulated recordings: the parts switched on one by one.

    demega-jax simulate recordings --recordings --minutes 60 --sensors 12 --seed 1
    python benchmarks/recipe_parts.py recordings --json benchmarks/results/recipe_parts_cpu.json

Every variant trains the same number of steps from the same seeds, side by side, and is scored on the test session with
the mean over seeds, its 95 % interval (Student's t), the paired difference from the base, and the macro-F1 of the mean
of probabilities. Rows of the test session are averages of K windows for every variant, so the scores compare.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

from demega_jax.config import Config
from demega_jax.config.load import load_config, override
from demega_jax.data.open import open_split
from demega_jax.evaluation.fit import fit
from demega_jax.evaluation.model import load
from demega_jax.evaluation.runs import Ensemble
from demega_jax.evaluation.sweep.cells import over_seeds
from demega_jax.metrics import macro_f1
from demega_jax.training.run import RunFolder
from demega_jax.training.signals import Signals

BASE = {"model.input_norm": "median_iqr", "data.regroup.new_groups": False, "loss.class_weights": "none"}
PARTS: dict[str, dict[str, object]] = {
    "instance normalisation": {"model.input_norm": "instance"},
    "new groups every epoch": {"data.regroup.new_groups": True},
    "K adapted, with overlap": {
        "data.regroup.target_rows": 60,
        "data.regroup.min_level": 5,
        "data.regroup.overlap": 5.0,
    },
    "inverse-square-root class weights": {"loss.class_weights": "inverse_sqrt"},
}


@dataclasses.dataclass(frozen=True)
class Result:
    """macro_f1: of each seed.  ensemble: of the mean of their probabilities."""

    macro_f1: list[float]
    ensemble: float
    seconds: float


def variants() -> dict[str, dict[str, object]]:
    """The base, each part alone, and all together."""
    everything = {key: value for part in PARTS.values() for key, value in part.items()}
    alone = {f"base + {name}": BASE | part for name, part in PARTS.items()}
    return {"base": BASE, **alone, "all parts": BASE | everything}


def run(config: Config, folder: Path, data: Path, level: int) -> Result:
    """Train and score a variant."""
    began = time.perf_counter()
    with Signals().noted() as signals:
        fit(config, RunFolder(folder), signals, lambda text: None)
    model = load(folder)
    rows = config.data.model_copy(update={"level": level})
    split = open_split(data, "test", rows, classes=model.classes, expect_shape=model.window)
    found = Ensemble.of([model], rows=split.rows).predict(split)
    each = [macro_f1(found.labels, p.argmax(axis=-1)) for p in found.plain]
    together = macro_f1(found.labels, found.plain.mean(axis=0).argmax(axis=-1))
    return Result(each, together, time.perf_counter() - began)


def line(name: str, result: Result, base: Result) -> dict[str, object]:
    """The figures of a variant beside those of the base."""
    interval = over_seeds(result.macro_f1)
    differences = np.subtract(result.macro_f1, base.macro_f1)
    found: dict[str, object] = {
        "name": name,
        "mean": statistics.fmean(result.macro_f1),
        "interval": [interval.low, interval.high],
        "ensemble": result.ensemble,
        "macro_f1": result.macro_f1,
        "seconds": result.seconds,
    }
    if result is not base:
        paired = over_seeds(differences.tolist())
        p = float(stats.ttest_1samp(differences, 0).pvalue)
        found |= {"difference": float(differences.mean()), "difference_interval": [paired.low, paired.high], "p": p}
    return found


def main() -> None:
    """Measure and print every variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/tiny.yaml"))
    parser.add_argument("--level", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    common = {
        "data.path": str(asked.recordings.absolute()),
        "data.feed": "regroup",
        "data.level": asked.level,
        "train.members": asked.seeds,
        "train.epochs": None,
        "train.steps": asked.steps,
        "train.eval_every": asked.steps // 8,
        "train.log_every": asked.steps // 8,
        "train.steps_per_dispatch": 10,
    }
    results: dict[str, Result] = {}
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, keys) in enumerate(variants().items()):
            config = override(load_config(asked.config), common | keys, "recipe_parts")
            results[name] = run(config, Path(folder) / str(number), asked.recordings, asked.level)
            lines.append(line(name, results[name], results["base"]))
            print(json.dumps(lines[-1]), flush=True)
    if asked.json is not None:
        content = {"level": asked.level, "seeds": asked.seeds, "steps": asked.steps, "variants": lines}
        asked.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
