"""Write tables of docs/benchmark.md from the files that `benchmark --target` and `against_original.py` wrote.

A table stands between two markers, and everything between them is written here:

    <!-- table: plain -->
    ..
    <!-- end of table -->

`make readme` runs this file. Nothing is compiled.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from demega_jax.benchmark.simulated import published_groups

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs" / "benchmark.md", ROOT / "benchmarks" / "results"
TABLE = re.compile(r"(?<=<!-- table: )(?P<name>\w+) -->\n.*?(?=<!-- end of table -->)", re.DOTALL)
FILES = {
    "plain": ("targets.json", "targets_tpu.json"),
    "fused": ("targets_fused.json", "targets_fused_tpu.json"),
}
CARDS = {
    "h200": "H200",
    "h100": "H100 80 GB",
    "a100": "A100 80 GB",
    "rtx4090": "GeForce RTX 4090, 24 GB",
    "v5e": "TPU v5e",
    "v6e": "TPU v6e",
}
LEVELS, COMPILED_LEVEL = (5, 20, 100), 100
PRECISIONS = {"float32": 1.0, "float16": 0.5}  # of the windows on the device, and their share of single precision
GIB = 2**30

Figures = dict[str, Any]
Column = Callable[[Figures], str]
PROGRAM: dict[str, Column] = {
    "card": lambda case: CARDS[case["target"]],
    "kernels": lambda case: f"{case['kernels']:,.0f}",
    "traffic": lambda case: f"{case['bytes'] / 1e9:.1f} GB",
    "step": lambda case: f"{case['modelled_step_ms']:.1f} ms",
    "floor of its products": lambda case: f"{case['floor_ms']:.1f} ms",
}
EVALUATION: dict[str, Column] = {
    "evaluation of a batch": lambda case: f"{case['evaluation']['modelled_step_ms']:.1f} ms"
}


def cases(kind: str) -> dict[str, Figures]:
    """The figures of one device at level 100 from the files of a kind (plain or fused), by target."""
    found = [case for name in FILES[kind] for case in json.loads((RESULTS / name).read_text())["targets"]]
    wanted = {"devices": 1, "level": COMPILED_LEVEL, "feed": "resident", "precision": "bfloat16"}
    return {case["target"]: case for case in found if wanted.items() <= case.items()}


def memory_at(case: Figures, level: int, precision: str) -> float:
    """Bytes that the step takes with the split of a level on the device in that precision.

    It was compiled at level 100 in single precision.
    """
    compiled = case["feed_memory_bytes"]
    held = compiled * PRECISIONS[precision] * published_groups(level) / published_groups(COMPILED_LEVEL)
    return case["memory_bytes"] - compiled + held


def epoch_at(case: Figures, level: int) -> float:
    """Modelled seconds of an epoch of a level: the step takes as long at each."""
    return -(-published_groups(level) // case["batch_size"]) * case["modelled_step_ms"] / 1e3


def programs(kind: str) -> str:
    """The table of the programs of a kind."""
    columns = PROGRAM | (EVALUATION if kind == "plain" else {})
    return table(list(columns), [[cell(case) for cell in columns.values()] for case in cases(kind).values()])


def cards() -> str:
    """The table by card and level: memory, step and epoch, of the plain program and of the fused kernels."""
    head = ["card", "level", "split on the card", "memory, plain / fused", "step", "epoch"]
    plain, fused = cases("plain"), cases("fused")
    lines = []
    for target, name in CARDS.items():
        for level in LEVELS:
            pair = (plain[target], fused[target])
            room = pair[0]["device_memory_bytes"]
            fitting = [each for each in PRECISIONS if memory_at(pair[0], level, each) <= room]
            step = " / ".join(f"{case['modelled_step_ms']:.1f}" for case in pair) + " ms"
            held, memory, epoch = "does not fit", "-", "as fast as the files are read"
            if fitting:
                held = fitting[0]
                sizes = " / ".join(f"{memory_at(case, level, held) / GIB:.1f}" for case in pair)
                memory = f"{sizes} of {room / GIB:.0f} GiB"
                epoch = " / ".join(f"{epoch_at(case, level):.1f}" for case in pair) + " s"
            lines.append([name, str(level), held, memory, step, epoch])
    return table(head, lines)


def against() -> str:
    """The table of our steps beside the published ones, on a CPU: seconds, and samples/s divided by the original's."""
    found = json.loads((RESULTS / "against_original_cpu.json").read_text())
    sides = {
        "original": "samples/s over the original's as it ships",
        "original, heap kept": "with its heap kept like ours",
        "original, compiled": "under `torch.compile`",
    }
    head = ["step of 64 rows", "seconds", *sides.values()]
    assert found["batch_size"] == 64
    lines = []
    for mode, name in (("train", "training, with dropout and all losses"), ("evaluate", "evaluation")):
        ratios = found[mode]["samples_per_second_ours_over"]
        over = [f"{ratios[side]['of_medians']:.2f}" for side in sides]
        lines.append([name, f"{found[mode]['median_seconds']['ours']:.2f}", *over])
    versions = f"jax {found['versions']['jax']}, torch {found['versions']['torch'].partition('+')[0]}"
    where = f"{found['hardware']['cores']} cores of {found['hardware']['processor'].replace('(R)', '')}"
    return f"{table(head, lines)}\nMeasured on {where}, {found['date'][:10]}, {versions}.\n\n"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *lines))


TABLES: dict[str, Callable[[], str]] = {
    "against": against,
    "plain": lambda: programs("plain"),
    "fused": lambda: programs("fused"),
    "cards": cards,
}


def written(page: str) -> str:
    """A page with its tables as the files have them."""
    return TABLE.sub(lambda found: f"{found['name']} -->\n{TABLES[found['name']]()}", page)


def main() -> None:
    """Write the tables into their page."""
    PAGE.write_text(written(PAGE.read_text()))
    print(f"wrote {len(TABLES)} tables into {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
