"""A command in a process that measures itself: python -m soak.watched FILE WORDS ..

FILE gets, as JSON, samples of the memory and of the open files with the step at that time, and every compilation with
the name of what was compiled.
"""

import json
import os
import sys
import threading
from pathlib import Path

EVERY = 1.0  # seconds between two samples
COMPILED = "/jax/core/compile/backend_compile_duration"


class Watch:
    """What is known of this process. log: the metrics.jsonl that says how far its training run is."""

    def __init__(self, log: Path):
        self._log, self.samples, self.compiled = log, [], []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def note(self, event: str, seconds: float, **more: object) -> None:
        """A listener of jax's events."""
        if event == COMPILED:
            self.compiled.append({"name": str(more.get("fun_name", "")), "step": self._step()})

    def _sample(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._over.wait(EVERY):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            files = len(os.listdir("/proc/self/fd"))
            self.samples.append({"step": self._step(), "bytes": resident, "files": files})

    def _step(self) -> int:
        """The last step of training that is logged; 0 before the first."""
        if not self._log.exists():
            return 0
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - 4096))
            whole = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
        return int(json.loads(whole)["step"]) if whole.startswith(b"{") else 0

    def close(self, to: Path) -> None:
        """Write what was found."""
        self._over.set()
        self._thread.join()
        to.write_text(json.dumps({"samples": self.samples, "compiled": self.compiled}))


def main() -> int:
    """Run the command of this process, and write what was found."""
    to, words = Path(sys.argv[1]), sys.argv[2:]
    watch = Watch(Path(words[words.index("--run") + 1]) / "metrics.jsonl")
    import jax

    jax.monitoring.register_event_duration_secs_listener(watch.note)
    sys.argv = ["demega-jax", *words]
    from demega_jax.cli import main as run

    status = run()
    watch.close(to)
    return status


if __name__ == "__main__":
    sys.exit(main())
