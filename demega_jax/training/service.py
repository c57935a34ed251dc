"""The coordination service of several processes: where they meet, and through which they tell each other.

It is a process of its own, which process 0 starts, and which lives a while longer than process 0 does. Were it a part
of process 0, the end of that would end all others at once, from within jax's own threads and with their messages.
`python -m demega_jax.training.service ADDRESS PROCESSES HEARTBEAT LINGER` serves until its stdin ends.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from demega_jax.errors import UserError

READY = "ready"
END = "end"
SOON, SHORT = "soon", 3  # what ends the service so many seconds after the process that started it


class Service:
    """The service of this process's children; `shutdown` is what jax calls."""

    def __init__(self, address: str, processes: int, heartbeat: int, linger: int):
        """heartbeat: seconds after which jax takes a silent process for dead.  linger: seconds that the service goes on
        after this process has ended without `shutdown`. UserError: it cannot listen there."""
        words = [sys.executable, "-m", "demega_jax.training.service", address, str(processes), str(heartbeat)]
        with _blocked(signal.SIGTERM, signal.SIGINT):
            self._child = subprocess.Popen(
                [*words, str(linger)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        assert self._child.stdout is not None
        if self._child.stdout.readline().strip() != READY:
            raise UserError(
                "--coordinator", f"nothing can listen at {address}", "a free port of process 0", "choose another port"
            )

    def shutdown(self) -> None:
        """End the service."""
        if self._child.poll() is None:
            self._child.communicate(END, timeout=30)

    def end_soon(self) -> None:
        """Let the service end shortly after this process. jax would end a process whose service ends before it."""
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._child.stdin.write(SOON)
                self._child.stdin.flush()


@contextlib.contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[None]:
    """Within this block these signals wait; in a process that is started meanwhile, without end.

    SLURM sends SIGTERM to every process of a job that is preempted, and without its service a training run could not
    finish its step and save.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(address: str, processes: int, heartbeat: int, linger: int) -> None:
    """Serve until stdin ends: after `END` not longer, after `SOON` a little, and after nothing `linger` seconds."""
    from jax._src.lib import _jax  # jax has no public name for its service

    service = _jax.get_distributed_runtime_service(
        address, processes, heartbeat_timeout=heartbeat, shutdown_timeout=linger
    )
    print(READY, flush=True)
    waits = {END: 0, SOON: SHORT}
    time.sleep(waits.get(sys.stdin.read().strip(), linger))
    service.shutdown()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
