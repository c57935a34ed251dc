"""The heap of a process that computes on the CPU keeps the memory that it was given."""

import ctypes
import importlib.util
import os
from importlib.metadata import entry_points

# Of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def only_cpu() -> bool:
    """Whether jax will compute on the CPU: by JAX_PLATFORMS, or because nothing else is installed."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    return not entry_points(group="jax_plugins") and importlib.util.find_spec("libtpu") is None


def keep_heap() -> bool:
    """Let memory that is freed stay with this process, for the next that is asked for; whether that can be had.

    A step on the CPU asks for its temporary memory and frees it, hundreds of megabytes at a time. The C library would
    give that back to the system and get it again page by page, which takes a quarter of the step's work
    (benchmarks/NOTES.md). To be called before jax starts its threads. Known to glibc only; elsewhere nothing happens.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # One heap, nothing beside it, never cut back.
    return all([mallopt(M_ARENA_MAX, 1), mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])
