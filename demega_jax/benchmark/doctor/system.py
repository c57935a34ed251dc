"""Cores, memory, limits and graphics cards as the system tells of them. jax is not asked here."""

import dataclasses
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from demega_jax.benchmark.doctor.finding import Finding
from demega_jax.files import format_bytes

NEEDED = 2**30  # bytes: the self-test takes a third of it (365 MiB on x86-64, jax 0.12.0, 2026-11-26)
NVIDIA, GOOGLE = "0x10de", "0x1ae0"  # PCI vendors
# PCI devices of Google that are TPUs, as jax knows them (jax/_src/hardware_utils.py); others are network cards.
TPUS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076", "0x007c", "0x0083")


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the system tells of itself; tests put other folders there."""

    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    pci: Path = Path("/sys/bus/pci/devices")
    dev: Path = Path("/dev")


def check_cores(places: Places) -> Iterator[Finding]:
    """The cores that this process may use, and the threads that jax computes with on a CPU."""
    there, allowed = os.cpu_count() or 1, _allowed_cores()
    quota = _quota(places)
    threads = os.environ.get("NPROC") or str(allowed)
    line = f"{allowed} cores, {threads} threads compute on a CPU"
    if quota is not None and quota < allowed:
        share = f"{quota:g} of them at a time, as the control group of this process allows no more"
        way_out = f"Ask the container or the scheduler for more, or set NPROC={max(1, round(quota))}, as many threads."
        yield Finding("cores", "warning", f"{line}; {share}", way_out)
    elif allowed < there:
        way_out = "Ask the scheduler for more cores (with SLURM --cpus-per-task), if training on a CPU is slow."
        yield Finding("cores", "note", f"{line}; the machine has {there}", way_out)
    else:
        yield Finding("cores", "ok", line)


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _quota(places: Places) -> float | None:
    """How many cores' time the control group of this process may use; None: as many as there are."""
    pairs = [_read(group / "cpu.max").split() for group in _groups(places, "")]
    pairs += [
        [_read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip()]
        for group in _groups(places, "cpu")
    ]
    found = [int(pair[0]) / int(pair[1]) for pair in pairs if len(pair) == 2 and all(map(str.isdecimal, pair))]
    return min(found, default=None)


def _groups(places: Places, controller: str) -> list[Path]:
    """The folders of the control group of this process, and of those that hold it.

    controller: such as memory, which has a tree of its own in version 1; empty: that of version 2.
    """
    own = re.search(rf"^\d+:{controller}:/(.*)$", _read(places.proc / "self" / "cgroup"), re.MULTILINE)
    here = places.cgroup / controller / (own[1] if own else "")
    return [folder for folder in (here, *here.parents) if folder.is_relative_to(places.cgroup / controller)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def check_memory(places: Places) -> Iterator[Finding]:
    """The memory that is free, and what this process may use of it."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read(places.proc / "meminfo"), re.MULTILINE))
    if not {"MemTotal", "MemAvailable"} <= fields.keys():
        yield Finding("memory", "note", "the system does not tell how much there is")
        return
    total, free = (int(fields[name]) * 1024 for name in ("MemTotal", "MemAvailable"))
    line, limit = f"{format_bytes(free)} free of {format_bytes(total)}", _memory_limit(places)
    if limit is not None and limit[0] < total:
        most, used = limit
        free = min(free, most - used)
        line = f"{format_bytes(max(0, free))} free of the {format_bytes(most)} that this process may use"
        line += f"; the machine has {format_bytes(total)}"
    if free < NEEDED:
        way_out = "End other programs, or ask the container or the scheduler for more memory."
        yield Finding("memory", "warning", line, way_out)
    elif limit is not None and limit[0] < total:
        way_out = "Remember that a process which takes more is ended by the system without a word."
        yield Finding("memory", "note", line, way_out)
    else:
        yield Finding("memory", "ok", line)


def _memory_limit(places: Places) -> tuple[int, int] | None:
    """(the most bytes that the control group may use, how many it uses); None: there is no limit."""
    names = [(group / "memory.max", group / "memory.current") for group in _groups(places, "")]
    names += [(group / "memory.limit_in_bytes", group / "memory.usage_in_bytes") for group in _groups(places, "memory")]
    pairs = [(_read(most).strip(), _read(used).strip() or "0") for most, used in names]
    return min(((int(most), int(used)) for most, used in pairs if most.isdecimal()), default=None)


LIMITS = {
    resource.RLIMIT_AS: ("of address space (ulimit -v)", "what needs more ends for lack of memory"),
    resource.RLIMIT_FSIZE: (
        "for a file (ulimit -f)",
        "a larger file of data or of a checkpoint ends as on a full disk",
    ),
}


def check_limits() -> Iterator[Finding]:
    """Limits of this process that training can meet."""
    for number, (what, then) in LIMITS.items():
        most, _ = resource.getrlimit(number)
        if most != resource.RLIM_INFINITY:
            yield Finding("limits", "warning", f"at most {format_bytes(most)} {what}: {then}", "Raise it with ulimit.")


def gpus(places: Places) -> bool:
    """Whether an NVIDIA GPU is in the machine, with or without its driver."""
    return any(places.dev.glob("nvidia[0-9]*")) or any(
        vendor == NVIDIA and kind.startswith("0x03") for vendor, _, kind in _pci(places)
    )


def driver(places: Places) -> str | None:
    """The version of NVIDIA's driver, such as `580.65.06`; None: it is not loaded."""
    found = re.search(r"Kernel Module.*?\s(\d{3,}\.[\d.]+)", _read(places.proc / "driver" / "nvidia" / "version"))
    return found[1] if found else None


def tpus(places: Places) -> bool:
    """Whether a TPU is in the machine."""
    return any(vendor == GOOGLE and device in TPUS for vendor, device, _ in _pci(places))


def _pci(places: Places) -> Iterator[tuple[str, str, str]]:
    """(vendor, device, class) of what is on the PCI bus."""
    for folder in places.pci.glob("*"):
        vendor, device, kind = (_read(folder / name).strip() for name in ("vendor", "device", "class"))
        yield vendor, device, kind
