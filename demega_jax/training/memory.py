"""What a step needs of a device's memory, what the device has, and a batch size that would fit."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from demega_jax.errors import UserError
from demega_jax.files import format_bytes

USABLE = 0.95  # of what is free: allocators round up
MARGIN = 0.9  # of the batch that memory in proportion to its rows would allow: not all of it is in proportion


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes on one device. kept: the state, whatever the batch. rows: what grows with the rows of the batch."""

    kept: int
    rows: int

    @property
    def total(self) -> int:
        """Bytes in use at the step's peak."""
        return self.kept + self.rows


def step_memory(compiled: Any, state: Any, held: int = 0) -> StepMemory:
    """Memory of a compiled step: arguments, results and temporaries, the donated state counted once.

    held: bytes of arguments that a feed keeps on the device anyway, which are left out.
    """
    analysis = compiled.memory_analysis()
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    whole = (
        analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        + analysis.temp_size_in_bytes
    )  # fmt: skip
    return StepMemory(kept, max(0, whole - kept - held))


def available_memory(device: jax.Device) -> int | None:
    """Bytes that a device can still hand out, with what is in use by the caller counted as free; None if unknown."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    meminfo = Path("/proc/meminfo")
    if device.platform != "cpu" or not meminfo.is_file():
        return None
    fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def check_memory(need: StepMemory, available: int | None, batch_size: int, multiple: int, devices_share: int) -> None:
    """Raise `UserError` with a batch size that fits when the step does not.

    multiple: batch sizes must be multiples of it.  devices_share: devices that take from the same memory (virtual
    CPU devices do).
    """
    if available is None or need.total * devices_share <= available * USABLE:
        return
    raise out_of_memory(need, available, batch_size, multiple, devices_share)


def out_of_memory(need: StepMemory, available: int, batch_size: int, multiple: int, devices_share: int) -> UserError:
    """The error that names a batch size: memory grows in proportion to the rows."""
    room = available * USABLE / devices_share - need.kept
    fits = int(room / max(need.rows, 1) * batch_size * MARGIN) // multiple * multiple
    way_out = f"use train.batch_size={fits}" if fits > 0 else "use a smaller model, or more memory"
    return UserError(
        "train.batch_size", f"{batch_size} rows need {format_bytes(need.total * devices_share)}",
        f"at most {format_bytes(available)}, which is what there is",
        f"{way_out} (the same optimisation with train.accumulate is not the same losses: they are per microbatch)"
        if fits > 0 else way_out,
    )  # fmt: skip
