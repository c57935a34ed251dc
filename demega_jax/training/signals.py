"""Signals that ask a run to end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from demega_jax.errors import warn

ASKING = (signal.SIGTERM, signal.SIGINT)
HEARD = "interrupted: finishing the step, then saving; Ctrl-C again ends at once"
AT_ONCE = "ended at once; what came after the last checkpoint is lost"


class Interrupted(Exception):
    """A signal asked for the end; the step is finished and saved."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.status = 128 + signum


class Signals:
    """Notes SIGTERM and SIGINT, and says so at once; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextmanager
    def noted(self) -> Iterator["Signals"]:
        """While active, the first signal is noted instead of acting.

        The main thread may compute for minutes before it runs a handler of Python. The bytes that the interpreter
        writes for each signal (`signal.set_wakeup_fd`) reach a thread of their own at once.
        """
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        watcher = threading.Thread(target=self._watch, args=(reading,), daemon=True)
        watcher.start()
        before = {number: signal.signal(number, self._note) for number in ASKING}
        woken_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield self
        finally:
            signal.set_wakeup_fd(woken_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writing)
            watcher.join()
            os.close(reading)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number

    def _watch(self, reading: int) -> None:
        """Say what each signal does, as it comes; end the process at the second."""
        heard = 0
        while numbers := os.read(reading, 1):
            if numbers[0] not in ASKING:
                continue
            heard += 1
            if heard == 1:
                warn(HEARD)
            else:
                _end_at_once(numbers[0])


def _end_at_once(number: int) -> None:
    """End the process, past Python's buffers and locks, which the main thread may hold."""
    # On a terminal: a line of its own below the progress bar, and the cursor that the bar hides.
    before = "\n\x1b[?25h" if sys.stderr.isatty() else ""
    os.write(2, f"{before}warning: {AT_ONCE}\n".encode())
    os._exit(128 + number)
