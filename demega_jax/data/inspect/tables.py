"""Reports of an inspection for people, on a terminal of 80 columns or more."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from demega_jax.data.inspect.amplitude import Amplitude
from demega_jax.data.inspect.downloads import DownloadFacts
from demega_jax.data.inspect.event_tables import ColumnFacts, EventFacts
from demega_jax.data.inspect.grouped import GroupedFacts, ShardFacts
from demega_jax.data.inspect.levels import Comparison
from demega_jax.data.inspect.recording_facts import RecordingFacts, SplitFacts, together
from demega_jax.data.inspect.report import Report
from demega_jax.errors import counted, listed
from demega_jax.files import format_bytes
from demega_jax.names import PHONEMES, SCORE_NAMES

BAR = 20  # columns of the longest bar
TWO_COLUMNS_FROM = 12  # classes
SHORT_NAME = 8  # letters of a class, so that two stand beside each other in 80 columns
EIGHTHS = " ▏▎▍▌▋▊▉"
ORDERED = ("sorted by label", "in blocks of a label")
VERDICT_STYLE = {"holds": "green", "same": "green", "nearly the same": "yellow", "cannot tell": "yellow"}
VERDICT_STYLE |= {"does not hold": "bold red", "different": "bold red"}


def print_report(report: Report, console: Console, *, histogram: bool = True) -> None:
    """Print a heading, what was found, notes and problems. histogram: with a bar for each class of a grouped file."""
    state = Text(" sound ", style="black on green") if not report.problems else Text(" not sound ", "white on red")
    heading = Text.assemble((str(report.path), "bold"), f"  {report.kind} ", state)
    console.print()
    console.print(heading, soft_wrap=True)
    facts = report.facts
    if isinstance(facts, GroupedFacts):
        _print_grouped(facts, console, histogram=histogram)
    elif isinstance(facts, RecordingFacts):
        _print_recordings(facts, console)
    elif isinstance(facts, DownloadFacts):
        _print_download(facts, console)
    elif facts is not None:
        _print_run(facts, console)
    for note in report.notes:
        _print_pairs(console, {"note:": note}, "yellow", gap=1)
    for problem in report.problems:
        _print_pairs(console, {"not sound:": str(problem)}, "bold red", gap=1)


def print_comparisons(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print a line for each pair of levels."""
    if not comparisons:
        return
    console.print()
    console.print(Text("Do levels hold the same events?", style="bold"))
    table = _table(["split"], ["levels"], ["same?", "why"])
    for comparison in comparisons:
        verdict = Text(comparison.verdict, VERDICT_STYLE[comparison.verdict])
        first, second = comparison.levels
        table.add_row(comparison.split, f"{first}, {second}", verdict, comparison.reason)
    _print_indented(table, console)


