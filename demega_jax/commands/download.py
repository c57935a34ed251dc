"""`demega-jax download`: grouped files or recordings from the hub."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demega_jax.commands.shared.console import moves, warnings_above
from demega_jax.commands.shared.lists import PUBLISHED_LEVELS, names, numbers
from demega_jax.commands.shared.options import MADE
from demega_jax.errors import UserError, warn
from demega_jax.names import SPLITS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

EXAMPLES = """demega-jax download data --level 5,20,100

demega-jax download recordings --recordings --run 1:Sherlock1:1"""

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to put grouped_K, or the recordings, into.")]
Level = Annotated[
    list[str] | None, typer.Option("--level", metavar="K,..", help=f"Grouped files of these levels; {MADE}.")
]
Recordings = Annotated[bool, typer.Option("--recordings", help="Recordings and their events.")]
Run = Annotated[
    list[str] | None,
    typer.Option(
        "--run", metavar="RUN,..",
        help="Recordings of these session runs, such as 1:Sherlock1:1 (session, task, run; default: all).",
    ),
]  # fmt: skip
Split = Annotated[
    list[str] | None, typer.Option("--split", metavar="SPLIT,..", help=f"{', '.join(SPLITS)} or all (default: all).")
]
Revision = Annotated[
    str | None,
    typer.Option(
        metavar="REV",
        help="Branch, tag or commit of the dataset (default: that of what OUT/download.json lists, else main).",
    ),
]
Repo = Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Another dataset with files of the same layout.")]


def command(
    out: Out, level: Level = None, recordings: Recordings = False, run: Run = None, split: Split = None,
    revision: Revision = None, repo: Repo = None,
) -> int:  # fmt: skip
    """Fetch grouped files or recordings from the hub: resumed where it stopped, and checked."""
    levels = numbers("--level", level or (), lambda: PUBLISHED_LEVELS)
    splits = names("--split", split or (), SPLITS) or SPLITS
    if run and not recordings:
        raise UserError("--run", "given with --level", "--recordings", "leave --run out, or give --recordings")
    if bool(levels) == recordings:
        came = "given beside --recordings" if levels else "not given, and --recordings neither"
        raise UserError("--level", came, "one of the two", "choose grouped files or recordings")
    if repo is not None and repo.count("/") != 1:
        raise UserError("--repo", repr(repo), "OWNER/NAME of a dataset", "check --repo")
    from rich.console import Console

    from demega_jax.data.hub.choice import counted, parse_run
    from demega_jax.data.hub.download import download_grouped, download_recordings
    from demega_jax.files import format_bytes

    show = Transfer(Console(highlight=False))
    try:
        if recordings:
            runs = None if run is None else [parse_run(text) for text in run]
            paths = download_recordings(out, runs=runs, splits=splits, repo=repo, revision=revision, show=show)
        else:
            paths = download_grouped(out, levels=levels, splits=splits, repo=repo, revision=revision, show=show)
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
        self._warnings = ExitStack()

    def line(self, text: str) -> None:
        """Print a line; soft wrap: a line of a log file stays one line, whatever the width."""
        self._console.print(text, markup=False, soft_wrap=True)

    def begin(self, name: str, size: int) -> None:
        """Show a bar for a file of `size` bytes."""
        if not moves(self._console):
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
        self._warnings.enter_context(warnings_above(self._console))

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
            self._warnings.close()
            self._bar.stop()
            self._bar = None
