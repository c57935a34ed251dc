"""The process of a command: its environment, its heap, its interrupts, and the settings of jax."""

import ctypes
import dataclasses
import importlib.util
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from demega_jax.api.jax_environment import import_jax
from demega_jax.api.settings import DETERMINISTIC, apply_settings, set_xla
from demega_jax.commands.shared.interrupts import ENDING, end_at_once, end_in_order
from demega_jax.errors import UserError
from demega_jax.names import MAX_CPU_DEVICES

if TYPE_CHECKING:
    from demega_jax.config import Config

# Parameters of mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


@dataclasses.dataclass(frozen=True)
class Process:
    """words: the command line after `demega-jax`.  own: whether the process runs nothing but the command."""

    words: tuple[str, ...]
    own: bool


def prepare_process(process: Process, devices: int = 1) -> None:
    """Set the heap and the number of virtual CPU devices, which are read once, at the import of numpy and jax.

    UserError: more of these than a machine can hold.
    """
    if devices > MAX_CPU_DEVICES and only_cpu():
        came, wanted = f"{devices} virtual CPU devices", f"at most {MAX_CPU_DEVICES}, as each has threads of its own"
        raise UserError("--devices", came, wanted, f"use --devices {MAX_CPU_DEVICES}, or fewer")
    if process.own and only_cpu():
        keep_heap()
    if devices > 1:
        # Collectives of virtual CPU devices wait for each other in a pool of threads. By default it has a thread for
        # each core; on few cores they would deadlock.
        os.environ.setdefault("NPROC", str(max(32, 4 * devices)))
        set_xla("--xla_force_host_platform_device_count", devices)


def quiet_libraries(process: Process) -> None:
    """Keep what libraries log off stderr, which has our own warnings and errors, in whole sentences, and nothing else.

    They would write there where nobody has set up logging, such as `ERROR:absl:` of orbax. A process of another program
    keeps its own logging.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs much that nobody needs
    if process.own:
        logging.getLogger().addHandler(logging.NullHandler())


def only_compile() -> None:
    """Let jax compute on the CPU alone, as for programs that are compiled for devices that are not here.

    It is called before jax is imported. What the libraries of absent devices log is of no use to a user.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # programs for such devices cannot be read back
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


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


def set_numerics(process: Process, config: "Config", *, remember: bool = True) -> None:
    """Import jax, and set the precision and determinism of a configuration before the devices are first used.

    remember: as in `apply_settings`.  UserError: jax cannot read its environment.
    """
    if config.train.deterministic:
        set_xla(DETERMINISTIC, "true")
    with ending_at_once(process):
        import_jax()
    apply_settings(config, remember=remember)


@contextmanager
def ending_at_once(process: Process) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the process at once within this block, where there is nothing to finish.

    Within the callbacks of jax, an exception may be lost or turned into another one. A program that answers signals
    itself goes on doing so.
    """
    usual = (signal.default_int_handler, signal.SIG_DFL, end_in_order)
    before = {number: signal.getsignal(number) for number in ENDING} if process.own else {}
    before = {number: handler for number, handler in before.items() if handler in usual}
    for number in before:
        signal.signal(number, end_at_once)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
