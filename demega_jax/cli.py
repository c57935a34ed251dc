"""The command line: it collects the commands, and turns errors into one line and an exit status."""

import errno
import importlib
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from demega_jax import __version__
from demega_jax.errors import NO_SPACE, UserError, warn, without_reader

if TYPE_CHECKING:
    import typer

COMMANDS = (
    "simulate",
    "download",
    "import",
    "import-bids",
    "group",
    "shard",
    "train",
    "evaluate",
    "report",
    "compare",
    "audit",
    "predict",
    "submit",
    "sweep",
    "stack",
    "push",
    "pull",
    "inspect",
    "import-torch",
    "export-torch",
    "benchmark",
    "doctor",
)
LINGER = 10.0  # seconds in which a process that fails puts away what is left
MODULES = {"import": "import_windows"}  # `import` is a word of Python
DESCRIPTION = """Phoneme classification from magnetoencephalography at accelerator speed.

Lists are written as 5,20,100, by repeating the option, as all, or as a range such as 5-100."""


def build_app() -> "typer.Typer":
    """The application `demega-jax`. Each command is a module in `commands/` with a function `command` and EXAMPLES."""
    import typer

    from demega_jax.commands.shared.loud import TALKING, with_loudness
    from demega_jax.commands.shared.words import Command, Group

    settings = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(name="demega-jax", cls=Group, help=DESCRIPTION, context_settings=settings)

    def show_version(asked: bool) -> None:
        if asked:
            print(f"demega-jax {__version__}")
            raise typer.Exit()

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Show the version and exit."
        ),
    ) -> None: ...

    for name in COMMANDS:
        module = importlib.import_module(f"demega_jax.commands.{MODULES.get(name, name.replace('-', '_'))}")
        examples = f"[bold]Examples[/bold]\n\n{module.EXAMPLES}"
        command = with_loudness(module.command) if name in TALKING else module.command
        app.command(name, cls=Command, context_settings=settings, epilog=examples)(command)
    return app


def run(words: Sequence[str], *, own: bool) -> int:
    """Run a command; returns its exit status. UserError: bad usage or input.

    words: the command line after `demega-jax`.  own: whether this process runs nothing but the command.
    """
    import typer

    from demega_jax.commands.shared.process import Process, quiet_libraries

    try:
        app, process = build_app(), Process(tuple(words), own)
        quiet_libraries(process)
        if own:
            _print_everything()
        return app(list(words), standalone_mode=False, prog_name="demega-jax", obj=process) or 0
    except typer.TyperException as error:  # about the words before the command; a command refuses those after it
        came = error.format_message().rstrip(".")
        raise UserError("demega-jax", came, f"one of {', '.join(COMMANDS)}", "see `demega-jax --help`") from None


def _print_everything() -> None:
    """Print what the terminal cannot show, or what is no text in the name of a file, as a code such as \\udcff."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, or 2 for bad usage or input, or 128 + the signal that ended it.

    argv: the words after `demega-jax`; None: those of this process.
    """
    try:
        status = _status(argv)
    except Exception:
        _end_soon(argv, 1)
        raise
    if status:
        _end_soon(argv, status)
    return status


def _end_soon(argv: Sequence[str] | None, status: int) -> None:
    """End a process of ours that fails, even if a thread does not: after a save that failed, threads of orbax wait ten
    minutes for it."""
    if argv is None:
        timer = threading.Timer(LINGER, os._exit, [status])
        timer.daemon = True
        timer.start()


def _status(argv: Sequence[str] | None) -> int:
    try:
        status = run(sys.argv[1:] if argv is None else argv, own=argv is None)
        sys.stdout.flush()  # here, where an output that nobody reads any more is not taken for a bug
        return status
    except UserError as error:
        return _refuse(error)
    except (SystemExit, BrokenPipeError) as error:
        if not without_reader(error):
            raise
        return _without_reader()
    except RuntimeError as error:
        from demega_jax.api.jax_environment import without_device

        if (refused := without_device(error)) is None:
            raise
        return _refuse(refused)
    except OSError as error:
        return _refuse(_of_the_disk(error))
    except KeyboardInterrupt:
        if argv is not None:  # in a process of ours, `interrupts.py` has said it
            warn("interrupted")
        return 130


# What the system says of a path that is wrong, not of a program that is: too long, read-only, forbidden, another kind.
OF_A_PATH = (
    *(errno.ENAMETOOLONG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
    *(errno.ENXIO, errno.EIO, errno.ESTALE),
)


def _of_the_disk(error: OSError) -> UserError:
    """The error of a full disk, or of a path that cannot be used; any other OSError is raised again, as it is a bug."""
    where = "output" if error.filename is None else os.fsdecode(error.filename)
    if error.errno in NO_SPACE:
        return UserError(where, "no space left on the disk", "space to write to", "free space on that disk")
    if error.errno not in OF_A_PATH or error.filename is None:
        raise error
    wanted = "a path that can be read and written as the command needs it"
    return UserError(where, f"it cannot be used ({error.strerror})", wanted, "choose another path, or its permissions")


def _refuse(error: UserError) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _without_reader()
    print(f"error: {error}", file=sys.stderr)
    return 2


def _without_reader() -> int:
    """The exit status where nobody reads the output any more, as after `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13
