"""The machine by name, as results and pictures state it."""

import os
import platform
import re
from pathlib import Path

import jax


def processor() -> str:
    """The name of the processor, as Linux gives it, or else as Python does."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return model[1].strip() if model else platform.processor() or platform.machine()


def machine_name() -> str:
    """What computes here: such as `AMD EPYC, 2 cores` or `4 x NVIDIA H100`."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"{processor()}, {os.cpu_count()} cores"
    return f"{jax.device_count()} x {device.device_kind}"
