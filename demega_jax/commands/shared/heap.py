"""The heap of a process that computes on the CPU: it keeps freed memory."""

import ctypes
import importlib.util
import os
from importlib.metadata import entry_points

# Parameters of mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def only_cpu() -> bool:
    """Whether jax will compute on the CPU: by JAX_PLATFORMS, or because nothing else is installed."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    return not entry_points(group="jax_plugins") and importlib.util.find_spec("libtpu") is None


def keep_heap() -> bool:
    """Keep freed memory in this process, for its next use; returns whether that is possible.

    A step on the CPU allocates and frees hundreds of megabytes. The C library would give them back to the system and
    get them again page by page, which takes a quarter of the time of a step (benchmarks/NOTES.md). Call it before jax
    starts its threads. Only glibc can do it; elsewhere nothing happens.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # One heap, no memory maps beside it, and no trimming.
    return all([mallopt(M_ARENA_MAX, 1), mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])
