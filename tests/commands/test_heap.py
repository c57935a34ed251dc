"""Memory that was freed is there for the next that is asked for."""

import subprocess
import sys

import pytest

from demega_jax.commands.shared.process import only_cpu

SCRIPT = """
import resource, sys
import numpy as np
from demega_jax.commands.shared.process import keep_heap
kept = sys.argv[1] == "keep" and keep_heap()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, np.float32)  # 200 MB
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(kept or sys.argv[1] != "keep"), *faults)
"""


def faults(how: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    possible, *counts = map(int, done.stdout.split())
    if not possible:
        pytest.skip("not glibc")
    return counts


def test_what_was_freed_is_kept():
    without, kept = faults("leave"), faults("keep")
    assert max(kept[1:]) < 200  # the pages of the first array serve the others
    assert min(without) > kept[1] and kept[0] > 10 * max(1, kept[1])


def test_only_cpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert only_cpu()
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert not only_cpu()
    monkeypatch.delenv("JAX_PLATFORMS")
    plugins: list[str] = []
    monkeypatch.setattr("demega_jax.commands.shared.process.entry_points", lambda group: plugins)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert only_cpu()
    plugins.append("cuda")
    assert not only_cpu()
