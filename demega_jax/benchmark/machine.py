"""What a machine can do, measured: matrix products, copies; and what it is, as it says itself."""

import dataclasses
import functools
import os
import platform
import re
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demega_jax.training.hardware import processor
from demega_jax.training.memory import available_memory

REPEATS = 5
LONG_ENOUGH = 0.02  # s of a product: what starting it takes is then nothing
SMALLEST, LARGEST = 1024, 16384  # rows of a matrix
# Bytes that are copied: more than any cache, less than any memory.
COPIED = {"cpu": 2**28, "gpu": 2**31, "tpu": 2**30}


@dataclasses.dataclass(frozen=True)
class Machine:
    """What one device can do. flops: FLOP/s of matrix products by precision.  bandwidth: bytes/s of copies.

    shared: the devices are virtual, so that several can do no more than one.
    """

    flops: dict[str, float]
    bandwidth: float
    shared: bool

    def better(self, other: "Machine") -> "Machine":
        """The best of two measurements: other work on the machine makes one of them less than it can do."""
        flops = {name: max(value, other.flops[name]) for name, value in self.flops.items()}
        return Machine(flops, max(self.bandwidth, other.bandwidth), self.shared)


def measure_machine(device: jax.Device, precisions: Iterable[str]) -> Machine:
    """What a device can do now, in products of these precisions and in copies."""
    flops = {name: matrix_peak(device, name) for name in precisions}
    return Machine(flops, copy_bandwidth(device), device.platform == "cpu")


def matrix_peak(device: jax.Device, dtype: str) -> float:
    """FLOP/s of large square products of one type on a device: the best of several, of several sizes.

    In float32 with the precision of `train.matmul_precision`, as a step would have it.
    """
    best, size = 0.0, SMALLEST
    while True:
        one = jax.device_put(np.ones((size, size), np.float32), device).astype(dtype)
        seconds = min(repeated(functools.partial(jax.jit(jnp.matmul), one, one)))
        best = max(best, 2 * size**3 / seconds)
        if seconds > LONG_ENOUGH or size >= LARGEST:
            return best
        size *= 2


def copy_bandwidth(device: jax.Device) -> float:
    """Bytes/s of copying a large array on a device, what is read and what is written counted: the best of several."""
    count = COPIED.get(device.platform, COPIED["gpu"]) // 4
    source, target = (jax.device_put(np.zeros(count, np.float32), device) for _ in range(2))
    # Into memory that is there already: taking new memory from the system can be slower than the copy.
    copy = jax.jit(lambda source, target: source + 1, donate_argnums=1, keep_unused=True)

    def again() -> jax.Array:
        nonlocal target
        target = copy(source, target)
        return target

    return 2 * 4 * count / min(repeated(again))


def repeated(work: Callable[[], Any]) -> list[float]:
    """Seconds of each repetition, after one that compiles."""
    jax.block_until_ready(work())
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - began)
    return seconds


def hardware(device: jax.Device) -> dict[str, Any]:
    """The machine by name: devices of its kind, processor, cores, memory in bytes (None where it does not tell)."""
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "device_memory_bytes": available_memory(device),
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def forget_peak_memory() -> None:
    """Begin to look for the peak anew, where the system knows how (Linux, memory of the process)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # the peak is then that since the process began


def peak_memory(device: jax.Device) -> tuple[int, str]:
    """(bytes, of what): the most that a device had in use, or a CPU's process since `forget_peak_memory`."""
    stats = device.memory_stats() or {}
    if device.platform != "cpu" and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "device memory in use, the most since the process began"
    status = Path("/proc/self/status")
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.is_file() else None
    if peak is not None:
        return int(peak[1]) * 1024, "resident memory of the process, the most while it ran"
    each = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * each, "resident memory of the process, the most so far"
