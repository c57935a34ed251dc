"""A training run beside the caller's thread, which Ctrl-C or a notebook's "interrupt" asks to stop and to save."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from demega_jax.errors import warn
from demega_jax.training.signals import Signals

Result = TypeVar("Result")
LOOKS = 0.2  # seconds between two looks for an interrupt
HEARD = "interrupted: the training run finishes its step and is saving; interrupt again to wait no longer"


class Told(Signals):
    """Signals of which another thread tells. It changes nothing in how the process answers signals."""

    def tell(self, number: int) -> None:
        """Ask for the end after the step that is under way."""
        self.received = number

    @contextmanager
    def noted(self) -> Iterator["Told"]:
        """Within this block nothing is different: `tell` says all there is."""
        yield self


def in_thread(work: Callable[[Signals], Result]) -> Result:
    """The result of `work` (or what it raises), which runs in a thread of its own while this one waits for it.

    A KeyboardInterrupt while this thread waits asks the work to stop and to save, and it returns then. So jax never
    sees one, no handler of signals is needed, and the event loop of a notebook is not in the way of orbax. A second
    one is raised here, and the work saves beside the caller.
    """
    told, done = Told(), threading.Event()
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(told))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=run, name="demega-jax train").start()
        _wait(done)
    except KeyboardInterrupt:
        told.tell(signal.SIGINT)
        warn(HEARD)
        _wait(done)
    if errors:
        raise errors[0]
    return results[0]


def _wait(done: threading.Event) -> None:
    """Wait in small pieces, between which Python raises a KeyboardInterrupt that came without a signal."""
    while not done.wait(LOOKS):
        pass
