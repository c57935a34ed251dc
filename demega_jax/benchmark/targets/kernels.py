"""The kernels of an optimized program: what each reads, writes and computes.

Bytes of a kernel are those of its operands and results in the device's main memory. Of an operand that a fusion only
slices or gathers from, what it takes counts; a write in place counts what is written. A custom kernel counts with the
bytes and FLOPs that its author estimates.
"""

import collections
import dataclasses
import json
import math
import re
from collections.abc import Iterator

import numpy as np

from demega_jax.benchmark.targets.hlo import Computation, Instruction, Program, Shape

# Opcodes that cost nothing: names, views, and ends of what was begun elsewhere.
FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast after-all partition-id replica-id iota opt-barrier "
    "add-dependency copy-done async-done all-reduce-done all-gather-done collective-permute-done send-done recv-done "
    "slice-done async-update domain".split()
)
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
VIEWS = ("bitcast", "reshape")
SLICES = ("slice", "dynamic-slice", "gather")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Something that the device runs. times: how often in one run of the program (bodies of loops).

    collective: whether it sends bytes to other devices.
    """

    instruction: Instruction
    computation: str
    nbytes: int
    flops: int
    times: int
    collective: bool


def kernels(program: Program) -> Iterator[Kernel]:
    """Everything that runs, in the order of the program."""
    yield from _of(program, program.entry, 1)


def _of(program: Program, name: str, times: int) -> Iterator[Kernel]:
    for each in program.computations[name].values():
        opcode = each.opcode
        if opcode in FREE:
            continue
        if opcode in ("call", "conditional"):
            for inner in each.called("to_apply", "true_computation", "false_computation"):
                yield from _of(program, inner, times)
        elif opcode == "while":
            trips = int(each.field(r'"known_trip_count":\{"n":"(\d+)"') or 1)
            for inner in each.called("body"):
                yield from _of(program, inner, times * trips)
        elif opcode == "async-start" and each.called("calls"):
            for inner in each.called("calls"):
                yield from _of(program, inner, times)
        else:
            collective = opcode.removesuffix("-start") in COLLECTIVES
            nbytes, flops = _cost(program, name, each)
            yield Kernel(each, name, nbytes, flops, times, collective)


def _cost(program: Program, name: str, each: Instruction) -> tuple[int, int]:
    """(bytes, FLOPs) of one run of a kernel."""
    if each.opcode == "custom-call" and (estimate := _estimate(each)) is not None:
        return estimate
    return _read(program, name, each) + _written(program, name, each), flops_of(program, name, each)


def _estimate(each: Instruction) -> tuple[int, int] | None:
    """What the author of a Pallas kernel says that it costs; None for other custom calls.

    For a TPU it is the kernel's cost estimate; for a GPU, its metadata.
    """
    text = each.field(r'"cost_estimate":\s*(\{[^}]*\})') or each.field(r'\\"cost_estimate\\":\s*(\{[^}]*\})')
    if text is not None:
        values = json.loads(text.replace('\\"', '"'))
        return int(values.get("bytes_accessed", 0)), int(values.get("flops", 0))
    nbytes, flops = (each.field(rf"{name}\\22: \\22(\d+)") for name in ("bytes_accessed", "flops"))
    return None if nbytes is None or flops is None else (int(nbytes), int(flops))


def _main_memory(shapes: list[Shape]) -> int:
    return sum(shape.nbytes for shape in shapes if not shape.in_fast_memory)


def _read(program: Program, name: str, each: Instruction) -> int:
    table = program.computations[name]
    operands = [table[operand] for operand in each.operands if operand in table]
    if each.opcode in SLICES:
        return _main_memory(each.shapes)
    if each.opcode == "dynamic-update-slice":
        return _main_memory(operands[1].shapes)
    if each.opcode == "slice-start":  # from main memory to vector memory; what it takes is there
        return min((shape.nbytes for shape in each.shapes if shape.in_fast_memory), default=0)
    if each.opcode == "copy-start":
        return _main_memory(operands[0].shapes)
    taken = _slices_taken(program, each) if each.opcode == "fusion" else {}
    whole = [_main_memory(operand.shapes) for operand in operands]
    # What is looked up again and again comes from a cache, as an operand that a product reads many times does.
    return sum(min(taken.get(place, nbytes), nbytes) for place, nbytes in enumerate(whole))


def _written(program: Program, name: str, each: Instruction) -> int:
    table = program.computations[name]
    if each.opcode == "slice-start":
        return 0
    if each.opcode == "copy-start":
        return _main_memory(each.shapes[:1])
    if each.opcode == "dynamic-update-slice":
        return _main_memory(table[each.operands[1]].shapes)
    if each.opcode == "fusion":
        inner = program.inner(each)
        root = next(line for line in inner.values() if line.is_root)
        if root.opcode == "dynamic-update-slice":
            return _main_memory(inner[root.operands[1]].shapes)
    if each.opcode.removesuffix("-start") in COLLECTIVES and len(each.shapes) > len(each.operands):
        return _main_memory(each.shapes[len(each.operands) :])  # its operands come first among what it gives
    library = each.opcode == "custom-call" or (each.opcode == "fusion" and _calls(inner))
    # The last array of a call of cuBLAS or cuDNN is its working memory.
    return _main_memory([shape for shape in each.shapes if not (library and shape.dtype in ("s8", "u8"))])


def _calls(computation: Computation) -> bool:
    """Whether a library is called in it."""
    return any(line.opcode == "custom-call" for line in computation.values())


def _slices_taken(program: Program, each: Instruction) -> dict[int, int]:
    """{number of an operand: bytes} of a fusion's operands of which it reads parts, or that it writes in place."""
    inner = program.inner(each)
    users = collections.defaultdict(list)
    for line in inner.values():
        for operand in line.operands:
            users[operand].append(line)

    def use_of(line: Instruction) -> list[tuple[Instruction, bool]]:
        """(line that uses this one, whether as its first operand), seen through views."""
        found = []
        for user in users[line.name]:
            found += use_of(user) if user.opcode in VIEWS else [(user, user.operands[0] == line.name)]
        return found

    taken = {}
    for line in inner.values():
        use = use_of(line) if line.opcode == "parameter" else []
        if not use or not all(first for _, first in use):
            continue
        if all(user.opcode in SLICES for user, _ in use):
            taken[int(line.inside)] = sum(_main_memory(user.shapes) for user, _ in use)
        elif all(user.opcode == "dynamic-update-slice" for user, _ in use):
            taken[int(line.inside)] = 0
    return taken


