"""What orbax says when a save or a read fails stays off stderr: the command line says it in one line."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any


def _without_trace(record: logging.LogRecord) -> bool:
    """Whether a log record has no trace. What orbax logs with a trace it also raises, from the next save or wait."""
    return not record.exc_info


def _unless_loop_closed(unraisable: Any, /) -> None:
    """Pass on what Python cannot raise, but for arrays whose write or read ends after that of another has failed.

    They find the event loop of their thread closed; the first failure was raised already.
    """
    if not (isinstance(unraisable.exc_value, RuntimeError) and "loop is closed" in str(unraisable.exc_value)):
        sys.__unraisablehook__(unraisable)


def quiet_failed_saves() -> None:
    """Keep the traces of orbax's threads off stderr when a save fails. `Checkpoints` raises what they raised.

    On a full disk the command line would otherwise print over a thousand lines, some of them after its error.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_without_trace)
    quiet_closed_loops()


def quiet_closed_loops() -> None:
    """Keep off stderr what threads of orbax find closed after a failure, unless someone else takes care of it."""
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unless_loop_closed


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Within this block orbax logs nothing: what is wrong is raised. Afterwards loggers and hooks are as before.

    After a failure the filters and the hook stay: threads of the failed save may still end, and report it again.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, filters = [each.level for each in loggers], [list(each.filters) for each in loggers]
    hook = sys.unraisablehook
    loggers[0].setLevel(logging.CRITICAL)
    quiet_failed_saves()
    try:
        yield
        for each, kept in zip(loggers, filters, strict=True):
            each.filters[:] = kept
        if sys.unraisablehook is _unless_loop_closed:
            sys.unraisablehook = hook
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
