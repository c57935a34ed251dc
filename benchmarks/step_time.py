"""Time of a training step on random batches: `python benchmarks/step_time.py --batch-size 64`.

Prints steps/s, samples/s, compile time, achieved FLOP/s from a count of the step's own matrix products and
convolutions, input wait (with `--data`), and memory. All losses and dropout on, full 306 x 125 windows by default.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from demega_jax.benchmark.flops import matrix_flops
from demega_jax.benchmark.simulated import random_batch, random_split
from demega_jax.config import Config
from demega_jax.config.load import load_config, override
from demega_jax.data.feeds.feed import Feed
from demega_jax.data.levels import open_levels
from demega_jax.files import parse_bytes
from demega_jax.heap import keep_heap, only_cpu
from demega_jax.training.memory import step_memory
from demega_jax.training.parallel import Placement, make_placement
from demega_jax.training.setup import Data, make_experiment


def measure(config: Config, placement: Placement, steps: int, data: Path | None) -> dict[str, Any]:
    """Compile, warm up and time `steps` steps, each by itself."""
    size = config.train.batch_size
    if data is None:
        sensors, time_points = config.model.sensors or 306, config.model.time_points or 125
        split = random_split(4096, sensors, time_points)
    else:
        split = open_levels(data, config.data.level, "train")
    experiment = make_experiment(config, Data(split, split), placement)
    state = placement.replicate(experiment.fresh_state())
    feed: Feed | None = experiment.feed() if data is not None else None
    batch = placement.put_batch(random_batch(split, size)) if feed is None else next(feed)
    jaxpr = jax.make_jaxpr(experiment.train_step)(state, random_batch(split, size))
    began = time.perf_counter()
    compiled = placement.compile_train(experiment.train_step).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - began
    need = step_memory(compiled, state)
    seconds, waits = [], []
    for step in range(steps + 2):
        began = time.perf_counter()
        state, metrics = compiled(state, batch)
        jax.block_until_ready(metrics["loss"])
        ended = time.perf_counter()
        if feed is not None:
            batch = next(feed)
        if step >= 2:
            seconds.append(ended - began)
            waits.append(time.perf_counter() - ended)
    if feed is not None:
        feed.close()
    return report(seconds, waits, compile_seconds, matrix_flops(jaxpr.jaxpr), need.total, size, placement)


def report(
    seconds: Sequence[float], waits: Sequence[float], compile_seconds: float, flops: int, memory: int, size: int,
    placement: Placement,
) -> dict[str, Any]:  # fmt: skip
    """The figures by name."""
    median = statistics.median(seconds)
    device = placement.mesh.devices.flat[0]
    stats = device.memory_stats() or {}
    peak = stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return {
        "device": f"{placement.devices} x {device.device_kind} ({os.cpu_count()} CPU cores)",
        "jax": jax.__version__,
        "batch_size": size,
        "compile_seconds": round(compile_seconds, 2),
        "step_seconds": {"min": min(seconds), "median": median, "max": max(seconds)},
        "steps_per_second": 1 / median,
        "samples_per_second": size / median,
        "gflop_per_step": flops / 1e9,
        "tflop_per_second": flops / median / 1e12,
        "input_wait_seconds": statistics.median(waits),
        "step_memory_gib": memory / 2**30,
        "peak_memory_gib": peak / 2**30,
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--parallel", choices=("jit", "pmap"), default="jit")
    parser.add_argument("--data", type=Path, help="folder with grouped_K: feed the steps from it")
    parser.add_argument("--memory", default="4G", help="data.memory, with --data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_args()
    if only_cpu():
        keep_heap()
    if arguments.devices > 1:
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    changes = {"train.batch_size": arguments.batch_size, "data.memory": arguments.memory}
    config = override(load_config(arguments.config, arguments.overrides), changes, "command line")
    parse_bytes(arguments.memory)
    placement = make_placement(arguments.parallel, arguments.devices, arguments.batch_size)
    figures = measure(config, placement, arguments.steps, arguments.data)
    for name, value in figures.items():
        shown = {k: round(v, 4) for k, v in value.items()} if isinstance(value, dict) else value
        print(f"{name:<20} {round(shown, 4) if isinstance(shown, float) else shown}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