def flops_of(program: Program, name: str, each: Instruction) -> int:
    """FLOPs of products and convolutions, two for each multiplication with its addition."""
    table = program.computations[name]
    if each.opcode == "fusion":
        inner = each.called("calls")[0]
        return sum(flops_of(program, inner, line) for line in program.computations[inner].values())
    if each.opcode == "dot":
        contracted = _contracted(each, r"lhs_contracting_dims=\{([0-9,]*)\}", table[each.operands[0]].shapes[0])
        return 2 * each.shapes[0].elements * contracted
    if each.opcode == "convolution":
        left, kernel = (table[operand].shapes[0] for operand in each.operands)
        return _convolution_flops(each, left, kernel)
    if each.opcode == "custom-call":
        target = each.field(r'custom_call_target="([^"]*)"') or ""
        if "gemm" in target.lower() or "matmul" in target.lower():
            pattern = r'"lhs_contracting_dimensions":\[([^\]]*)\]'
            return 2 * each.shapes[0].elements * _contracted(each, pattern, table[each.operands[0]].shapes[0])
        if "cudnn$conv" in target:
            return _cudnn_flops(each, target, [table[operand].shapes[0] for operand in each.operands[:2]])
    return 0


def _contracted(each: Instruction, pattern: str, left: Shape) -> int:
    axes = (each.field(pattern) or "").replace('"', "").split(",")
    return math.prod(left.dims[int(axis)] for axis in axes if axis.strip())


def _convolution_flops(each: Instruction, left: Shape, kernel: Shape) -> int:
    """2 x rows x output features x input features x pairs of an output and a window place that meet an input.

    A TPU's compiler writes products of many matrices as convolutions, in most of whose windows one place alone meets
    an input.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", each.attributes)
    if labels is None:
        return 0
    of_left, of_kernel, of_out = labels.groups()
    out = each.shapes[0]
    pairs = 1
    for place, digit in enumerate(sorted(label for label in of_left if label.isdigit())):
        window = _Window.of(each, place)
        pairs *= window.pairs(left.dims[of_left.index(digit)], out.dims[of_out.index(digit)])
    features = kernel.dims[of_kernel.index("i")]
    return 2 * out.dims[of_out.index("b")] * out.dims[of_out.index("f")] * features * pairs


@dataclasses.dataclass(frozen=True)
class _Window:
    """One axis of the window of a convolution."""

    size: int
    stride: int
    before: int
    left_dilation: int
    window_dilation: int

    @classmethod
    def of(cls, each: Instruction, place: int) -> "_Window":
        text = each.field(r"window=\{([^}]*)\}") or ""

        def value(key: str, default: str) -> str:
            found = re.search(rf"\b{key}=(\S+)", text)
            return found.group(1).split("x")[place] if found else default

        before = int(value("pad", "0_0").split("_")[0])
        whole = [int(value(key, "1")) for key in ("size", "stride", "lhs_dilate", "rhs_dilate")]
        return cls(whole[0], whole[1], before, *whole[2:])

    def pairs(self, inputs: int, outputs: int) -> int:
        """Pairs of an output and a place of the window that meet one of so many inputs."""
        at = np.arange(outputs)[:, None] * self.stride + np.arange(self.size) * self.window_dilation - self.before
        meet = (at >= 0) & (at <= (inputs - 1) * self.left_dilation) & (at % self.left_dilation == 0)
        return int(np.count_nonzero(meet))


def _cudnn_flops(each: Instruction, target: str, operands: list[Shape]) -> int:
    """2 x size of the window x elements of the output (of the forward pass) x input channels of a group."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", each.attributes)
    size = math.prod(int(part) for part in (each.field(r"window=\{size=([0-9x]+)") or "1").split("x"))
    if labels is None:
        return 0
    groups = int(each.field(r"feature_group_count=(\d+)") or 1)
    result, (left, right) = each.shapes[0], operands
    feature = labels.group(1).index("f")
    if "BackwardFilter" in target:
        return 2 * size * right.elements * left.dims[feature] // groups
    if "BackwardInput" in target:
        return 2 * size * left.elements * result.dims[feature] // groups
    return 2 * size * result.elements * left.dims[feature] // groups
