"""Signals that ask a run to end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ASKING = (signal.SIGTERM, signal.SIGINT)
HEARD = "interrupted: the run finishes its step, saves and ends; Ctrl-C again ends it at once, without saving"
AT_ONCE = "ended at once: nothing since the last checkpoint is saved"


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
                _say(HEARD)
            else:
                _say(AT_ONCE)
                os._exit(128 + numbers[0])


def _say(text: str) -> None:
    """A warning on a line of its own. It is written past Python's buffers, which the main thread may hold."""
    terminal = sys.stderr.isatty()
    # On a terminal: over the progress bar and the ^C, with the cursor that the bar hides.
    before = "\r\x1b[2K\x1b[?25h" if terminal else ""
    os.write(2, f"{before}warning: {text}\n".encode())
