"""What threads of orbax report after a failed save stays off stderr, also once the block that failed is left."""

import asyncio
import io
import logging
import sys

import pytest

from demega_jax.training.quiet import quiet_orbax


class Late:
    """Ends as an array whose write ends after that of another has failed: its event loop is closed."""

    def __init__(self, message: str | None = None):
        self.message = message

    def __del__(self):
        if self.message:
            raise RuntimeError(self.message)
        loop = asyncio.new_event_loop()
        loop.close()
        loop.call_soon_threadsafe(print)


@pytest.fixture(autouse=True)
def hooks_of_python(monkeypatch):
    """pytest has a hook of its own, which the package would leave alone; filters of loggers are put back."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    for name in ("absl", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])


def late(filename: str) -> str:
    """What the logger of asyncio says of an error that was raised in a file of this name."""
    said = io.StringIO()
    logger, handler = logging.getLogger("asyncio"), logging.StreamHandler(said)
    logger.addHandler(handler)
    try:
        exec(compile("raise OSError('full')", filename, "exec"))
    except OSError as error:
        logger.error("never retrieved", exc_info=error)
    logger.removeHandler(handler)
    return said.getvalue()


def test_what_ends_after_a_failure_is_quiet(capsys):
    """Of orbax alone: errors of others are said."""
    of_orbax, of_others = "/packages/orbax/checkpoint/handlers.py", "/work/orbax_of_mine.py"
    Late()
    assert "Event loop is closed" in capsys.readouterr().err and "full" in late(of_orbax)
    with pytest.raises(OSError, match="full"), quiet_orbax():
        raise OSError("full")
    Late()
    assert late(of_orbax) == "" and "full" in late(of_others)
    Late("another fault")
    assert "Event loop" not in (said := capsys.readouterr().err) and "another fault" in said


def test_hooks_are_as_before_after_a_success():
    with quiet_orbax():
        assert sys.unraisablehook is not sys.__unraisablehook__
    assert sys.unraisablehook is sys.__unraisablehook__
    assert all(not logging.getLogger(name).filters for name in ("absl", "asyncio"))
