"""A process that has imported jax, and forks a real process for each command: a start takes 0.1 s instead of 4 s.

It has no backend and no thread when it forks, so that a child does all else by itself: it reads its options, makes its
devices, compiles, trains, and ends as a process ends. Signals reach it as they reach any process.

One line of JSON asks for a command, and one answers when it has ended:
  {"words", "folder", "log", "signals": [[seconds, number], ..], "at_write": [n, number], "room", "user", "forbid",
   "clock"}
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 180.0  # seconds after which a command hangs
WRITES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "tempfile.mkstemp")
NOBODY = 65534


class Server:
    """Commands, one at a time, each in a fork of one process. cache: the folder of compiled programs."""

    def __init__(self, cache: Path):
        tests = Path(__file__).parents[1]
        path = os.pathsep.join([str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")])
        env = os.environ | {
            "PYTHONPATH": path,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
            "XDG_CACHE_HOME": str(cache / "home"),
        }
        (cache / "home").mkdir(parents=True, exist_ok=True)
        for folder in (cache, cache / "home"):
            folder.chmod(0o777)  # also a child that is nobody writes there
        command = [sys.executable, "-m", "faults.server"]
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tests.parent
        )

    def run(self, words: list[str], **fault: object) -> dict:
        """{"status", "seconds", "log", "writes"} of a command; status: negative for the signal that killed it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"words": words, **fault}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _serve() -> int:
    """Fork for each line. Returns only in a child, with the exit status of its command, or at the end of the input."""
    _import()
    for line in sys.stdin:
        asked = json.loads(line)
        log = Path(asked["log"])
        log.unlink(missing_ok=True)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            return _child(asked, log)
        status = _follow(pid, asked, began)
        writes = log.with_suffix(".writes")
        answer = {
            "status": status,
            "seconds": time.monotonic() - began,
            "log": log.read_text(errors="replace") if log.exists() else "",
            "writes": int(writes.read_text() or 0) if writes.exists() else 0,
        }
        print(json.dumps(answer), flush=True)
    return 0


def _import() -> None:
    """Everything that commands import late, so that each fork has it already."""
    import grain  # noqa: F401
    import jax  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    import demega_jax.api.training_run
    import demega_jax.cli
    import demega_jax.evaluation.fit
    import demega_jax.training.loop  # noqa: F401

    demega_jax.cli.build_app()


def _follow(pid: int, asked: dict, began: float) -> int:
    """Send the signals at their times, forbid the folder at its time, and wait for the end."""
    signals = [tuple(each) for each in asked.get("signals", [])]
    forbid = asked.get("forbid")
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic() - began
        while signals and now >= signals[0][0]:
            os.kill(pid, signals.pop(0)[1])
        if forbid is not None and now >= forbid:
            forbid = None
            allow(Path(asked["folder"]), 0o555)
        if now > LIMIT:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def allow(folder: Path, mode: int) -> None:
    """Set the mode of a folder and of all folders in it."""
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        try:
            place.chmod(mode)
        except FileNotFoundError:  # a checkpoint that is being written was renamed
            continue


def _child(asked: dict, log: Path) -> int:
    """Become the process of the command."""
    os.setsid()
    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(to, 1)
    os.dup2(to, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
    _count_writes(asked, log)
    if asked.get("room") is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["room"], asked["room"]))
    if asked.get("clock") is not None:
        _turn_back(*asked["clock"])
    if asked.get("user") and os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    sys.argv = ["demega-jax", *asked["words"]]
    from demega_jax.cli import main

    return main()


def _count_writes(asked: dict, log: Path) -> None:
    """Count what the process changes in the folder, and signal itself just before the n-th time."""
    folder, (at, number) = asked.get("folder"), asked.get("at_write", (0, 0))
    if folder is None:
        return
    count = 0
    counter = os.open(log.with_suffix(".writes"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        writes = event in WRITES
        if event == "open":
            writes = isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and any(isinstance(each, str) and each.startswith(folder) for each in map(_text, arguments)):
            count += 1
            os.pwrite(counter, str(count).encode(), 0)
            if count == at:
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)


def _text(value: object) -> object:
    return os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else value


def _turn_back(after: float, by: float) -> None:
    """Let the clock of the process go back `by` seconds, `after` seconds from now. The monotonic clock goes on."""
    real, real_ns, turn = time.time, time.time_ns, time.monotonic() + after
    time.time = lambda: real() - (by if time.monotonic() >= turn else 0.0)
    time.time_ns = lambda: real_ns() - (int(by * 1e9) if time.monotonic() >= turn else 0)


if __name__ == "__main__":
    sys.exit(_serve())
