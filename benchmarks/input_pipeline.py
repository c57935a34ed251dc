"""Rows and bytes per second of every feed from every source, beside reading in order and copying memory.

    python benchmarks/input_pipeline.py [--gigabytes 1.5] [--json FILE] [--plot FILE]

A grouped file as the hub's (sorted by label, chunks of 32 rows) is written to a temporary folder and sharded there,
and a recording of the same size beside it, from which every row of the regroup feed is the mean of K windows.
The ways take turns, so that a busy machine disturbs all of them alike; figures are medians on warm files. Memory is how
much resident memory grew while a feed ran (for the resident feed on a CPU, the split itself is in it).
"""

import argparse
import functools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from feed_rate import GB, read_in_order, resident
from matplotlib.figure import Figure

from demega_jax.benchmark.simulated import write_noise_file, write_noise_recording
from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.data.feeds.feed import FeedPlan, Placement
from demega_jax.data.grouped import open_grouped
from demega_jax.data.open import plan_regroup, plan_rows
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.statistics import Statistics
from demega_jax.data.recordings.tree import RecordingTree
from demega_jax.data.shards.plan import ShardSettings
from demega_jax.data.shards.reader import open_shards
from demega_jax.data.shards.writer import write_shards
from demega_jax.data.split import Split
from demega_jax.training.parallel import make_placement

IN_MEMORY = "1000T"
SHARES = 8
LEVELS = (1, 5, 20, 100)
GROUPS_A_CLASS = 64  # of an epoch, so that batches are full


def run_feed(plan: FeedPlan, placement: Placement) -> tuple[float, float]:
    """(rows per second, most resident memory in GB) of an epoch; the first batches, which compile, are not counted."""
    feed = plan.open(placement)
    try:
        for _ in range(4):
            jax.block_until_ready(next(feed))
        rows, most = 0, 0.0
        began = time.perf_counter()
        for _ in range(plan.steps_per_epoch):
            batch = jax.block_until_ready(next(feed))
            rows += int(np.sum(batch["valid"]))
            most = max(most, resident())
        return rows / (time.perf_counter() - began), most
    finally:
        feed.close()


