"""Signals that ask a training run to end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from demega_jax.errors import warn

ASKING = (signal.SIGTERM, signal.SIGINT)
HEARD = "interrupted: the training run finishes its step and is saving; Ctrl-C again ends it at once"
AT_ONCE = "ended at once; steps after the last checkpoint are lost"


class Interrupted(Exception):
    """A signal asked for the end, and the finished step is saved. status: the exit status, 128 + the signal."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.status = 128 + signum


class Signals:
    """Notes SIGTERM and SIGINT, and says so at once. A second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def stops_after(self, step: int, following: int) -> bool:
        """Whether training stops after this step. following: the last step of the next dispatch, if it goes on.

        Several processes that train together agree on the step, see `together.SharedSignals`.
        """
        return self.received is not None

    @contextmanager
    def noted(self) -> Iterator["Signals"]:
        """Within this block the first signal is noted and has no other effect.

        The main thread may compute for minutes before it runs a Python handler. For each signal the interpreter also
        writes a byte (`signal.set_wakeup_fd`), which a thread of its own reads at once.
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
        """Say at once what the first signal does; end the process at the second."""
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
    """End the process without the buffers and locks of Python, which the main thread may hold."""
    # On a terminal: begin a line below the progress bar, and show the cursor, which the bar hides.
    before = "\n\x1b[?25h" if sys.stderr.isatty() else ""
    os.write(2, f"{before}warning: {AT_ONCE}\n".encode())
    os._exit(128 + number)
