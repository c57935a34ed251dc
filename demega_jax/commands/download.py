"""`demega-jax download`: grouped files or recordings from the hub."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demega_jax.errors import UserError, set_warning_sink, warn

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SPLITS = ("train", "validation", "test")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand and its arguments."""
    text = "fetch grouped files or recordings from the hub: resumed where it stopped, and checked"
    command = commands.add_parser("download", help=text, description=text)
    command.add_argument("out", type=Path, metavar="OUT", help="folder to put grouped_K, or the recordings, into")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--level", type=int, nargs="+", metavar="K", help="grouped files of these levels: 5, 10 .. 100")
    what.add_argument("--recordings", action="store_true", help="recordings and their events")
    command.add_argument(
        "--run", nargs="+", metavar="SES:TASK:RUN", help="recordings of these runs, such as 1:Sherlock1:1 (default all)"
    )
    command.add_argument("--split", nargs="+", choices=SPLITS, default=SPLITS, help="splits (default all three)")
    command.add_argument(
        "--revision", metavar="REV",
        help="branch, tag or commit of the dataset (default: that of what OUT/download.json lists, else main)",
    )  # fmt: skip
    command.add_argument("--repo", metavar="OWNER/NAME", help="another dataset with files of the same layout")
    command.set_defaults(function=download_command)


def download_command(arguments: argparse.Namespace) -> int:
    """Fetch what is asked for. Returns the exit status. UserError: as `download_grouped`, or options that disagree."""
    from rich.console import Console

    from demega_jax.data.hub.choice import counted, parse_run
    from demega_jax.data.hub.download import download_grouped, download_recordings
    from demega_jax.files import format_bytes

    if arguments.run is not None and not arguments.recordings:
        raise UserError("--run", "given with --level", "--recordings", "leave --run out, or give --recordings")
    if arguments.repo is not None and arguments.repo.count("/") != 1:
        raise UserError("--repo", repr(arguments.repo), "OWNER/NAME of a dataset", "check --repo")
    out, show = arguments.out, Transfer(Console(highlight=False))
    source = {"repo": arguments.repo, "revision": arguments.revision, "show": show}
    try:
        if arguments.recordings:
            runs = None if arguments.run is None else [parse_run(text) for text in arguments.run]
            paths = download_recordings(out, runs=runs, splits=arguments.split, **source)
        else:
            paths = download_grouped(out, levels=arguments.level, splits=arguments.split, **source)
    except KeyboardInterrupt:
        warn("what has come is kept; run the same command again to go on")
        raise
    finally:
        show.end()
    size = sum(path.stat().st_size for path in paths)
    show.line(f"{out}: {counted(len(paths), 'file')} whole and readable, {format_bytes(size)}")
    return 0


class Transfer:
    """Shows the file that is being fetched as a bar on a terminal, and nothing but lines anywhere else."""

    def __init__(self, console: "Console"):
        self._console = console
        self._bar: Progress | None = None

    def line(self, text: str) -> None:
        """Print a line; soft wrap: a line of a log file stays one line, whatever the width."""
        self._console.print(text, markup=False, soft_wrap=True)

    def begin(self, name: str, size: int) -> None:
        """Show a bar for a file of `size` bytes."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            return
        from rich import progress
        from rich.table import Column

        # One line whatever the width: a long name is cut, the numbers are not.
        cut = Column(no_wrap=True, overflow="ellipsis", max_width=self._console.width * 2 // 5)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False, table_column=cut), progress.BarColumn(None),
            progress.TextColumn("{task.fields[told]}", table_column=Column(no_wrap=True)),
            progress.TimeRemainingColumn(compact=True), console=self._console, transient=True, expand=True,
        )  # fmt: skip
        self._bar.add_task(name if len(name) < 40 else Path(name).name, total=size, told="")
        self._bar.start()
        set_warning_sink(self._warn)

    def _warn(self, text: str) -> None:
        self.line(text)
        if not sys.stderr.isatty():  # it must be found in a file that stderr leads to as well
            print(text, file=sys.stderr, flush=True)

    def at(self, count: int) -> None:
        """So many bytes are there."""
        from demega_jax.files import format_bytes

        if self._bar is not None:
            (task,) = self._bar.tasks
            speed = f"  {format_bytes(int(task.speed))}/s" if task.speed else ""
            told = f"{format_bytes(count)} of {format_bytes(int(task.total or 0))}{speed}"
            self._bar.update(task.id, completed=count, told=told)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            set_warning_sink(None)
            self._bar.stop()
            self._bar = None
