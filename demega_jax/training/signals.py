"""Signals that ask a run to end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A signal asked for the end; the step is finished and saved."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.status = 128 + signum


class Signals:
    """Notes SIGTERM and SIGINT; a second one acts as ever."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextmanager
    def noted(self) -> Iterator["Signals"]:
        """While active, the first signal is noted instead of acting."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def note(number: int, frame: FrameType | None) -> None:
            self.received = number
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