def copy_memory(split: Split) -> float:
    """Rows per second of copying rows from one place in memory to another, a batch at a time."""
    source = np.ones((512, split.sensors, split.time_points), np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    began = time.perf_counter()
    for _ in range(8):
        np.copyto(target, source)
    return 8 * len(source) / (time.perf_counter() - began)


def ways_of(
    split: Split, shards: dict[str, Any], recordings: Path, batch_size: int, growth: dict[str, list[float]]
) -> dict[str, tuple[Callable[[], float], int]]:
    """What is measured: name -> (rows per second, bytes a row)."""
    placement = make_placement("jit", 1, batch_size)
    row = split.sensors * split.time_points

    base = Config.model_validate({"train": {"batch_size": batch_size}, "data": {"shares": SHARES}})

    def fed(name: str, make: Callable[[], FeedPlan]) -> float:
        before = resident()
        rate, most = run_feed(make(), placement)
        growth.setdefault(name, []).append(most - before)
        return rate

    def stream(of: Split, memory: str) -> Callable[[], FeedPlan]:
        return lambda: plan_rows(override(base, {"data.memory": memory}, "benchmark"), of)

    def on_device(dtype: str) -> Callable[[], FeedPlan]:
        return lambda: plan_rows(override(base, {"data.feed": "resident", "data.dtype": dtype}, "benchmark"), split)

    def regrouped(level: int, dtype: str) -> FeedPlan:
        # Groups overlap here, so that every one has K windows; what a batch costs does not depend on it.
        changes = {
            "data.feed": "regroup",
            "data.level": level,
            "data.dtype": dtype,
            "data.regroup.overlap": 1e6,
            "data.regroup.target_rows": GROUPS_A_CLASS,
            "data.regroup.min_level": level,
        }
        config = override(base, changes, "benchmark")
        runs = {"train": find_recordings(recordings)}
        unchanged = Statistics(np.zeros(306), np.ones(306))
        return plan_regroup(config, RecordingTree(recordings, runs, lambda: unchanged, config.data))

    makers: dict[str, tuple[Callable[[], FeedPlan], int]] = {
        "stream, grouped file, disk": (stream(split, "0"), 4 * row),
        "stream, grouped file, memory": (stream(split, IN_MEMORY), 4 * row),
        "stream, shards normalised, disk": (stream(shards["median_iqr"], "0"), 2 * row),
        "stream, shards normalised, memory": (stream(shards["median_iqr"], IN_MEMORY), 2 * row),
        "stream, shards raw, disk": (stream(shards["raw"], "0"), 2 * row),
        "resident, float32": (on_device("float32"), 4 * row),
        "resident, float16": (on_device("float16"), 2 * row),
    }
    for level in LEVELS:
        for dtype, size in (("float32", 4), ("float16", 2)):
            makers[f"regroup, K={level}, {dtype}"] = (functools.partial(regrouped, level, dtype), level * size * row)
    ways: dict[str, tuple[Callable[[], float], int]] = {
        "copy of memory": (lambda: copy_memory(split), 4 * row),
        "file in order, h5py": (lambda: read_in_order(split), 4 * row),
    }
    for name, (make, size) in makers.items():
        ways[name] = (lambda name=name, make=make: fed(name, make), size)  # type: ignore[misc]
    return ways


def measure(folder: Path, gigabytes: float, batch_size: int, repeats: int) -> dict[str, Any]:
    """Write the sources, measure every way in turn, print the table and return the figures."""
    rows = int(gigabytes * GB / (4 * 306 * 125))
    path = folder / "grouped_5" / "train_grouped.h5"
    write_noise_file(path, rows, 306, 125)
    split, shards = open_grouped(path), {}
    for how in ("median_iqr", "raw"):
        write_shards(folder, folder / how, levels=[5], splits=("train",), settings=ShardSettings(norm=how))
        shards[how] = open_shards(folder / how / "grouped_5", "train", verify=False)
    write_noise_recording(folder / "recordings", int(gigabytes * GB / (4 * 306)), 306)
    growth: dict[str, list[float]] = {}
    ways = ways_of(split, shards, folder / "recordings", batch_size, growth)
    read_in_order(split)  # warm the page cache
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (way, _) in ways.items():
            rates[name].append(way())
    base = statistics.median(rates["file in order, h5py"])
    found = {}
    print(f"{'':36} {'rows/s':>9} {'GB/s':>6} {'of file in order':>17} {'memory':>9}")
    for name, (_, size) in ways.items():
        rate = statistics.median(rates[name])
        most = max(growth[name]) if name in growth else None
        found[name] = {
            "rows_per_second": rate,
            "all": rates[name],
            "bytes_per_second": rate * size,
            "ratio": rate / base,
            "memory_growth_gb": most,
        }
        memory = f"{most:6.2f} GB" if most is not None else ""
        print(f"{name:36} {rate:9.0f} {rate * size / GB:6.2f} {rate / base:16.2f}x {memory:>9}")
    return {"rows": rows, "gigabytes": gigabytes, "batch_size": batch_size, "repeats": repeats, "ways": found}


def plot(found: dict[str, Any], file: Path) -> None:
    """Bars of rows per second, the least and the most of the repeats as whiskers."""
    names = list(found["ways"])[::-1]
    values = [found["ways"][name] for name in names]
    figure = Figure(figsize=(8.5, 5.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    middle = np.array([v["rows_per_second"] for v in values])
    spread = [middle - [min(v["all"]) for v in values], np.array([max(v["all"]) for v in values]) - middle]
    colours = ["#9aa5b1" if "," not in name or name.startswith("file") else "#2f6f9f" for name in names]
    axes.barh(names, middle / 1000, xerr=np.array(spread) / 1000, color=colours, ecolor="#444444", capsize=2)
    axes.set_xlabel(f"thousand rows a second; bars: median of n = {found['repeats']}, whiskers: least and most")
    what = f"Rows of 306 x 125 a second, by feed; batch {found['batch_size']}, noise in {found['gigabytes']:g} GB"
    axes.set_title(f"{what}\n{found['device']} ({found['machine']}), jax {found['jax']}, {found['date']}", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def main() -> None:
    """Parse the arguments, measure, write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.5, help="size of the grouped file")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them")
    parser.add_argument("--folder", type=Path, help="where the temporary files go; by default the system's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = measure(Path(folder), arguments.gigabytes, arguments.batch_size, arguments.repeats)
    found |= {"device": jax.devices()[0].device_kind, "machine": platform.machine(), "jax": jax.__version__}
    found["date"] = time.strftime("%Y-%m-%d")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.plot is not None:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
