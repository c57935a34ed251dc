"""A limit for the time that a device may take to answer: one that hangs would keep the whole command waiting."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from demega_jax.benchmark.doctor.finding import Finding

SECONDS = 300.0  # compiling and five steps take 2 s on a CPU of today; a busy machine and a cold driver need more
Answer = TypeVar("Answer")


class NoAnswer(Exception):
    """A device has not answered in time, and the thread that asked it still waits. finding: which one, and what to do.

    Nothing else should be asked of the devices of this process, and its end must not wait for them.
    """

    def __init__(self, finding: Finding):
        super().__init__(finding.found)
        self.finding = finding


def answer(name: str, who: str, ask: Callable[[], Answer], seconds: float | None = None) -> Answer:
    """What `ask` returns, or raises. It runs in a thread, so that signals are heard meanwhile.

    name: of the finding.  who: what is asked, as a message names it.  seconds: None: SECONDS. NoAnswer: it has not
    returned by then.
    """
    limit, asked = SECONDS if seconds is None else seconds, Future[Answer]()

    def work() -> None:
        try:
            asked.set_result(ask())
        except Exception as error:  # whatever it is, it is raised again below, where the answer is wanted
            asked.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return asked.result(limit)
    except TimeoutError:
        if asked.done():  # it is the answer that timed out, not we
            raise
    found = f"{who}: no answer within {limit:.0f} s"
    way_out = (
        "See whether its driver answers (`nvidia-smi`, `rocm-smi`) and whether another process holds it; start the "
        "machine anew, or leave the device out with CUDA_VISIBLE_DEVICES or JAX_PLATFORMS."
    )
    raise NoAnswer(Finding(name, "broken", found, way_out))
