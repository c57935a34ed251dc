"""`demega-jax download`: grouped files or recordings from the hub."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from demega_jax.api.lists import PUBLISHED_LEVELS, names, numbers
from demega_jax.api.paths import check_out
from demega_jax.api.shown import moves, warnings_above
from demega_jax.commands.shared.options import MADE, SessionRuns, Several, Split, level_option
from demega_jax.errors import UserError, counted, warn
from demega_jax.names import SPLITS
from demega_jax.saying import say_result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

EXAMPLES = """demega-jax download data --level 5,20,100

demega-jax download recordings --recordings --run 1:Sherlock1:1"""

OUT = "Folder to put grouped_K, or the recordings, into."
REVISION = "Branch, tag or commit of the dataset (default: the one in OUT/download.json, else main)."
REPO = "Another dataset with files of the same layout (default: those of LibriBrain)."


def command(
    out: Annotated[Path, Argument(metavar="OUT", help=OUT)],
    level: Annotated[Several, level_option("Download grouped files of these levels", MADE)] = None,
    recordings: Annotated[bool, Option("--recordings", help="Download recordings and their events.")] = False,
    run: SessionRuns = None,
    split: Split = None,
    revision: Annotated[str | None, Option(metavar="REV", help=REVISION)] = None,
    repo: Annotated[str | None, Option(metavar="OWNER/NAME", help=REPO)] = None,
) -> int:
    """Download grouped files or recordings from the hub, and check them. A stopped download continues."""
    levels = numbers("--level", level, lambda: PUBLISHED_LEVELS)
    splits = names("--split", split, SPLITS) or SPLITS
    if run and not recordings:
        way_out = "leave out --run, or add --recordings"
        raise UserError("--run", "given without --recordings", "--recordings beside it", way_out)
    if bool(levels) == recordings:
        came = "given beside --recordings" if levels else "neither --level nor --recordings is given"
        raise UserError("--level", came, "one of the two", "give --level for grouped files, or --recordings")
    if repo is not None and repo.count("/") != 1:
        way_out = "write --repo OWNER/NAME, as on the page of the dataset"
        raise UserError("--repo", f"{repo!r} does not name a dataset", "OWNER/NAME of a dataset", way_out)
    check_out(out)
    from demega_jax.console import new_console
    from demega_jax.data.hub.choice import parse_run
    from demega_jax.data.hub.download import download_grouped, download_recordings
    from demega_jax.files import format_bytes

    show = Transfer(new_console())
    try:
        if recordings:
            runs = None if run is None else [parse_run(text) for text in run]
            paths = download_recordings(out, runs=runs, splits=splits, repo=repo, revision=revision, show=show)
        else:
            paths = download_grouped(out, levels=levels, splits=splits, repo=repo, revision=revision, show=show)
    except KeyboardInterrupt:
        warn("what was downloaded is kept; run the same command again to continue")
        raise
    finally:
        show.end()
    size = sum(path.stat().st_size for path in paths)
    say_result(f"{out}: {counted(len(paths), 'file')} whole and readable, {format_bytes(size)}")
    return 0


class Transfer:
    """Shows the file that is being downloaded as a bar on a terminal, and only lines anywhere else."""

    def __init__(self, console: "Console"):
        self._console = console
        self._bar: Progress | None = None
        self._warnings = ExitStack()

    def line(self, text: str) -> None:
        """Print a line, which stays one line for any width."""
        self._console.print(text, soft_wrap=True)

    def begin(self, name: str, size: int) -> None:
        """Show a bar for a file of `size` bytes."""
        if not moves(self._console):
            return
        from rich import progress
        from rich.table import Column

        # The bar stays one line for any width: a long name is cut, the numbers are not.
        cut = Column(no_wrap=True, overflow="ellipsis", max_width=self._console.width * 2 // 5)
        told = progress.TextColumn("{task.fields[told]}", table_column=Column(no_wrap=True))
        columns = (
            progress.TextColumn("{task.description}", markup=False, table_column=cut),
            *(progress.BarColumn(None), told, progress.TimeRemainingColumn(compact=True)),
        )
        self._bar = progress.Progress(*columns, console=self._console, transient=True, expand=True)
        self._bar.add_task(name if len(name) < 40 else Path(name).name, total=size, told="")
        self._bar.start()
        self._warnings.enter_context(warnings_above(self._console))

    def at(self, count: int) -> None:
        """Show that so many bytes have come."""
        from demega_jax.files import format_bytes

        if self._bar is not None:
            (task,) = self._bar.tasks
            speed = f"  {format_bytes(int(task.speed))}/s" if task.speed else ""
            told = f"{format_bytes(count)} of {format_bytes(int(task.total or 0))}{speed}"
            self._bar.update(task.id, completed=count, told=told)

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._warnings.close()
            self._bar.stop()
            self._bar = None
