"""The work of a program: its products, counted in its jaxpr, and what the compiler says of the compiled one."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import Jaxpr


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
    cost, memory = program.cost_analysis() or {}, program.memory_analysis()
    found = (cost.get("flops"), cost.get("bytes accessed"), memory.temp_size_in_bytes if memory is not None else None)
    # A backend that does not know a figure leaves it out, or says -1.
    return CompilerFigures(
        *(round(figure) * devices if figure is not None and figure >= 0 else None for figure in found)
    )


def matrix_flops(jaxpr: Any) -> int:
    """FLOPs of the products and convolutions of a jaxpr, two for each multiplication with its addition.

    The body of a scan counts as often as it runs. Of the branches of a `cond` the one with the fewest FLOPs counts;
    what differs between backends is such branches, too.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes, out = _shapes(equation)
            contracted = equation.params["dimension_numbers"][0][0]
            total += 2 * out * math.prod(shapes[0][axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            shapes, out = _shapes(equation)
            dims = equation.params["dimension_numbers"]
            kernel = shapes[1]
            total += 2 * out * math.prod(kernel) // kernel[dims.rhs_spec[0]]
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        inner = [matrix_flops(each) for each in _inner_jaxprs(equation.params)]
        total += min(inner) if equation.primitive.name == "cond" else times * sum(inner)
    return total


def _shapes(equation: Any) -> tuple[list[tuple[int, ...]], int]:
    """(shapes of the operands, elements of the result)."""
    return [variable.aval.shape for variable in equation.invars], math.prod(equation.outvars[0].aval.shape)


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's parameters: of functions that it calls."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(each, "jaxpr", each)
            if isinstance(jaxpr, Jaxpr):
                yield jaxpr
