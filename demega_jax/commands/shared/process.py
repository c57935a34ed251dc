"""The process of a command: its environment, its heap, its interrupts, and the settings of jax."""

import dataclasses
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from demega_jax.commands.shared.heap import keep_heap, only_cpu

if TYPE_CHECKING:
    from demega_jax.config import Config


@dataclasses.dataclass(frozen=True)
class Process:
    """words: the command line after `demega-jax`.  own: whether the process runs nothing but the command."""

    words: tuple[str, ...]
    own: bool


def prepare_process(process: Process, devices: int = 1) -> None:
    """Set the heap and the number of virtual CPU devices, which are read once, at the import of numpy and jax."""
    if process.own and only_cpu():
        keep_heap()
    if devices > 1:
        # Collectives of virtual CPU devices wait for each other in a pool of threads. By default it has a thread for
        # each core; on few cores they would deadlock.
        os.environ.setdefault("NPROC", str(max(32, 4 * devices)))
        flag = f"--xla_force_host_platform_device_count={devices}"
        if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def set_numerics(process: Process, config: "Config", *, remember: bool = True) -> None:
    """Import jax, and set the precision and determinism of a configuration before the devices are first used.

    remember: whether compiled programs are kept on disk for later commands. JAX_COMPILATION_CACHE_DIR says in which
    folder (empty: none), and if it is set it decides without remember too.
    """
    if config.train.deterministic and "xla_gpu_deterministic_ops" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    with ending_at_once(process):
        import jax
    from demega_jax.files import cache_folder

    if config.train.matmul_precision != "default":
        jax.config.update("jax_default_matmul_precision", config.train.matmul_precision)
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax logs much that nobody needs
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder("compiled")) if remember else None)
    elif not remember:
        jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"] or None)
    # Where the cache cannot be read or written, programs are compiled again, and nothing else is lost.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")


@contextmanager
def ending_at_once(process: Process) -> Iterator[None]:
    """Let Ctrl-C end the process at once within this block, where there is nothing to finish.

    Within an import of jax, a KeyboardInterrupt may be raised in compiled code, which turns it into other errors.
    """
    if not process.own or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        os.write(sys.stderr.fileno(), b"warning: interrupted\n")
        os._exit(128 + number)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
