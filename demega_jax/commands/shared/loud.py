"""The options --quiet and --verbose, which every command has that prints what it is doing."""

import functools
import inspect
import platform
import time
from collections.abc import Callable

import typer

from demega_jax import __version__
from demega_jax.errors import UserError
from demega_jax.saying import Loudness, loudness, say_more

QUIET = typer.Option(False, "-q", "--quiet", help="Print only the result in a line, warnings and errors.")
VERBOSE = typer.Option(False, "-v", "--verbose", help="Print more of what is done.")
# The commands that print what they are doing.
TALKING = (
    *("simulate", "download", "group", "shard", "train", "evaluate", "report", "compare", "audit"),
    *("predict", "sweep", "stack", "benchmark", "import-bids", "inspect"),
)


def with_loudness(command: Callable[..., int]) -> Callable[..., int]:
    """A command with the two options after its own."""
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=bool)
        for name, option in (("quiet", QUIET), ("verbose", VERBOSE))
    ]
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def louder(*args: object, quiet: bool, verbose: bool, **given: object) -> int:
        if quiet and verbose:
            raise UserError("--quiet", "given beside --verbose", "only one of the two", "leave out one of them")
        wanted = Loudness.QUIET if quiet else Loudness.VERBOSE if verbose else Loudness.USUAL
        began = time.perf_counter()
        with loudness(wanted):
            say_more(f"demega-jax {__version__}, Python {platform.python_version()}, {platform.platform()}")
            status = command(*args, **given)
            say_more(f"took {time.perf_counter() - began:.1f} s")
        return status

    louder.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *options])  # type: ignore[attr-defined]
    louder.__annotations__ = command.__annotations__ | {"quiet": bool, "verbose": bool}
    return louder
