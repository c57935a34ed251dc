"""The figures of a benchmark for people, on a terminal of 80 columns or more."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.training.progress import duration

Figures = Mapping[str, Any]  # of a case, a stage or a whole result, as the JSON file holds them
Columns = dict[str, Callable[[Figures], str]]

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
BYTES = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0}  # powers of 1000, as bandwidths are
FLOP = {"T": 1e12, "G": 1e9, "M": 1e6, "": 1.0}


def seconds(value: float) -> str:
    """Three digits: 850 us, 12.3 ms, 1.45 s; minutes and more as `duration`."""
    return duration(value) if value >= 100 else _scaled(value, SECONDS)


def _scaled(value: float, units: Mapping[str, float]) -> str:
    """Three digits in the largest unit that the value reaches, else in the smallest: 1.50 GB."""
    unit = next((unit for unit, size in units.items() if value >= size), [*units][-1])
    return f"{_three(value / units[unit])} {unit}"


def _three(value: float) -> str:
    """Three significant digits, without powers of ten."""
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f}"


def _size(count: float | None) -> str:
    """Bytes; a dash where the compiler does not give them."""
    return "-" if count is None else _scaled(count, BYTES)


def _share(value: float | None) -> str:
    """Per cent; a dash where there is no figure."""
    return "-" if value is None else f"{value:.0%}" if value >= 0.0995 else f"{value:.1%}"


TIMES: Columns = {
    "compile": lambda case: seconds(case["compile_seconds"]) + ("*" if case["compiled_from_cache"] else ""),
    "step": lambda case: seconds(case["step_seconds"]["median"]),
    "p95": lambda case: seconds(case["step_seconds"]["p95"]),
    "wait": lambda case: seconds(case["input_wait_seconds"]),
    "host": lambda case: seconds(case["host_seconds"]),
    "rows/s": lambda case: _three(case["samples_per_second"]),
    "epoch": lambda case: seconds(case["epoch"]["seconds"]),
    "memory": lambda case: _size(case["peak_memory_bytes"]),
}
SCALING: Columns = {"scaling": lambda case: _share(case["scaling_efficiency"])}
SHARES: Columns = {
    "FLOP": lambda case: _scaled(case["flops"], FLOP).strip(),
    "FLOP/s": lambda case: _scaled(case["flops_per_second"], FLOP).strip(),
    "of peak": lambda case: _share(case["share_of_peak"]),
    "bytes": lambda case: _size(case["compiled"]["bytes_accessed"]),
    "bytes/s": lambda case: _size(case["bytes_per_second"]),
    "of copy": lambda case: _share(case["share_of_copy"]),
    "floor": lambda case: seconds(case["floor_seconds"]),
    "step/floor": lambda case: _three(case["over_floor"]),
}
BESIDE = (
    "FLOP: of products and convolutions. bytes: operands and results of every operation of the compiled step, as the "
    "compiler counts them; what a cache holds is read faster than a copy. floor: FLOP at the measured peak, or the "
    "input read once and parameters and optimizer state read and written at the measured bandwidth, whichever takes "
    "longer."
)


def print_result(result: Figures, console: Console) -> None:
    """The whole of a benchmark: what was measured on what, two tables of the cases, and the stages where there are
    some."""
    cases = result["cases"]
    console.print()
    console.print(Text(_title(result), style="bold"), soft_wrap=True)
    for line in _about(result):
        console.print(Text(line, style="dim"), soft_wrap=True)
    _print_cases(cases, TIMES | SCALING if "devices" in varying(cases) else TIMES, console)
    for line in _notes(cases):
        console.print(Text(line, style="dim"))
    console.print()
    console.print(Text("Beside what the machine was measured to do", style="bold"))
    _print_cases(cases, SHARES, console)
    console.print(Text(BESIDE, style="dim"))
    if result["stages"] is not None:
        _print_stages(result["stages"], cases[0], console)


def varying(cases: Sequence[Figures]) -> list[str]:
    """What tells cases of one level apart: which of feed, devices and precision are not the same in all."""
    return [name for name in ("feed", "devices", "precision") if len({case[name] for case in cases}) > 1]


def _title(result: Figures) -> str:
    """What was measured; simulated data first of all."""
    first, several = result["cases"][0], varying(result["cases"])
    data = "SIMULATED data (not LibriBrain)" if result["data"] == "simulated" else "real data"
    devices = f"{first['devices']} device{'s' if first['devices'] > 1 else ''}"
    fixed = {"feed": first["feed"], "devices": devices, "precision": first["precision"]}
    together = "".join(f", {text}" for name, text in fixed.items() if name not in several)
    return f"Training step on {data}: {batch(result)}{together}"


def batch(result: Figures) -> str:
    """The batch of a step, as a title names it: `batch 64 of 306 x 125`, where several models train for each."""
    first, (sensors, time_points) = result["cases"][0], result["window"]
    members = f" for each of {first['members']} members" if first["members"] > 1 else ""
    return f"batch {first['batch_size']} of {sensors} x {time_points}{members}"


def _about(result: Figures) -> list[str]:
    hardware, machine = result["hardware"], result["machine"]
    device = hardware["device"] if hardware["platform"] != "cpu" else "CPU"
    rates = machine["matrix_flops_per_second"]
    peaks = ", ".join(f"{_scaled(rate, FLOP)}FLOP/s in {name}" for name, rate in rates.items())
    return [
        f"{hardware['processor']}, {hardware['cores']} cores; {hardware['devices']} x {device}; "
        f"jax {result['versions']['jax']}, {result['date']}",
        f"measured on one device: products {peaks}, copies {_size(machine['copy_bytes_per_second'])}/s",
    ]


def _print_cases(cases: Sequence[Figures], columns: Columns, console: Console) -> None:
    """A line a case, below a heading for each feed and precision where there are several."""
    telling: Columns = {"level": lambda case: str(case["level"])}
    if "devices" in varying(cases):
        telling["dev"] = lambda case: str(case["devices"])
    names = [*telling, *columns]
    cells = [[cell(case) for cell in (telling | columns).values()] for case in cases]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    kinds = [f"{case['feed']}, {case['precision']}" for case in cases]
    for number, kind in enumerate(dict.fromkeys(kinds)):
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, show_header=number == 0)
        for name, width in zip(names, widths, strict=True):
            style = "bold" if name in telling else "green" if name == "step" else None
            table.add_column(name, justify="right", no_wrap=True, min_width=width, style=style)
        for other, row in zip(kinds, cells, strict=True):
            if other == kind:
                table.add_row(*row)
        if len(set(kinds)) > 1:
            console.print(Text(kind, style="cyan"))
        console.print(table)


def _notes(cases: Sequence[Figures]) -> list[str]:
    """What has to be known to read the first table."""
    first = cases[0]
    steps = sorted({len(case["step_seconds"]["all"]) * case["steps_per_dispatch"] for case in cases})
    span = " to ".join(str(count) for count in dict.fromkeys((steps[0], steps[-1])))
    groups = "the data's own groups"
    if any(case["epoch"]["about"] for case in cases):
        each = dict.fromkeys(f"{case['epoch']['groups']:,} at {case['level']}" for case in cases)
        groups = f"the published training split, about 1.60 M phonemes / level ({', '.join(each)})"
    # Dispatch is asynchronous, but a CPU may run a program in the thread that asks for it.
    computing = first["platform"] == "cpu" and any(
        case["host_seconds"] - case["input_wait_seconds"] > case["step_seconds"]["median"] / 2 for case in cases
    )
    lines = [
        f"step, p95: of {span} steps; wait: for input; host: in calls that start a step and give its input"
        + ("; here such calls compute, at least in part" if computing else ""),
        f"epoch: {groups}; memory: {first['peak_memory_of']}",
    ]
    if any(case["compiled_from_cache"] for case in cases):
        lines.append("*: came from the compilation cache")
    return lines


def _print_stages(found: Sequence[Figures], first: Figures, console: Console) -> None:
    """A line a stage, and why they are not the step."""
    console.print()
    each = f"level {first['level']}, {first['feed']}, {first['precision']}"
    console.print(Text(f"Stages, forward and backward, each compiled alone on one device ({each})", style="bold"))
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("stage", style="bold", no_wrap=True)
    for name in ("median", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [(stage["stage"], stage["times"], stage["seconds"], _share(stage["share"])) for stage in found]
    total = ("sum", 1, sum(stage["seconds"] for stage in found), "")
    for name, times, median, share in (*rows, total, ("step", 1, first["step_seconds"]["median"], "")):
        table.add_row(f"{name} x {times}" if times > 1 else name, f"{median * 1e3:,.2f} ms", share)
    console.print(table)
    console.print(Text("The sum is not the step: in the step the compiler fuses across stages.", style="dim"))
