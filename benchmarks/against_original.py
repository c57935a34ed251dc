"""Our training step beside the published one, in turn on the same machine.

    python benchmarks/against_original.py --original DIR --torch-python PYTHON

DIR is a user's own checkout of the published system (the folder that holds `meg_classifier`), imported unmodified;
PYTHON an interpreter that has torch, lightning and torchmetrics. Both sides train on random windows of 306 x 125
with dropout and all losses; two processes take turns, so that both see the same machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CLASSES, SENSORS, TIME_POINTS = 39, 306, 125


def original_step(directory: str, batch_size: int) -> Callable[[], None]:
    """The published training step as its trainer runs it: forward, losses, metrics, clip, AdamW."""
    sys.path.insert(0, directory)
    import torch
    from meg_classifier.models import SingleStageMEGClassifier

    torch.manual_seed(0)
    model = SingleStageMEGClassifier(meg_channels=SENSORS, time_points=TIME_POINTS, vocab_size=CLASSES)
    model.train()
    configured = model.configure_optimizers()
    optimizer = (configured["optimizer"] if isinstance(configured, dict) else configured[0][0])  # fmt: skip
    x = torch.randn(batch_size, SENSORS, TIME_POINTS)
    y = torch.randint(0, CLASSES, (batch_size,))

    def step() -> None:
        optimizer.zero_grad()
        loss = model.training_step((x, y), 0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(batch_size: int) -> Callable[[], None]:
    """Our compiled step with the default recipe."""
    import jax
    from step_time import random_batch, random_split

    from demega_jax.config_file import load_config, override
    from demega_jax.training.parallel import make_placement
    from demega_jax.training.setup import Data, make_experiment

    config = load_config(Path(__file__).parents[1] / "configs" / "default.yaml")
    config = override(config, {"train.batch_size": batch_size}, "benchmark")
    split = random_split(4096, SENSORS, TIME_POINTS)
    placement = make_placement("jit", 1, batch_size)
    experiment = make_experiment(config, Data(split, split), placement)
    state = placement.replicate(experiment.fresh_state())
    batch = placement.put_batch(random_batch(split, batch_size))
    compiled = placement.compile_train(experiment.train_step).lower(state, batch).compile()

    def step() -> None:
        nonlocal state
        state, metrics = compiled(state, batch)
        jax.block_until_ready((state, metrics))

    return step


def serve(step: Callable[[], None]) -> None:
    """Run a step for every line that comes in, and answer with its seconds."""
    for _ in range(2):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        step()
        print(time.perf_counter() - began, flush=True)


def compare(arguments: argparse.Namespace) -> dict[str, object]:
    """Start both sides and time their steps in turn."""
    common = [__file__, "--original", arguments.original, "--batch-size", str(arguments.batch_size)]
    commands = {
        "original": [arguments.torch_python, *common, "--side", "original"],
        "ours": [sys.executable, *common, "--side", "ours"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    sides = {}
    for name, command in commands.items():
        pipe = subprocess.PIPE
        side = sides[name] = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert side.stdout is not None
        if not any(line.strip() == "ready" for line in side.stdout):
            raise SystemExit(f"the side `{name}` did not start")
    for _ in range(arguments.steps):
        for name, side in sides.items():
            assert side.stdin is not None and side.stdout is not None
            side.stdin.write("step\n")
            side.stdin.flush()
            seconds[name].append(float(side.stdout.readline()))
    for side in sides.values():
        side.kill()
    ratios = [b / a for a, b in zip(seconds["original"], seconds["ours"], strict=True)]
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "batch_size": arguments.batch_size, "steps": arguments.steps, "median_seconds": medians,
        "ours_over_original": {"of_medians": medians["ours"] / medians["original"],
                               "min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
    }  # fmt: skip


def main() -> None:
    """Parse the command line; as a side, serve; else compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", required=True, help="folder that holds meg_classifier")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch and lightning")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=("original", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        size = arguments.batch_size
        serve(original_step(arguments.original, size) if arguments.side == "original" else our_step(size))
        return
    figures = compare(arguments)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
