"""The memory that a step needs, the memory that a device has, and a batch size that would fit."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from demega_jax.errors import UserError
from demega_jax.files import format_bytes

USABLE = 0.95  # share of the free memory: allocators round sizes up
MARGIN = 0.9  # share of the batch that would fit if memory were in proportion to its rows, which is not quite so


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes on one device. kept: those of the state, for any batch.  rows: those that grow with the rows of a batch."""

    kept: int
    rows: int

    @property
    def total(self) -> int:
        """Bytes in use at the peak of the step."""
        return self.kept + self.rows


def step_memory(compiled: Any, state: Any, held: int = 0) -> StepMemory:
    """Memory of a compiled step: arguments, results and temporaries. The donated state counts once.

    held: bytes of arguments that a feed keeps on the device between steps; they do not count.
    """
    analysis = compiled.memory_analysis()
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    arrays = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return StepMemory(kept, max(0, arrays + analysis.temp_size_in_bytes - kept - held))


def available_memory(device: jax.Device) -> int | None:
    """Bytes of a device; of a CPU, those that are free. None if that is unknown."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    meminfo = Path("/proc/meminfo")
    if device.platform != "cpu" or not meminfo.is_file():
        return None
    fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def check_memory(need: StepMemory, available: int | None, batch_size: int, multiple: int, devices_share: int) -> None:
    """UserError, with a batch size that fits: memory cannot hold the step.

    multiple: batch sizes must be multiples of this.  devices_share: number of devices that share the same memory, as
    virtual CPU devices do.
    """
    if available is None or need.total * devices_share <= available * USABLE:
        return
    raise out_of_memory(need, available, batch_size, multiple, devices_share)


def batch_that_fits(need: StepMemory, available: float, batch_size: int, multiple: int) -> int:
    """The largest batch that fits `available` bytes, taking memory to grow in proportion to the rows; 0: none.

    need: of a batch of `batch_size` rows.  multiple: batch sizes must be multiples of this.
    """
    room = available * USABLE - need.kept
    return max(0, int(room / max(need.rows, 1) * batch_size * MARGIN) // multiple * multiple)


def out_of_memory(need: StepMemory, available: int, batch_size: int, multiple: int, devices_share: int) -> UserError:
    """The error that names a batch size that fits."""
    fits = batch_that_fits(need, available / devices_share, batch_size, multiple)
    # train.accumulate would need less memory too, but its losses are of each microbatch.
    way_out = f"use train.batch_size={fits}" if fits else "use a smaller model, or a device with more memory"
    came = f"{batch_size} rows need {format_bytes(need.total * devices_share)}"
    return UserError("train.batch_size", came, f"at most {format_bytes(available)}, the memory there is", way_out)
