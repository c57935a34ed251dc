"""How far the losses of `doctor`'s self-test are off where products are rounded as GPUs and TPUs round them.

The same five steps run on this CPU, with the operands of every matrix product and convolution rounded before it:

- tf32: to 11 significant bits, as NVIDIA's tensor cores take float32 unless the precision is `highest`;
- bfloat16 x N: as the sum of N products of bfloat16 parts, as a TPU makes float32 products: 1 with precision `default`,
  3 with `high`, 6 with `highest` (each operand is cut into 3 parts; the products of the smallest parts are left out);
- float32 elementwise: every exponential, logarithm, root and tanh is off by up to 2^-21 of itself, as their
  approximations on an accelerator may be.

The self-test asks for the precision `highest`, so a sound GPU is as exact as float32, and a sound TPU as bfloat16 x 6;
one that takes fewer bits must not pass. The tolerances of `demega_jax/benchmark/doctor/self_test.py` lie between the
two.

    python benchmarks/self_test_rounding.py [--json benchmarks/results/self_test_rounding.json]
"""

import argparse
import datetime
import functools
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax._src.interpreters import mlir  # jax has no public way to the rules that it lowers by
from jax.extend.core import Primitive
from jax.extend.core.primitives import (
    conv_general_dilated_p,
    dot_general_p,
    exp_p,
    log_p,
    logistic_p,
    rsqrt_p,
    tanh_p,
)

from demega_jax.benchmark.doctor import self_test
from demega_jax.files import write_results

INNER = (jax.lax.Precision.DEFAULT, jax.lax.Precision.DEFAULT)  # marks products that are made of rounded operands
PASSES = {1: ((0, 0),), 3: ((0, 0), (0, 1), (1, 0)), 6: ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))}
APPROXIMATE = 2.0**-21
PRODUCTS = (dot_general_p, conv_general_dilated_p)
FUNCTIONS = (exp_p, log_p, rsqrt_p, tanh_p, logistic_p)
Rule = Callable[..., Any]  # of jax's, from a context and values of its compiler to values


def rounded(x: jax.Array, bits: int) -> jax.Array:
    """float32 to so many significant bits, to the nearest, ties to the even one."""
    drop = 24 - bits
    whole = jax.lax.bitcast_convert_type(x, jnp.uint32)
    half = jnp.uint32((1 << (drop - 1)) - 1) + ((whole >> drop) & 1)
    return jax.lax.bitcast_convert_type((whole + half) & jnp.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF), jnp.float32)


def parts(x: jax.Array, count: int) -> list[jax.Array]:
    """A float32 array as a sum of parts of 8 significant bits each."""
    found = []
    for _ in range(count):
        found.append(rounded(x, 8))
        x = x - found[-1]
    return found


def tf32(product: Callable[..., jax.Array], a: jax.Array, b: jax.Array) -> jax.Array:
    """A product as tensor cores make it of float32."""
    return product(rounded(a, 11), rounded(b, 11))


def bfloat16(passes: int, product: Callable[..., jax.Array], a: jax.Array, b: jax.Array) -> jax.Array:
    """A product as a TPU makes it of float32."""
    count = 1 + max(max(pair) for pair in PASSES[passes])
    of_a, of_b = parts(a, count), parts(b, count)
    smallest_first = reversed(PASSES[passes])
    return functools.reduce(jnp.add, [product(of_a[i], of_b[j]) for i, j in smallest_first])


def float32(product: Callable[..., jax.Array], a: jax.Array, b: jax.Array) -> jax.Array:
    """A product as it is."""
    return product(a, b)


def original_of(primitive: Primitive) -> Rule:
    """The rule by which jax lowers a primitive for a CPU."""
    return (mlir._platform_specific_lowerings["cpu"].get(primitive) or mlir._lowerings[primitive]).rule


ORIGINAL = {primitive: original_of(primitive) for primitive in PRODUCTS + FUNCTIONS}


def product_rule(primitive: Primitive, original: Rule, how: Callable[..., jax.Array]) -> Rule:
    """The rule that makes products of float32 by `how`."""

    def rule(context, a, b, **settings):  # type: ignore[no-untyped-def]
        if settings["precision"] == INNER or context.avals_in[0].dtype != jnp.float32:
            return original(context, a, b, **settings)
        inner = functools.partial(primitive.bind, **settings | {"precision": INNER})
        return mlir.lower_fun(functools.partial(how, inner), multiple_results=False)(context, a, b)

    return rule


def function_rule(original: Rule, error: float) -> Rule:
    """The rule that makes an elementwise function of float32 with this relative error."""

    def rule(context, x, **settings):  # type: ignore[no-untyped-def]
        (exact,) = original(context, x, **settings)
        if context.avals_out[0].dtype != jnp.float32:
            return [exact]
        off = mlir.lower_fun(lambda y: y * jnp.float32(1 + error), multiple_results=False)
        return off(context.replace(avals_in=context.avals_out, tokens_out=None), exact)

    return rule


def difference_of(product: Callable[..., jax.Array], error: float = 0.0) -> float:
    """How far the losses of the self-test are off with such products, and functions with such an error."""
    rules = {primitive: product_rule(primitive, ORIGINAL[primitive], product) for primitive in PRODUCTS}
    if error:
        rules |= {
            primitive: function_rule(ORIGINAL[primitive], error * (-1) ** number)
            for number, primitive in enumerate(FUNCTIONS)
        }
    for primitive in ORIGINAL:
        mlir.register_lowering(primitive, rules.get(primitive, ORIGINAL[primitive]), platform="cpu")
    jax.clear_caches()
    return self_test.run(jax.devices()[:1]).difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cases: dict[str, tuple[Callable[..., jax.Array], float]] = {
        "float32": (float32, 0.0),
        "float32, functions off by 2^-21": (float32, APPROXIMATE),
        "tf32": (tf32, 0.0),
    }
    cases |= {f"bfloat16 x {count}": (functools.partial(bfloat16, count), 0.0) for count in PASSES}
    cases["bfloat16 x 6, functions off by 2^-21"] = (functools.partial(bfloat16, 6), APPROXIMATE)
    found = {}
    for name, (product, error) in cases.items():
        found[name] = difference_of(product, error)
        print(f"{name:<40} {found[name]:.1e}", flush=True)
    if arguments.json is not None:
        about = {"format": 1, "date": datetime.date.today().isoformat(), "jax": version("jax")}
        about |= {"hardware": f"{platform.machine()}, {platform.system()}", "command": "python " + " ".join(sys.argv)}
        write_results(arguments.json, about | {"largest_relative_difference": found})


if __name__ == "__main__":
    main()
