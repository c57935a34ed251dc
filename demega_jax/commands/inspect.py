"""`demega-jax inspect`: what is in data and training runs, and whether they are sound."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from demega_jax.api.paths import check_outputs
from demega_jax.api.windows import check_seconds
from demega_jax.commands.shared.options import (
    SPLITS_FILE,
    TMAX,
    TMIN,
    ClassesFile,
    EventLabel,
    EventRows,
    Json,
    TopLabels,
)
from demega_jax.errors import UserError
from demega_jax.files import write_results
from demega_jax.saying import is_quiet, say_result

if TYPE_CHECKING:
    from demega_jax.data.inspect.recording_facts import Reading
    from demega_jax.data.inspect.report import Report

EXAMPLES = """demega-jax inspect data runs/first --json report.json

demega-jax inspect recordings --events all --label trial_type --tmax 1 --splits splits.tsv"""
FORMAT = 1

PATHS = "Grouped files, folders with grouped_K (files or shards), recording trees and run folders."


def command(
    paths: Annotated[list[Path], Argument(metavar="PATH", help=PATHS)],
    json_file: Json = None,
    events: EventRows = None,
    label: EventLabel = None,
    classes_file: ClassesFile = None,
    top: TopLabels = None,
    splits: Annotated[Path | None, Option(metavar="FILE", help=SPLITS_FILE)] = None,
    tmin: Annotated[float, Option(metavar="S", help=TMIN)] = 0.0,
    tmax: Annotated[float, Option(metavar="S", help=TMAX)] = 0.5,
) -> int:
    """Show what is in data and training runs, and whether they are sound.

    The options of events, splits and windows are for recordings, as in `group`.

    The exit status is 2 if something is not sound.
    """
    check_outputs(json_file)
    check_seconds(tmin, tmax)
    from demega_jax.console import new_console
    from demega_jax.data.inspect.folder import has_recordings
    from demega_jax.data.inspect.levels import compare_levels
    from demega_jax.data.inspect.recording_facts import USUAL, Reading
    from demega_jax.data.inspect.report import plain
    from demega_jax.data.inspect.tables import print_comparisons, print_report
    from demega_jax.data.recordings.classes import event_choice

    asked = any(option is not None for option in (events, label, classes_file, top))
    choice = event_choice("--", events, label, classes_file, top) if asked else None
    reading = Reading(choice, top, splits, tmin, tmax)
    if reading != USUAL and all(map(Path.exists, paths)) and not any(map(has_recordings, paths)):
        came, wanted = "given without recordings, where they would do nothing", "a recording tree"
        raise UserError("the options of events, splits and windows", came, wanted, "leave them out")
    console = new_console()
    reports: list[Report] = []
    for path in paths:
        found = _inspect(path, reading)
        for i, report in enumerate(found):
            # Bars of classes only for the first split of a folder: those of all would fill pages.
            print_report(report, console, histogram=i == 0 or found[i - 1].path.parent != report.path.parent)
            if is_quiet():
                say_result(f"{report.path}: {report.kind}, {'not sound' if report.problems else 'sound'}")
        reports += found
    problems = [problem for report in reports for problem in report.problems]
    comparisons = compare_levels(reports)
    print_comparisons(comparisons, console)
    if json_file is not None:
        content = {
            "format": FORMAT,
            "sound": not problems,
            "reports": [report.to_json() for report in reports],
            "comparisons": [plain(dataclasses.asdict(comparison)) for comparison in comparisons],
        }
        write_results(json_file, content)
    if problems:
        first, more = problems[0], len(problems) - 1
        came = f"{first.came}, and {more} more problem{'s' if more > 1 else ''} listed above" if more else first.came
        raise UserError(first.where, came, first.wanted, first.way_out)
    return 0


def _inspect(path: Path, reading: "Reading") -> "list[Report]":
    """The reports of a path. reading: of recordings. jax is imported only for a training run."""
    if any((path / name).exists() for name in ("config.yaml", "checkpoints", "metrics.jsonl")):
        from demega_jax.evaluation.inspect_run import inspect_run

        return inspect_run(path)
    from demega_jax.data.inspect.folder import inspect_data

    return inspect_data(path, reading)
