"""Our training and evaluation steps beside the published ones, in turn on the same machine.

    python benchmarks/against_original.py --original DIR --torch-python PYTHON

DIR is a user's own checkout of the published system (the folder that holds `meg_classifier`), imported unmodified;
PYTHON an interpreter that has torch, lightning and torchmetrics. All sides step on random windows of 306 x 125, in
training with dropout and all losses. Processes take turns, so that all see the same machine, and each turn gives one
pair. The original runs as it ships, with a heap that keeps its memory as our commands have it, and compiled by
`torch.compile`. Ours reads median and IQR of the windows with the batch, as it does from shards; `--raw` computes them
in the step.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CLASSES, SENSORS, TIME_POINTS = 39, 306, 125
# What `demega_jax.commands.shared.process.keep_heap` sets, for a process that does not know it.
HEAP_KEPT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36)}
SIDES = ("original", "original, heap kept", "original, compiled", "ours")


def original_step(directory: str, batch_size: int, mode: str, *, compiled: bool) -> Callable[[], None]:
    """The published step as its trainer runs it: forward, losses, metrics; in training also clip and AdamW."""
    sys.path.insert(0, directory)
    import torch
    from meg_classifier.models import SingleStageMEGClassifier

    torch.manual_seed(0)
    model = SingleStageMEGClassifier(meg_channels=SENSORS, time_points=TIME_POINTS, vocab_size=CLASSES)
    if compiled:
        model.compile()
    configured = model.configure_optimizers()
    optimizer = configured["optimizer"] if isinstance(configured, dict) else configured[0][0]
    x = torch.randn(batch_size, SENSORS, TIME_POINTS)
    y = torch.randint(0, CLASSES, (batch_size,))

    def train() -> None:
        optimizer.zero_grad()
        loss = model.training_step((x, y), 0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def evaluate() -> None:
        with torch.no_grad():
            model.validation_step((x, y), 0)

    model.train(mode == "train")
    return train if mode == "train" else evaluate


def our_step(batch_size: int, mode: str, *, raw: bool) -> Callable[[], None]:
    """Our compiled step with the default recipe."""
    from demega_jax.commands.shared.process import keep_heap

    keep_heap()
    import jax

    from demega_jax.benchmark.simulated import noise_split
    from demega_jax.config.load import load_config, override
    from demega_jax.data.open import TrainingData, plan_rows
    from demega_jax.evaluation.compiled import compile_evaluate
    from demega_jax.evaluation.evaluate import make_evaluate_step
    from demega_jax.evaluation.step import EvaluationCounts
    from demega_jax.signal.normalize_numpy import median_and_iqr
    from demega_jax.training.parallel import make_placement
    from demega_jax.training.setup import make_experiment

    config = load_config(Path(__file__).parents[1] / "configs" / "default.yaml")
    config = override(config, {"train.batch_size": batch_size}, "benchmark")
    split = noise_split(4096, SENSORS, TIME_POINTS)
    placement = make_placement("jit", 1, batch_size)
    experiment = make_experiment(config, TrainingData(plan_rows(config, split), split), placement)
    state = placement.replicate(experiment.fresh_state())
    x = np.random.default_rng(1).standard_normal((batch_size, SENSORS, TIME_POINTS), np.float32)
    rows = {"x": x, "label": split.labels[:batch_size], "valid": np.ones(batch_size, bool)}
    if not raw:
        rows["median"], rows["iqr"] = median_and_iqr(rows["x"])
    batch = placement.put_batch(rows)
    train_step = placement.compile_train(experiment.train_step)
    graphdef, counts_of_classes = experiment.train_step.graphdef, split.class_counts()
    evaluate_step = compile_evaluate(
        placement, make_evaluate_step(experiment.config, graphdef, counts_of_classes, split)
    )
    counts = placement.replicate(EvaluationCounts.zero(CLASSES, state.buffers["feature_table"].shape[1]))

    def train() -> None:
        nonlocal state
        state, metrics = train_step(state, batch)
        jax.block_until_ready((state, metrics))

    def evaluate() -> None:
        jax.block_until_ready(evaluate_step(state.params, state.buffers, counts, batch))

    return train if mode == "train" else evaluate


def serve(step: Callable[[], None]) -> None:
    """Run a step for every line that comes in, and answer with its seconds."""
    for _ in range(2):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        step()
        print(time.perf_counter() - began, flush=True)


def start(side: str, mode: str, arguments: argparse.Namespace) -> subprocess.Popen[str] | None:
    """The process of a side, ready to step; None if it did not start."""
    python = sys.executable if side == "ours" else arguments.torch_python
    command = [python, __file__, "--original", arguments.original, "--batch-size", str(arguments.batch_size)]
    command += ["--side", side, "--mode", mode, *(["--raw"] if arguments.raw else [])]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | (HEAP_KEPT if side == "original, heap kept" else {}),
    )
    assert process.stdout is not None
    return process if any(line.strip() == "ready" for line in process.stdout) else None


def compare(mode: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Start all sides and time their steps in turn."""
    started = {side: start(side, mode, arguments) for side in SIDES}
    for side in [side for side, process in started.items() if process is None]:
        print(f"left out: the side `{side}` did not start", file=sys.stderr)
    sides = {side: process for side, process in started.items() if process is not None}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(arguments.steps):
        for side, process in sides.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("step\n")
            process.stdin.flush()
            seconds[side].append(float(process.stdout.readline()))
    for process in sides.values():
        process.kill()
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    ratios = {}
    for side in [side for side in sides if side != "ours"]:
        pairs = [a / b for a, b in zip(seconds[side], seconds["ours"], strict=True)]
        low, median, high = np.percentile(pairs, [25, 50, 75]).tolist()
        ratios[side] = {
            "of_medians": medians[side] / medians["ours"],
            "min": min(pairs),
            "lower_quartile": low,
            "median": median,
            "upper_quartile": high,
            "max": max(pairs),
        }
    return {"median_seconds": medians, "samples_per_second_ours_over": ratios}


def versions(torch_python: str) -> dict[str, str]:
    """The versions of jax, and of torch beside it."""
    code = "import torch; print(torch.__version__)"
    torch = subprocess.run([torch_python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
    return {"jax": importlib.metadata.version("jax"), "torch": torch}


def main() -> None:
    """Parse the command line; as a side, serve; else compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", required=True, help="folder that holds meg_classifier")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch and lightning")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--mode", choices=("train", "evaluate"), help="one of the two alone")
    parser.add_argument("--raw", action="store_true", help="our windows come without their statistics")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        size, mode = arguments.batch_size, arguments.mode
        if arguments.side == "ours":
            serve(our_step(size, mode, raw=arguments.raw))
        else:
            compiled = arguments.side == "original, compiled"
            serve(original_step(arguments.original, size, mode, compiled=compiled))
        return
    import jax

    from demega_jax.benchmark.machine import hardware

    figures: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "hardware": hardware(jax.devices()[0]),
        "versions": versions(arguments.torch_python),
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "statistics": "step" if arguments.raw else "batch",
    }
    for mode in (arguments.mode,) if arguments.mode else ("train", "evaluate"):
        figures[mode] = compare(mode, arguments)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
