"""The figures of a benchmark for people, on a terminal of 80 columns or more."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demega_jax.training.progress import duration

Figures = Mapping[str, Any]


def seconds(value: float) -> str:
    """Three digits: 850 us, 12.3 ms, 1.45 s; minutes and more as `duration`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return duration(value) if value >= 100 else f"{_three(value / size)} {unit}"
    return f"{_three(value * 1e6)} us"


def _three(value: float) -> str:
    """Three significant digits, without powers of ten."""
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f}"


def _size(count: float) -> str:
    """1.50 GB, in powers of 1000, as bandwidths are."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{_three(count / size)} {unit}"
    return f"{count:.0f} B"


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.0995 else f"{value:.1%}"


def _flops(rate: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if rate >= size:
            return f"{_three(rate / size)} {unit}"
    return f"{rate:.0f} "


def _known(text: Callable[[float], str], value: float | None) -> str:
    """A dash for a figure that the compiler does not give."""
    return "-" if value is None else text(value)


TIMES: dict[str, Callable[[Figures], str]] = {
    "compile": lambda case: seconds(case["compile_seconds"]) + ("*" if case["compiled_from_cache"] else ""),
    "step": lambda case: seconds(case["step_seconds"]["median"]),
    "p95": lambda case: seconds(case["step_seconds"]["p95"]),
    "wait": lambda case: seconds(case["input_wait_seconds"]),
    "host": lambda case: seconds(case["host_seconds"]),
    "rows/s": lambda case: _three(case["samples_per_second"]),
    "epoch": lambda case: seconds(case["epoch"]["seconds"]),
    "memory": lambda case: _size(case["peak_memory_bytes"]),
}
SCALING = {"scaling": lambda case: _share(case["scaling_efficiency"])}
SHARES: dict[str, Callable[[Figures], str]] = {
    "FLOP": lambda case: _flops(case["flops"]).strip(),
    "FLOP/s": lambda case: _flops(case["flops_per_second"]).strip(),
    "of peak": lambda case: _share(case["share_of_peak"]),
    "bytes": lambda case: _known(_size, case["compiled"]["bytes_accessed"]),
    "bytes/s": lambda case: _known(_size, case["bytes_per_second"]),
    "of copy": lambda case: _known(_share, case["share_of_copy"]),
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
    first = cases[0]
    console.print()
    console.print(Text(_title(result), style="bold"), soft_wrap=True)
    for line in _about(result):
        console.print(Text(line, style="dim"), soft_wrap=True)
    several = len({case["devices"] for case in cases}) > 1
    _print_cases(cases, TIMES | SCALING if several else TIMES, console)
    for line in _notes(cases):
        console.print(Text(line, style="dim"))
    console.print()
    console.print(Text("Beside what the machine was measured to do", style="bold"))
    _print_cases(cases, SHARES, console)
    console.print(Text(BESIDE, style="dim"))
    if result["stages"] is not None:
        _print_stages(result["stages"], first, console)


def _title(result: Figures) -> str:
    """What was measured; simulated data first of all."""
    first = result["cases"][0]
    data = "SIMULATED data (not LibriBrain)" if result["data"] == "simulated" else "real data"
    sensors, time_points = result["window"]
    fixed = [
        f"{first[name]} device{'s' if first[name] > 1 else ''}" if name == "devices" else str(first[name])
        for name in ("feed", "devices", "precision") if len({case[name] for case in result["cases"]}) == 1
    ]  # fmt: skip
    together = f", {', '.join(fixed)}" if fixed else ""
    return (
        f"Training step on {data}: batch {first['batch_size']} of {sensors} x {time_points}{members(first)}{together}"
    )


def members(case: Figures) -> str:
    """How a title goes on where several models train side by side."""
    return f" for each of {case['members']} members" if case["members"] > 1 else ""


def _about(result: Figures) -> list[str]:
    hardware, machine = result["hardware"], result["machine"]
    device = hardware["device"] if hardware["platform"] != "cpu" else "CPU"
    peaks = ", ".join(f"{_flops(rate)}FLOP/s in {name}" for name, rate in machine["matrix_flops_per_second"].items())
    return [
        f"{hardware['processor']}, {hardware['cores']} cores; {hardware['devices']} x {device}; "
        f"jax {result['versions']['jax']}, {result['date']}",
        f"measured on one device: products {peaks}, copies {_size(machine['copy_bytes_per_second'])}/s",
    ]


def _print_cases(cases: Sequence[Figures], columns: Mapping[str, Callable[[Figures], str]], console: Console) -> None:
    """A line a case, below a heading for each feed and precision where there are several."""
    telling: dict[str, Callable[[Figures], str]] = {"level": lambda case: str(case["level"])}
    if len({case["devices"] for case in cases}) > 1:
        telling["dev"] = lambda case: str(case["devices"])
    cells = [[cell(case) for cell in {**telling, **columns}.values()] for case in cases]
    names = [*telling, *columns]
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
    steps = [len(case["step_seconds"]["all"]) * case["steps_per_dispatch"] for case in cases]
    span = f"{min(steps)}" if min(steps) == max(steps) else f"{min(steps)} to {max(steps)}"
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
    table.add_column("median", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    for stage in found:
        name = stage["stage"] + (f" x {stage['times']}" if stage["times"] > 1 else "")
        table.add_row(name, f"{stage['seconds'] * 1e3:,.2f} ms", _share(stage["share"]))
    total = sum(stage["seconds"] for stage in found)
    table.add_row("sum", f"{total * 1e3:,.2f} ms", "")
    table.add_row(Text("step", style="bold"), f"{first['step_seconds']['median'] * 1e3:,.2f} ms", "")
    console.print(table)
    console.print(Text("The sum is not the step: in the step the compiler fuses across stages.", style="dim"))
