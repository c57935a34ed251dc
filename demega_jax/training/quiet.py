"""What orbax says when a save or a read fails stays off stderr: the command line says it in one line."""

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def _not_of_a_save(record: logging.LogRecord) -> bool:
    """Whether a log record is not of an error within orbax, which also raises it, from the next save or wait."""
    trace = record.exc_info[2] if record.exc_info else None
    return not any("orbax" in Path(frame.f_code.co_filename).parts for frame, _ in traceback.walk_tb(trace))


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
        logging.getLogger(name).addFilter(_not_of_a_save)
    quiet_closed_loops()


def quiet_closed_loops() -> None:
    """Keep off stderr what threads of orbax find closed after a failure, unless someone else takes care of it."""
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unless_loop_closed


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Within this block orbax logs nothing: what is wrong is raised. Afterwards loggers and hooks are as before.

    After an error the filters and the hook stay, which keep off stderr what is of orbax alone: threads of a save that
    failed may still end, and report it again.
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