def _table(left: Sequence[str], right: Sequence[str], last: Sequence[str] = ()) -> Table:
    """An empty table with columns of text, of numbers and of text again. The first is bold, the last can be wrapped."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    names = [*left, *right, *last]
    for name in names:
        style = "bold" if name == names[0] else None
        justify: JustifyMethod = "right" if name in right else "left"
        table.add_column(name, style=style, justify=justify, no_wrap=name not in last[-1:])
    return table


def _print_indented(table: Table, console: Console) -> None:
    console.print(Padding(table, (0, 0, 0, 2)))


def _print_pairs(console: Console, pairs: Mapping[str, str | Text], style: str = "cyan", gap: int = 2) -> None:
    """Print names in a style and values, one pair on a line. gap: spaces between them."""
    table = Table.grid(padding=(0, gap))
    table.add_column(style=style, no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(f"  {name}", value)
    console.print(table)


def _print_grouped(facts: GroupedFacts, console: Console, *, histogram: bool) -> None:
    best = facts.reference_macro_f1
    window = f"{counted(facts.sensors, 'sensor')} x {counted(facts.time_points, 'time point')}"
    shape = f"{counted(facts.rows, 'row')} x {window}"
    origin = {True: ", simulated", False: ", not marked as simulated", None: ""}[facts.simulated]
    in_order = ": batches read in order hold few classes" if facts.order in ORDERED else ""
    named = ", named in the file" if facts.own_classes else ", by position in the fixed inventory"
    pairs = {
        "data": f"{shape}, {facts.dtype}",
        "level": "unknown" if facts.level is None else f"{facts.level} ({facts.split})",
        "stored": f"{format_bytes(facts.nbytes)}, {facts.storage}{origin}",
        **({"checksums": _checksums(facts.checksums)} if facts.checksums is not None else {}),
        **(_shard_pairs(facts.shards) if facts.shards else {}),
        **({"sensors": facts.measured} if facts.measured else {}),
        **({"events": facts.events} if facts.events else {}),
        "order": facts.order + in_order,
        "windows": _windows(facts),
        "reference": "unknown" if best is None else f"macro-F1 {best:.4f}, of the best possible classifier",
        "classes": _classes(facts.classes, facts.counts, "rows") + named,
    }
    _print_pairs(console, pairs)
    if histogram:
        _print_histogram(facts.classes, facts.counts, console)
    _print_amplitude(facts.amplitude, console)


def _print_download(facts: DownloadFacts, console: Console) -> None:
    sources = ", ".join(f"{repo} at {revision[:12]}" for repo, revision in facts.datasets.items())
    pairs: dict[str, str | Text] = {
        "files": f"{facts.files:,}, {format_bytes(facts.nbytes)}",
        "from": sources,
        "checksums": _checksums(facts.checksums),
    }
    _print_pairs(console, pairs)


def _shard_pairs(facts: ShardFacts) -> dict[str, str | Text]:
    how = {"none": "as in the source", "raw": "as in the source; median and quartiles beside it"}
    rows = "permuted" if facts.permuted else "in the order of the source"
    return {
        "shards": f"{facts.files:,} of {facts.rows_each:,} rows, blocks of {facts.block_rows:,}; rows {rows}",
        "checksums": _checksums(facts.checksums),
        "normalised": how.get(facts.normalization, facts.normalization),
        "made from": f"{facts.source}, seed {facts.seed}",
    }


def _checksums(found: str) -> Text:
    return Text(found, {"verified": "green", "none": ""}.get(found, "bold red"))


def _windows(facts: GroupedFacts) -> str:
    windows = facts.windows
    if windows is None:
        return "unknown (no group_indices)"
    each = "each once" if windows.total == windows.distinct else f"{windows.distinct:,} different ones"
    short = f"; {counted(windows.short, 'group', 'have')} fewer than {facts.level}" if windows.short else ""
    return f"{windows.total:,} in group_indices, {each}, {windows.first:,} to {windows.last:,}{short}"


def _classes(classes: Sequence[str], counts: Sequence[int], unit: str) -> str:
    present = [count for count in counts if count]
    least, most = min(present, default=0), max(present, default=0)
    span = f"{least:,} {unit} each" if least == most else f"{least:,} to {most:,} {unit} each"
    return f"{len(present)} of {len(classes)} present, {span}"


def _print_histogram(classes: Sequence[str], counts: Sequence[int], console: Console) -> None:
    """Print a bar for each class, two on a line if there are many."""
    short = max(len(name) for name in classes) <= SHORT_NAME
    blocks = 2 if len(classes) >= TWO_COLUMNS_FROM and short else 1
    length = -(-len(classes) // blocks)
    table = Table.grid(padding=(0, 1))
    for _ in range(blocks):
        table.add_column(style="bold", overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="cyan", no_wrap=True, width=BAR + 2)
    most = max(max(counts), 1)
    cells = [
        [f"  {name}", f"{count:,}", _bar(count / most, ascii_only=console.options.ascii_only)]
        for name, count in zip(classes, counts, strict=True)
    ]
    for line in range(length):
        table.add_row(*(cell for row in cells[line::length] for cell in row))
    console.print(table)


def _bar(share: float, *, ascii_only: bool) -> str:
    """A bar of up to `BAR` columns, in eighths of one."""
    if ascii_only:
        return "#" * round(share * BAR)
    whole, eighth = divmod(round(share * BAR * 8), 8)
    return "█" * whole + EIGHTHS[eighth].strip()


def _print_amplitude(amplitude: Amplitude, console: Console, *, tesla: bool = False) -> None:
    """Print a table of amplitudes. tesla: the data should be in tesla; small numbers are shown in pT or pT/m."""
    pico = tesla and all(of_type.median < 1e-9 for of_type in amplitude.types)
    scale = 1e12 if pico else 1.0
    name = f"amplitude{' (pT)' if pico else ''}"
    table = _table([name], ["sensors", "median sd", "quartiles", "largest", "constant"])
    for kind in amplitude.types:
        still = kind.near_constant
        constant = Text(f"{len(still)}: {listed(still, 3)}", "yellow") if still else "0"
        numbers = (kind.median, kind.low_quartile, kind.high_quartile, kind.largest)
        median, low, high, largest = (_number(scale * value) for value in numbers)
        table.add_row(kind.name, str(kind.sensors), median, f"{low} .. {high}", largest, constant)
    _print_indented(table, console)
    pairs: dict[str, str | Text] = {"sampled": f"{amplitude.sampled:,} samples of each sensor"}
    if amplitude.order is not None:
        verdict = Text(amplitude.order, VERDICT_STYLE[amplitude.order])
        order = Text.assemble("order gradiometer, gradiometer, magnetometer ", verdict, f": {amplitude.order_reason}")
        pairs["triplets"] = order
    _print_pairs(console, pairs)


def _print_recordings(facts: RecordingFacts, console: Console) -> None:
    extent = f"{facts.minutes:,.1f} minutes, {format_bytes(facts.nbytes)}"
    pairs: dict[str, str | Text] = {
        "data": f"{counted(facts.sensors, 'sensor')} at {facts.rate:g} Hz, {extent}",
        **({"sensors": facts.measured} if facts.measured else {}),
        "origin": "simulated" if facts.simulated else "not marked as simulated",
    }
    if not facts.simulated and facts.missing is not None:
        missing = "; ".join(facts.missing)
        pairs["missing"] = Text(missing, "yellow") if missing else "no gap in the sessions of a task"
    if facts.events is not None:
        pairs |= _event_pairs(facts.events, facts.options)
    _print_pairs(console, pairs)
    if facts.events is not None and facts.events.columns:
        _print_columns(facts.events.columns, console)
    events = "phonemes" if facts.classes == PHONEMES else "events"
    table = _table(["split", "task"], ["session runs", "minutes", events, "windows", "per s"])
    for split, whole in facts.splits.items():
        of_split = [run for run in facts.runs if run.split == split]
        rows: dict[str, SplitFacts] = {}
        for task in dict.fromkeys(run.task for run in of_split):
            rows[task] = together([run for run in of_split if run.task == task])
        if len(rows) > 1:
            rows["all"] = whole
        for task, found in rows.items():
            sums = (f"{found.runs}", f"{found.minutes:,.1f}", f"{found.phonemes:,}", f"{found.windows:,}")
            per_second = f"{found.phonemes / found.minutes / 60:.1f}"
            name, style = (split if task == next(iter(rows)) else ""), ("bold" if task == "all" else None)
            table.add_row(name, task, *sums, per_second, style=style)
    _print_indented(table, console)
    first, found = next(iter(facts.splits.items()))
    _print_pairs(console, {f"{first} windows": _classes(facts.classes, found.counts, "windows")})
    _print_histogram(facts.classes, found.counts, console)
    _print_amplitude(facts.amplitude, console, tesla=True)


def _event_pairs(events: EventFacts, options: str) -> dict[str, str | Text]:
    """What is known of tables of events. options: those that read the events that are counted."""
    when = "no column of times" if events.time is None else f"times in the column {events.time}"
    ways = "--label COLUMN for the labels, and --events COLUMN=LABEL for rows with that label, or --events all"
    return {
        "events": f"{counted(events.rows, 'row')} in {counted(events.tables, 'table')}, {when}",
        "counted with": options,
        "other events": f"{ways}; `group` takes these options, too",
    }


def _print_columns(columns: Sequence[ColumnFacts], console: Console) -> None:
    """Print the columns of labels, and their most frequent labels."""
    table = _table(["column"], ["rows", "different labels"], ["most frequent"])
    for column in columns:
        most = listed((f"{label} ({count:,})" for label, count in column.most), len(column.most))
        more = ", .." if column.different > len(column.most) else ""
        table.add_row(column.name, f"{column.rows:,}", f"{column.different:,}", most + more)
    _print_indented(table, console)


def _print_run(facts: Any, console: Console) -> None:
    """facts: evaluation.inspect_run.RunFacts, which is not imported here as that would import JAX."""
    planned = "" if facts.planned is None else f" of {facts.planned:,}"
    epoch = "" if facts.epoch is None else f", epoch {facts.epoch:.2f}"
    pairs: dict[str, str | Text] = {"steps": f"{facts.step:,}{planned}{epoch}"}
    if facts.best is None:
        pairs["validation"] = "none yet"
    else:
        name = SCORE_NAMES[facts.monitor]
        pairs[f"best {name}"] = f"{facts.best:.4f} at step {facts.best_step:,}"
        pairs[f"last {name}"] = f"{facts.last:.4f}, of {facts.validations} validations"
    if facts.train_loss is not None:
        pairs["training loss"] = f"{facts.train_loss:.4f}"
    if facts.skipped:
        pairs["not finite"] = Text(f"{facts.skipped} logged steps", "yellow")
    sensors, time_points = facts.window
    size = "" if facts.parameters is None else f", {facts.parameters:,} parameters"
    pairs["model"] = (
        f"{counted(sensors, 'sensor')} x {counted(time_points, 'time point')}, {counted(facts.classes, 'class')}{size}"
    )
    pairs["data"] = f"{facts.data}" + ("" if facts.level is None else f", level {facts.level}")
    pairs["made with"] = ", ".join(f"{name} {number}" for name, number in facts.versions.items()) or "unknown"
    _print_pairs(console, pairs)
    table = _table(["checkpoint"], ["step", "values", "size"], ["state"])
    for found in facts.checkpoints:
        whole = found.state == "whole"
        state = Text("whole, checksums agree" if whole else found.state, "green" if whole else "bold red")
        table.add_row(found.kind, f"{found.step:,}", f"{found.values:,}", format_bytes(found.nbytes), state)
    if facts.checkpoints:
        _print_indented(table, console)


def _number(value: float) -> str:
    """Three significant digits; powers of ten for what is far from 1."""
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"
