"""The figures of programs for devices that are not here, on a terminal of 80 columns or more."""

import textwrap
from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from demega_jax.benchmark.tables import Figures
from demega_jax.files import format_bytes

PARTS = 12  # of the model that a table shows
COLUMNS: dict[str, Callable[[Figures], str]] = {
    "target": lambda case: f"{case['devices']} x {case['target']}",
    "K": lambda case: str(case["level"]),
    "feed": lambda case: case["feed"],
    "type": lambda case: "bf16" if case["precision"] == "bfloat16" else "f32",
    "kernels": lambda case: f"{case['kernels']:.0f}",
    "GB": lambda case: f"{case['bytes'] / 1e9:.1f}",
    "GFLOP": lambda case: f"{case['flops'] / 1e9:.0f}",
    "ms": lambda case: f"{case['modelled_step_ms']:.2f}",
    "floor": lambda case: f"{case['floor_ms']:.2f}",
    "eval": lambda case: f"{case['evaluation']['modelled_step_ms']:.2f}",
}
LEFT = ("target", "feed", "type")
MEMORY: dict[str, Callable[[Figures], str]] = {
    **{name: COLUMNS[name] for name in ("target", "K", "feed", "type")},
    "memory": lambda case: format_bytes(case["memory_bytes"]),
    "of": lambda case: format_bytes(case["device_memory_bytes"]) + ("" if case["fits"] else " !"),
    "epoch": lambda case: f"{case['modelled_epoch_seconds']:.1f} s",
    "compile": lambda case: f"{case['compile_seconds']:.0f} s",
}
BESIDE = (
    "ms: of a step. floor: the products at the speed that large ones reach. eval: a batch of evaluation. memory: of "
    "all that lies on a device, with the published split of the level where it is resident; ! is more than there is."
)


def print_targets(result: Figures, console: Console) -> None:
    """Two tables of the cases, then the parts of the model and the longest kernels of each."""
    cases = result["targets"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    console.print(f"modelled, batch of {cases[0]['batch_size']} rows, {versions}", style="bold", soft_wrap=True)
    for columns in (COLUMNS, MEMORY):
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for name in columns:
            table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=True)
        for case in cases:
            table.add_row(*(cell(case) for cell in columns.values()))
        console.print(table)
    for text in (result["limits"], BESIDE):
        console.print(textwrap.fill(text, min(100, console.width)), style="dim", highlight=False)
    for case in cases:
        _print_parts(case, console)


def _print_parts(case: Figures, console: Console) -> None:
    where = f"{case['target']}, level {case['level']}, {case['feed']}, {case['devices']} x {case['precision']}"
    console.print(f"\n{where}: parts of the step", style="bold")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("part", "kernels", "GB", "GFLOP", "ms"):
        table.add_column(name, justify="left" if name == "part" else "right", no_wrap=True)
    for name, part in list(case["parts"].items())[:PARTS]:
        figures = (f"{part['bytes'] / 1e9:.2f}", f"{part['flops'] / 1e9:.0f}", f"{part['ms']:.3f}")
        table.add_row(name, f"{part['kernels']:.0f}", *figures)
    console.print(table)
    if case["collectives"]:
        sent = format_bytes(round(case["collective_bytes"]))
        console.print(f"{case['collectives']:.0f} collectives of {sent} in all")
    console.print("longest kernels", style="bold")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("times", "us", "MB", "part", "place", "kind"):
        table.add_column(name, justify="right" if name in ("times", "us", "MB") else "left", no_wrap=True)
    for line in case["longest"]:
        figures = (f"{line['times']:.0f}", f"{line['seconds'] * 1e6:.1f}", f"{line['nbytes'] / 1e6:.1f}")
        table.add_row(*figures, line["part"].removeprefix("attention: "), line["place"], line["kind"])
    console.print(table)
