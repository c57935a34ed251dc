"""What a program would cost on a target, by a model of each kernel.

A kernel takes max(bytes / usable bandwidth, FLOPs / usable FLOP/s, the time to start a kernel), and kernels follow each
other. A collective takes at least its bytes / the bandwidth of the links. The model knows no cache hits, no autotuning
and no overlap; its times are not measured ones.
"""

import dataclasses
from typing import Any

import jax

from demega_jax.benchmark.targets.devices import Target
from demega_jax.benchmark.targets.hlo import parse
from demega_jax.benchmark.targets.kernels import kernels
from demega_jax.benchmark.targets.parts import kind_of, part_of

LIMITS = (
    "Modelled, not measured: each kernel takes the longest of its memory traffic, its products and its start; without "
    "cache hits, autotuning and overlap."
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A kernel with its modelled time. seconds: of one run.  place: file:line in the source."""

    name: str
    part: str
    kind: str
    place: str
    shape: str
    nbytes: int
    flops: int
    times: int
    seconds: float
    collective: bool

    @property
    def total_seconds(self) -> float:
        """Seconds of all its runs in one run of the program."""
        return self.seconds * self.times


@dataclasses.dataclass(frozen=True)
class Modelled:
    """A program on a target. temporary_bytes: of one device, beside arguments and results.  memory: all of them."""

    target: Target
    devices: int
    lines: tuple[Line, ...]
    temporary_bytes: int
    memory: int
    compile_seconds: float

    @property
    def kernels(self) -> int:
        """Kernels of one run."""
        return sum(line.times for line in self.lines)

    @property
    def nbytes(self) -> int:
        """Bytes to and from main memory of one device."""
        return sum(line.nbytes * line.times for line in self.lines)

    @property
    def flops(self) -> int:
        """FLOPs of products on one device."""
        return sum(line.flops * line.times for line in self.lines)

    @property
    def seconds(self) -> float:
        """Modelled seconds of one run."""
        return sum(line.total_seconds for line in self.lines)

    @property
    def floor_seconds(self) -> float:
        """What the products alone would take."""
        return self.flops / self.target.usable_flops

    @property
    def collectives(self) -> tuple[int, int]:
        """(number, bytes) of what goes to other devices."""
        found = [line for line in self.lines if line.collective]
        return sum(line.times for line in found), sum(line.nbytes * line.times for line in found)

    def parts(self) -> dict[str, dict[str, float]]:
        """Kernels, bytes, FLOPs and milliseconds of each part of the model, the longest first."""
        found: dict[str, dict[str, float]] = {}
        for line in self.lines:
            part = found.setdefault(line.part, {"kernels": 0, "bytes": 0, "flops": 0, "ms": 0.0})
            part["kernels"] += line.times
            part["bytes"] += line.nbytes * line.times
            part["flops"] += line.flops * line.times
            part["ms"] += line.total_seconds * 1e3
        return dict(sorted(found.items(), key=lambda item: -item[1]["ms"]))

    def longest(self, most: int) -> list[Line]:
        """The kernels that take most time; those of the same place, kind and size count as one that runs often."""
        alike: dict[tuple[object, ...], Line] = {}
        for line in self.lines:
            key = (line.part, line.kind, line.place, line.shape, line.nbytes, line.flops)
            before = alike.get(key)
            alike[key] = line if before is None else dataclasses.replace(before, times=before.times + line.times)
        return sorted(alike.values(), key=lambda line: -line.total_seconds)[:most]

    def of_one(self, steps: int) -> dict[str, Any]:
        """The figures of one of so many steps of the program, in plain Python types."""
        number, sent = self.collectives
        parts = {name: {key: value / steps for key, value in part.items()} for name, part in self.parts().items()}
        return {
            "target": self.target.name,
            "devices": self.devices,
            "kernels": self.kernels / steps,
            "bytes": self.nbytes / steps,
            "flops": self.flops / steps,
            "modelled_step_ms": self.seconds * 1e3 / steps,
            "floor_ms": self.floor_seconds * 1e3 / steps,
            "temporary_bytes": self.temporary_bytes,
            "collectives": number / steps,
            "collective_bytes": sent / steps,
            "compile_seconds": self.compile_seconds,
            "parts": parts,
        }


def modelled(text: str, target: Target, devices: int, memory: tuple[int, int], compile_seconds: float) -> Modelled:
    """The model of the text of a compiled program. memory: (temporary bytes, all bytes) of one device."""
    program = parse(text)
    lines = []
    for kernel in kernels(program):
        each = kernel.instruction
        part, place = part_of(program, each)
        seconds = max(
            kernel.nbytes / target.usable_bandwidth,
            kernel.flops / target.usable_flops,
            target.launch_seconds,
            kernel.nbytes / target.link if kernel.collective else 0.0,
        )
        shape = ", ".join(f"{one.dtype}[{','.join(map(str, one.dims))}]" for one in each.shapes)
        lines.append(
            Line(
                each.name,
                part,
                kind_of(program, each),
                place,
                shape,
                kernel.nbytes,
                kernel.flops,
                kernel.times,
                seconds,
                kernel.collective,
            )
        )
    return Modelled(target, devices, tuple(lines), *memory, compile_seconds)


def memory_of(compiled: jax.stages.Compiled) -> tuple[int, int]:
    """(temporary bytes, all bytes) of a compiled program on one device. Donated arguments count once."""
    found: Any = compiled.memory_analysis()
    arrays = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return found.temp_size_in_bytes, arrays + found.temp_size_in_bytes
