"""The least memory traffic of a training step: what must be written and read, however well the compiler fuses."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.extend.core import Literal

from demega_jax.benchmark.flops import inner_jaxprs

# What a program that reads its operands can do on the way, without memory of its own.
ELEMENTWISE = frozenset(
    "abs add and atan2 bitcast_convert_type broadcast_in_dim ceil clamp concatenate convert_element_type copy cos div "
    "eq erf exp exp2 expand_dims expm1 floor ge gt integer_pow iota is_finite le log log1p logistic lt max min mul ne "
    "neg not one_minus_square optimization_barrier or pad platform_index pow rem reshape rev round rsqrt select_n "
    "shift_left shift_right_arithmetic shift_right_logical sign sin slice sqrt square squeeze stack stop_gradient sub "
    "tan tanh transpose xor".split()
)
CALLS = frozenset({"jit", "pjit", "closed_call", "cond", "custom_jvp_call", "custom_vjp_call"})


@dataclasses.dataclass(frozen=True)
class Kept:
    """Arrays of one shape and type that wait for the backward pass."""

    shape: tuple[int, ...]
    dtype: str
    count: int
    nbytes: int  # of all of them


@dataclasses.dataclass(frozen=True)
class Activations:
    """What the backward pass needs of the forward pass.

    kept: the arrays of the fewest bytes from which the others follow element by element, largest first.
    residuals: bytes of all arrays that differentiation asks for.
    """

    kept: tuple[Kept, ...]
    residuals: int

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return sum(each.nbytes for each in self.kept)


def activations(loss: Callable[..., Any], params: Any, *others: Any) -> Activations:
    """What the gradient of `loss(params, *others)` in `params` needs of the forward pass; arguments may be shapes.

    Arguments are there anyway and count for nothing. An array that elementwise operations (moving and repeating
    elements among them) make of what is kept is not kept itself: a fused backward pass makes it again. Which to keep
    is a minimum cut, as in the partitioners of compilers (Chen et al., 2016; He & Yu, 2023).
    """
    jaxpr = jax.make_jaxpr(lambda *every: jax.tree.leaves(_pullback(loss, *every)))(params, *others).jaxpr
    given = {*jaxpr.invars, *jaxpr.constvars}
    needed = [v for v in dict.fromkeys(filter(_is_variable, jaxpr.outvars)) if v not in given]
    made = {out: equation for equation in jaxpr.eqns for out in equation.outvars}
    groups = collections.Counter(
        (variable.aval.shape, variable.aval.dtype.name) for variable in _smallest_cut(needed, given, made)
    )
    kept = [
        Kept(shape, dtype, count, count * math.prod(shape) * jax.numpy.dtype(dtype).itemsize)
        for (shape, dtype), count in groups.items()
    ]
    kept.sort(key=lambda each: (-each.nbytes, each.shape, each.dtype))
    return Activations(tuple(kept), sum(map(_nbytes, needed)))


def _pullback(loss: Callable[..., Any], params: Any, *others: Any) -> Any:
    """The backward pass: a tree whose leaves are what it needs."""
    return jax.vjp(lambda p: loss(p, *others), params)[1]


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, Literal)


def _nbytes(variable: Any) -> int:
    return math.prod(variable.aval.shape) * variable.aval.dtype.itemsize


def _elementwise(equation: Any) -> bool:
    name = equation.primitive.name
    if name in CALLS:
        return all(_elementwise(each) for inner in inner_jaxprs(equation.params) for each in inner.eqns)
    return name in ELEMENTWISE


def _smallest_cut(needed: Iterable[Any], given: set[Any], made: dict[Any, Any]) -> list[Any]:
    """Variables of the fewest bytes from which the needed ones follow.

    A flow from what is computed by more than elementwise operations to what is needed: through a variable goes at most
    its size, and on to what is made of it as much as may be. Saturated variables that the flow still reaches are kept.
    """
    source, sink = "source", "sink"
    room: dict[Any, dict[Any, float]] = collections.defaultdict(dict)

    def edge(start: Any, end: Any, most: float) -> None:
        room[start][end] = most
        room[end].setdefault(start, 0)

    pending, seen = list(needed), set(needed)
    for variable in pending:
        edge((variable, "out"), sink, math.inf)
    while pending:
        variable = pending.pop()
        edge((variable, "in"), (variable, "out"), _nbytes(variable))
        equation = made[variable]
        if not _elementwise(equation):
            edge(source, (variable, "in"), math.inf)
            continue
        for operand in filter(_is_variable, equation.invars):
            if operand in given:
                continue
            edge((operand, "out"), (variable, "in"), math.inf)
            if operand not in seen:
                seen.add(operand)
                pending.append(operand)
    while path := _path(room, source, sink):
        pairs = list(zip(path, path[1:], strict=False))
        flow = min(room[start][end] for start, end in pairs)
        for start, end in pairs:
            room[start][end] -= flow
            room[end][start] += flow
    reached = _reached(room, source)
    return [variable for variable in seen if (variable, "in") in reached and (variable, "out") not in reached]


def _reached(room: dict[Any, dict[Any, float]], source: Any, sink: Any = None) -> dict[Any, Any]:
    """Every node that more flow can reach, and the node before it; until the sink is found."""
    before, queue = {source: None}, collections.deque([source])
    while queue:
        node = queue.popleft()
        for following, left in room[node].items():
            if left > 0 and following not in before:
                before[following] = node
                if following == sink:
                    return before
                queue.append(following)
    return before


def _path(room: dict[Any, dict[Any, float]], source: Any, sink: Any) -> list[Any]:
    """The shortest path on which more can flow; empty where there is none."""
    before = _reached(room, source, sink)
    if sink not in before:
        return []
    path = [sink]
    while path[-1] != source:
        path.append(before[path[-1]])
    return path[::-1]
