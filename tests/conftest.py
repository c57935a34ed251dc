"""Eight virtual CPU devices for every test, and full precision of matrix products."""

import atexit
import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so would the commands that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A loop that dispatches collectives to more virtual devices than cores can deadlock unless the thread pool is
# larger than the machine; XLA reads this before jax starts. Subprocesses of tests inherit it.
os.environ["NPROC"] = "32"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["COLUMNS"] = "80"  # the terminal that what is printed has to fit
# Tiny programs run once: compiling them is what takes time, and half of that is optimisation by LLVM.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

# The same tiny programs are compiled by many tests and by the commands that tests start: once is enough.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="demega-jax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import hypothesis
import jax
import numpy as np
import pytest
from helpers import GOLDEN

from demega_jax.errors import set_warning_sink

# Tracing makes millions of small objects that live on, and looking for cycles among them takes a quarter of the time.
gc.set_threshold(100_000, 50, 100)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "highest")


# How fast this machine is at the moment is not what properties are tested for.  The examples are the same in every run,
# so that what passed here passes for everybody; `--hypothesis-profile=search` looks for new ones.
for profile, same in (("always the same", True), ("search", False)):
    hypothesis.settings.register_profile(
        profile, deadline=None, derandomize=same, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
hypothesis.settings.load_profile("always the same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no worker is left alone with one of them at the end.

    How long a file takes is what its slow tests say: `slow(seconds)`, 10 where they say nothing.
    """
    seconds: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("slow")
        slow = 0.0 if marker is None else marker.kwargs.get("seconds", 10.0)
        seconds[item.path] = seconds.get(item.path, 0.0) + slow
    items.sort(key=lambda item: -seconds[item.path])  # stable: the tests of a file stay together, in its order


@pytest.fixture
def golden():
    """Numbers of the original system: `golden("attention")` is that file as a dict of arrays."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as file:
            return dict(file)

    return load


@pytest.fixture
def warnings():
    """The warning lines of a test."""
    lines: list[str] = []
    set_warning_sink(lines.append)
    yield lines
    set_warning_sink(None)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder: nothing is remembered from elsewhere, and nothing stays."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
