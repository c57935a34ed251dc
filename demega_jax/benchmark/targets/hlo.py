"""Optimized HLO programs as text: their instructions, and where in the source each comes from.

The text is that of `jax.stages.Compiled.as_text()`: tables of the source at its head, then one block for each
computation. A line of a block is `name = shape opcode(operands), attributes`.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

BITS = {
    "pred": 8,
    "s4": 4,
    "u4": 4,
    "s8": 8,
    "u8": 8,
    "s16": 16,
    "u16": 16,
    "f16": 16,
    "bf16": 16,
    "s32": 32,
    "u32": 32,
    "f32": 32,
    "s64": 64,
    "u64": 64,
    "f64": 64,
    "c64": 64,
    "c128": 128,
    "f8e4m3fn": 8,
    "f8e5m2": 8,
}
ARRAY = re.compile(r"([a-z]+[0-9]*[a-z0-9]*)\[([0-9,]*)\](\{[^}]*\})?")
BLOCK = re.compile(r"^(ENTRY )?%?([\w.\-]+)\s*(\(.*\)\s*->.*)?\{\s*$")
LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
FAST_MEMORY = "S(1)"  # in a layout: the array lies in a TPU's vector memory, not in HBM


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array of a shape. layout: as it is written, with braces, or empty."""

    dtype: str
    dims: tuple[int, ...]
    layout: str

    @property
    def in_fast_memory(self) -> bool:
        """Whether it never lies in the device's main memory."""
        return FAST_MEMORY in self.layout

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes in memory, with the padding of a TPU's tiles."""
        return math.ceil(math.prod(self._padded()) * BITS[self.dtype] / 8)

    def _padded(self) -> tuple[int, ...]:
        tile = re.search(r":.*?T\(([0-9,]+)\)", self.layout)
        order = re.match(r"\{([0-9,]+)", self.layout)
        if not tile or not order or not self.dims:
            return self.dims
        sizes = [self.dims[int(axis)] for axis in reversed(order.group(1).split(","))]
        tiles = [int(size) for size in tile.group(1).split(",")]
        if len(tiles) > len(sizes):
            return tuple(sizes)
        for back, size in enumerate(reversed(tiles), start=1):
            sizes[-back] = -(-sizes[-back] // size) * size
        return tuple(sizes)


def shapes_of(text: str) -> list[Shape]:
    """The arrays of a shape, which can be a tuple."""
    return [
        Shape(dtype, tuple(int(size) for size in dims.split(",") if size), layout)
        for dtype, dims, layout in ARRAY.findall(text)
        if dtype in BITS
    ]


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation. attributes: the text after the operands.  inside: the text between the parentheses."""

    name: str
    shape_text: str
    opcode: str
    inside: str
    attributes: str
    is_root: bool

    @functools.cached_property
    def shapes(self) -> list[Shape]:
        """The arrays of the result."""
        return shapes_of(self.shape_text)

    @functools.cached_property
    def operands(self) -> list[str]:
        """Names of the operands."""
        return [] if self.opcode == "constant" else re.findall(r"%([\w.\-]+)", self.inside)

    def called(self, *keys: str) -> list[str]:
        """Names of the computations that the attributes `keys` name."""
        return [name for key in keys for name in re.findall(rf"\b{key}=%?([\w.\-]+)", self.attributes)]

    def field(self, pattern: str) -> str | None:
        """The first group of a pattern in the attributes."""
        found = re.search(pattern, self.attributes)
        return found.group(1) if found else None


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Frame:
    """A place in the source. place: file:line.  parent: number of the calling frame; None at the outermost."""

    function: str
    place: str
    parent: int | None


@dataclasses.dataclass(frozen=True)
class Program:
    """A whole program. frames: of the source by number, as `stack_frame_id` in the attributes names them."""

    computations: Mapping[str, Computation]
    entry: str
    frames: Mapping[int, Frame]

    def inner(self, instruction: Instruction) -> Computation:
        """The computation of a fusion."""
        return self.computations[instruction.called("calls")[0]]

    def stack(self, instruction: Instruction) -> Iterator[Frame]:
        """The frames of an instruction, innermost first."""
        number = instruction.field(r"stack_frame_id=(\d+)")
        frame = self.frames.get(int(number)) if number else None
        while frame is not None:
            yield frame
            frame = None if frame.parent is None else self.frames.get(frame.parent)


def parse(text: str) -> Program:
    """The program of a text. ValueError: it has no entry computation."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = None, None
    for line in text.splitlines():
        if current is None:
            found = BLOCK.match(line)
            if found and not line.startswith("HloModule"):
                current = found.group(2)
                computations[current] = {}
                entry = current if found.group(1) else entry
        elif line.startswith("}"):
            current = None
        elif found := LINE.match(line):
            name = found.group(2)
            computations[current][name] = _instruction(name, line[found.end() :], bool(found.group(1)))
    if entry is None:
        raise ValueError("no entry computation in the text of the program")
    return Program(computations, entry, _frames(text))


def _instruction(name: str, rest: str, is_root: bool) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    paren = rest.index("(")
    last = _closing(rest, paren)
    return Instruction(name, shape, rest[:paren], rest[paren + 1 : last], rest[last + 1 :], is_root)


def _closing(text: str, start: int) -> int:
    """The place of the bracket that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "({[":
            depth += 1
        elif text[place] in ")}]":
            depth -= 1
            if depth == 0:
                return place
    raise ValueError(f"brackets do not match: {text[:80]}")


def _frames(text: str) -> dict[int, Frame]:
    """The frames of the tables at the head of a program. XLA numbers parents from 1 and means the frame before."""

    def table(name: str, pattern: str) -> dict[int, tuple[str, ...]]:
        block = re.search(rf"^{name}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
        lines = re.findall(pattern, block.group(1)) if block else []
        return {int(number): tuple(rest) for number, *rest in lines}

    files = table("FileNames", r'(\d+) "(.*)"')
    functions = table("FunctionNames", r'(\d+) "(.*)"')
    places = table("FileLocations", r"(\d+) \{file_name_id=(\d+) function_name_id=(\d+) line=(\d+)")
    frames = {}
    for number, (place, parent) in table(
        "StackFrames", r"(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?"
    ).items():
        file, function, line = places[int(place)]
        above = int(parent) - 1 if parent else 0
        frames[number] = Frame(
            functions[int(function)][0], f"{files[int(file)][0].rsplit('/', 1)[-1]}:{line}", above or None
        )
    return frames
