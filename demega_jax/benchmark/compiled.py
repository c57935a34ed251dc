"""What the compiler says of a program: its arithmetic, the bytes that its operations move, its temporary memory."""

import dataclasses
from collections.abc import Mapping

import jax


@dataclasses.dataclass(frozen=True)
class CompilerFigures:
    """Figures of one run of a program, on all its devices together; None where the compiler gives none.

    flops: of all operations, elementwise ones included.
    bytes_accessed: operands and results of every operation that is left after fusion, wherever they lie; of what a
        cache holds less goes to memory.
    temporary_bytes: memory for what is neither an argument nor a result.
    The body of a loop counts once, however often it runs.
    """

    flops: int | None
    bytes_accessed: int | None
    temporary_bytes: int | None


def compiler_figures(program: jax.stages.Compiled, devices: int) -> CompilerFigures:
    """The figures of a compiled program that runs on so many devices: the compiler speaks of one of them."""
    cost, memory = _cost(program), program.memory_analysis()
    found = (cost.get("flops"), cost.get("bytes accessed"), memory.temp_size_in_bytes if memory is not None else None)
    # A backend that does not know a figure leaves it out, or says -1.
    return CompilerFigures(
        *(round(figure) * devices if figure is not None and figure >= 0 else None for figure in found)
    )


def _cost(program: jax.stages.Compiled) -> Mapping[str, float]:
    """The cost analysis; older versions of jax give a list of one, and a backend without one gives None."""
    analysis = program.cost_analysis()
    if isinstance(analysis, list):
        analysis = analysis[0] if analysis else None
    return analysis or {}
